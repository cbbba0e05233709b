//! The runtimes of programs that compile while they run, and so need memory that is both
//! written and executed.

use std::path::{Path, PathBuf};

use super::executable::part_files;

/// These runtimes, by the names of their files without a version, and the arguments of an empty
/// program.
const RUNTIMES: [(&str, &[&str]); 7] = [
    ("node", &["-e", "0"]),
    ("nodejs", &["-e", "0"]),
    ("java", &["-version"]),
    ("deno", &["eval", "0"]),
    ("bun", &["-e", "0"]),
    ("pypy", &["-c", "0"]),
    ("luajit", &["-e", ""]),
];

/// A runtime that compiles while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilingRuntime {
    /// Its file.
    pub path: PathBuf,
    /// The arguments with which it runs an empty program.
    pub empty_program: &'static [&'static str],
}

impl CompilingRuntime {
    /// Returns the runtime that runs `program`, if it is a known one: the program itself, or the
    /// interpreter in its first line. Blocks.
    #[must_use]
    pub fn of_program(program: &Path) -> Option<Self> {
        part_files(program).into_iter().find_map(|part| {
            let real = part.canonicalize().ok();
            let names = [Some(part.as_path()), real.as_deref()];
            let empty_program = names.into_iter().flatten().find_map(empty_program_of)?;
            Some(Self {
                path: part,
                empty_program,
            })
        })
    }
}

fn empty_program_of(file: &Path) -> Option<&'static [&'static str]> {
    let name = file.file_name()?.to_str()?;
    let is_version = |letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-');
    let name = name.trim_end_matches(is_version);
    let mut runtimes = RUNTIMES.iter();
    runtimes
        .find(|(known, _)| *known == name)
        .map(|(_, arguments)| *arguments)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn runtime_is_found_by_name_first_line_and_link() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let program = |name: &str, content: &str| {
            fs::write(path(name), content).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
            path(name)
        };
        let node = program("node22", "x");
        let shell = program("sh", "x");
        let script = program("put", &format!("#!{} --jitless\n", node.display()));
        let by_env = program("put-env", &format!("#!/usr/bin/env {}\n", node.display()));
        let nested = program("nested", &format!("#!{}\n", script.display()));
        let by_shell = program("by-shell", &format!("#!{}\nnode put.js\n", shell.display()));
        symlink(&node, path("js")).unwrap();
        symlink(&script, path("put-link")).unwrap();
        for (program, expected) in [
            (&node, Some(&node)),
            (&script, Some(&node)),
            (&by_env, Some(&node)),
            (&nested, Some(&node)),
            (&path("js"), Some(&path("js"))),
            (&path("put-link"), Some(&node)),
            (&by_shell, None),
            (&shell, None),
            (&path("missing"), None),
        ] {
            let found = CompilingRuntime::of_program(program).map(|runtime| runtime.path);
            assert_eq!(found.as_ref(), expected, "{}", program.display());
        }
    }

    #[test]
    fn names_of_runtimes_may_have_a_version() {
        for (name, is_known) in [
            ("node", true),
            ("nodejs", true),
            ("node-22.1", true),
            ("java", true),
            ("pypy3.10", true),
            ("luajit-2.1", true),
            ("javac", false),
            ("node_exporter", false),
            ("python3", false),
            ("perl", false),
            ("22", false),
        ] {
            let found = empty_program_of(&Path::new("/usr/bin").join(name));
            assert_eq!(found.is_some(), is_known, "{name}");
        }
    }
}
