//! Whether a program can be run, as far as it shows without running it: its
//! file, its interpreter or its loader.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, CWD, StatVfsMountFlags};

use super::elf::{ELF_MAGIC, ElfEntry, ElfHeader, LOADER_ENTRY};
use super::env_line::{self, EnvLineError};
use super::launcher;
use super::process_group::PATH;
use crate::core::os_error;
use crate::core::redact::sanitize;
use crate::platform::path_walk::{self, TrustedPaths};

/// The part of a file that the kernel reads to find out how to run it.
const HEAD_BYTES: usize = 256;

/// The longest line behind `#!` that the kernel reads to its end: without the
/// two characters and the byte that ends it.
const MAX_LINE_BYTES: usize = HEAD_BYTES - 2;

/// How often an interpreter may be a script itself.
const MAX_INTERPRETERS: usize = 4;

/// The folder with the formats that the kernel runs through a helper.
const EXTRA_FORMATS: &str = "/proc/sys/fs/binfmt_misc";

/// The machines whose programs a machine runs besides its own, by the numbers
/// of elf(5): x86-64 those of the 386, AArch64 those of ARM.
const COMPATIBLE_MACHINES: [(u16, u16); 2] = [(62, 3), (183, 40)];

/// The types of an ELF file that the kernel runs: with fixed addresses, and without.
const PROGRAM_TYPES: [u16; 2] = [2, 3];

/// The type of the entry of an ELF file that has a part of the program.
const PART_ENTRY: u64 = 1;

/// Returns the reason why a program cannot or must not be run, as far as it shows without
/// running it. Blocks.
#[must_use]
pub fn check_executable(program: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    check_program(program, MAX_INTERPRETERS)
        .or_else(|| exchangeable_part(program, trusted_paths))
        .or_else(launcher::find_problem)
}

/// Returns how another user could exchange a program, its interpreter or its loader, which would
/// then run as rekeyd's user; or why it cannot be told what runs. Blocks.
pub(super) fn exchangeable_part(program: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    let parts = match find_parts(program) {
        Ok(parts) => parts,
        Err(problem) => return Some(problem),
    };
    let trust = trusted_paths.and_users(&[]);
    parts.iter().find_map(|part| {
        let (found, name) = match part {
            ProgramPart::File(file) => (path_walk::find_weaknesses(file, &trust), file),
            ProgramPart::SearchedFolder(folder) => {
                let walked = path_walk::walk_to_folder(folder, &trust)
                    .or_else(|_| path_walk::walk_to_file(folder, &trust));
                (walked.map(|walked| walked.weaknesses), folder)
            }
        };
        // What is missing cannot be started, which says more.
        let weaknesses = found.unwrap_or_default();
        let weakness = weaknesses.first()?;
        let name = sanitize(&name.display().to_string());
        let change = match part {
            ProgramPart::File(_) => format!("exchange {name}"),
            ProgramPart::SearchedFolder(_) => {
                format!("put a program into {name}, where env looks first")
            }
        };
        Some(format!(
            "{weakness}, so another user could {change}; rekeyd does not run it; hint: {}",
            weakness.hint()
        ))
    })
}

/// What decides what runs as a program.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ProgramPart {
    /// The program, its interpreter or its loader.
    File(PathBuf),
    /// A folder in which env(1) looks for a program before it finds it elsewhere.
    SearchedFolder(PathBuf),
}

/// Returns a program, its interpreter, the interpreter of that, and so on, with what env(1) runs
/// for them, and their loaders; none if that cannot be told. Blocks.
pub(super) fn part_files(program: &Path) -> Vec<PathBuf> {
    let parts = find_parts(program).unwrap_or_default().into_iter();
    let files = parts.filter_map(|part| match part {
        ProgramPart::File(file) => Some(file),
        ProgramPart::SearchedFolder(_) => None,
    });
    files.collect()
}

/// As [`part_files`], with the folders that env(1) searches.
///
/// # Errors
/// Why it cannot be told what runs.
fn find_parts(program: &Path) -> Result<Vec<ProgramPart>, String> {
    let mut parts = Vec::new();
    let mut next = Some(program.to_owned());
    for _ in 0..=MAX_INTERPRETERS {
        let Some(part) = next.take() else {
            return Ok(parts);
        };
        parts.push(ProgramPart::File(part.clone()));
        // One that can be run need not be readable.
        let Some((file, head)) = open_with_head(&part) else {
            return Ok(parts);
        };
        match classify(&head) {
            Format::Script(line) => {
                if let Some(problem) = line_problem(&part, line) {
                    return Err(problem);
                }
                let (interpreter, argument) = split_first_line(line);
                next = Some(match is_env(&interpreter) {
                    false => interpreter,
                    true => {
                        let (searched, found) = find_env_program(&part, &interpreter, argument)?;
                        parts.extend(loader_of(&interpreter).map(ProgramPart::File));
                        parts.push(ProgramPart::File(interpreter));
                        parts.extend(searched.into_iter().map(ProgramPart::SearchedFolder));
                        found
                    }
                });
            }
            Format::Elf => {
                parts.extend(named_loader(&file, &head).map(ProgramPart::File));
                return Ok(parts);
            }
            Format::ScriptBehindMark | Format::Empty | Format::Text | Format::Unknown => {
                return Ok(parts);
            }
        }
    }
    match next {
        None => Ok(parts),
        Some(_) => Err(too_many_interpreters(program)),
    }
}

fn open_with_head(program: &Path) -> Option<(File, Vec<u8>)> {
    let file = File::open(program).ok()?;
    let head = read_head(&file)?;
    Some((file, head))
}

/// Returns the program that env(1) runs for a script, and the folders that it searches before.
fn find_env_program(
    script: &Path,
    env: &Path,
    argument: &[u8],
) -> Result<(Vec<PathBuf>, PathBuf), String> {
    let failed = |problem: String| {
        let (name, script) = (env.display(), script.display());
        format!(
            "cannot use {}, the interpreter of {script}: {}",
            sanitize(&name.to_string()),
            sanitize(&problem)
        )
    };
    let unclear = || EnvLineError::Unclear {
        word: String::from_utf8_lossy(argument).into_owned(),
    };
    let argument = std::str::from_utf8(argument).map_err(|_| failed(unclear().to_string()))?;
    let wanted = env_line::program_of(argument).map_err(|error| failed(error.to_string()))?;
    let mut searched = Vec::new();
    for candidate in env_candidates(wanted) {
        if check_access(&candidate, Role::Interpreter).is_none() {
            return match is_env(&candidate) {
                false => Ok((searched, candidate)),
                true => Err(failed(unclear().to_string())),
            };
        }
        searched.extend(candidate.parent().map(Path::to_owned));
    }
    Err(failed(match wanted.contains('/') {
        true => format!("no program {wanted}"),
        false => format!("no program {wanted} in {PATH}"),
    }))
}

/// Whether an interpreter is env(1), also by another name. A script of that name is not.
fn is_env(interpreter: &Path) -> bool {
    let is_named_env = |path: &Path| path.file_name().is_some_and(|name| name == "env");
    let real = interpreter.canonicalize();
    let is_named = is_named_env(interpreter) || real.is_ok_and(|real| is_named_env(&real));
    is_named && open_with_head(interpreter).is_none_or(|(_, head)| classify(&head) == Format::Elf)
}

/// Returns the loader that an ELF file names.
fn loader_of(program: &Path) -> Option<PathBuf> {
    let (file, head) = open_with_head(program)?;
    matches!(classify(&head), Format::Elf).then(|| named_loader(&file, &head))?
}

fn named_loader(file: &File, head: &[u8]) -> Option<PathBuf> {
    let entries = ElfHeader::parse(head)?.entries(file)?;
    let loader = entries.iter().find(|entry| entry.kind == LOADER_ENTRY)?;
    let loader = loader.read_name(file)?;
    // The program starts in the root folder.
    Some(Path::new("/").join(loader))
}

fn too_many_interpreters(program: &Path) -> String {
    let path = program.display();
    format!("{path} needs too many scripts in a row as interpreters")
}

/// Splits the first line of a script, behind `#!`, into the interpreter and its argument.
fn split_first_line(line: &[u8]) -> (PathBuf, &[u8]) {
    let mut parts = line.trim_ascii().splitn(2, is_blank);
    let interpreter = Path::new(std::ffi::OsStr::from_bytes(
        parts.next().unwrap_or_default(),
    ));
    let argument = parts.next().unwrap_or_default().trim_ascii();
    (Path::new("/").join(interpreter), argument)
}

const fn is_blank(byte: &u8) -> bool {
    matches!(*byte, b' ' | b'\t')
}

/// Returns where env(1) looks for a program.
fn env_candidates(wanted: &str) -> Vec<PathBuf> {
    if wanted.contains('/') {
        // The program starts in the root folder.
        vec![Path::new("/").join(wanted)]
    } else {
        std::env::split_paths(PATH)
            .map(|folder| folder.join(wanted))
            .collect()
    }
}

fn check_program(program: &Path, interpreters_left: usize) -> Option<String> {
    let role = if interpreters_left == MAX_INTERPRETERS {
        Role::Program
    } else {
        Role::Interpreter
    };
    if let Some(problem) = check_access(program, role) {
        return Some(problem);
    }
    // One that can be run need not be readable.
    let file = File::open(program).ok()?;
    let head = read_head(&file)?;
    let path = program.display();
    match classify(&head) {
        Format::Script(line) => check_interpreter(program, line, interpreters_left),
        Format::Elf => check_loader(program, &file, &head),
        Format::ScriptBehindMark => Some(format!(
            "{path} has a byte order mark before its #!; hint: save it as UTF-8 without one"
        )),
        Format::Empty => Some(format!("{path} is empty; hint: install a program there")),
        Format::Text | Format::Unknown if has_extra_format(program, &head) => None,
        Format::Text => Some(format!(
            "{path} has no #! line, so the kernel cannot find its interpreter; hint: begin it \
             with a line such as #!/bin/sh"
        )),
        Format::Unknown => Some(not_a_program(program)),
    }
}

fn not_a_program(program: &Path) -> String {
    let path = program.display();
    format!("{path} is neither a script nor a program for this machine")
}

/// An incomplete download or copy, which the kernel starts nevertheless.
fn cut_short(program: &Path) -> String {
    let path = program.display();
    format!("{path} is incomplete: its end is missing; hint: install it again")
}

fn read_head(file: &File) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let limit = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Whether the configuration names a file, or the first line of a script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Program,
    Interpreter,
}

fn check_access(program: &Path, role: Role) -> Option<String> {
    let path = program.display();
    let metadata = match std::fs::metadata(program) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!(
                "{path} does not exist; hint: install it, or use another program"
            ));
        }
        Err(error) => {
            let reason = os_error::describe(&error);
            return Some(format!("cannot read {path}: {reason}"));
        }
    };
    if !metadata.is_file() {
        return Some(format!("{path} is not a regular file; hint: use a program"));
    }
    let is_noexec =
        fs::statvfs(program).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if is_noexec {
        return Some(format!(
            "{path} is on a file system mounted with noexec; hint: move it to another one"
        ));
    }
    let access = fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS);
    access.err().map(|error| {
        let reason = os_error::describe(&error.into());
        let advice = match role {
            Role::Program => format!("chmod a+x {path}"),
            // It may be any file, and rarely one of the administrator's.
            Role::Interpreter => "name another interpreter behind #!".to_owned(),
        };
        format!("cannot execute {path}: {reason}; hint: {advice}")
    })
}

/// The kinds of file that the kernel tells apart.
#[derive(Debug, PartialEq, Eq)]
enum Format<'h> {
    /// A script; with its first line behind `#!`.
    Script(&'h [u8]),
    Elf,
    ScriptBehindMark,
    Empty,
    Text,
    Unknown,
}

fn classify(head: &[u8]) -> Format<'_> {
    if head.is_empty() {
        Format::Empty
    } else if let Some(line) = head.strip_prefix(b"#!") {
        // The kernel ends it at either.
        let mut parts = line.split(|byte| matches!(*byte, b'\n' | 0));
        Format::Script(parts.next().unwrap_or_default())
    } else if head.starts_with(ELF_MAGIC) {
        Format::Elf
    } else if head.starts_with(b"\xef\xbb\xbf#!") {
        Format::ScriptBehindMark
    } else if head.contains(&0) {
        Format::Unknown
    } else {
        Format::Text
    }
}

/// Returns the problem of the first line of a script, `line` behind `#!`.
fn line_problem(program: &Path, line: &[u8]) -> Option<String> {
    let path = program.display();
    if line.contains(&b'\r') {
        return Some(format!(
            "{path} has Windows line endings, which the kernel reads as part of the interpreter's \
             name; hint: sed -i 's/\\r$//' {path}"
        ));
    }
    // Blanks at the end are no part of an argument that is cut.
    if line.len() >= MAX_LINE_BYTES && !line.last().is_some_and(is_blank) {
        return Some(format!(
            "the first line of {path} is longer than the {} bytes that the kernel reads; hint: \
             use a shorter path to the interpreter",
            MAX_LINE_BYTES + 1
        ));
    }
    if line.trim_ascii().is_empty() {
        return Some(format!("{path} names no interpreter after #!"));
    }
    None
}

/// Checks the interpreter that the first line of a script names.
fn check_interpreter(program: &Path, line: &[u8], interpreters_left: usize) -> Option<String> {
    if let Some(problem) = line_problem(program, line) {
        return Some(problem);
    }
    let path = program.display();
    let (interpreter, argument) = split_first_line(line);
    if interpreters_left == 0 {
        return Some(too_many_interpreters(program));
    }
    let name = interpreter.display();
    if let Some(problem) = check_program(&interpreter, interpreters_left - 1) {
        let name = sanitize(&name.to_string());
        return Some(format!(
            "cannot use {name}, the interpreter of {path}: {problem}"
        ));
    }
    if !is_env(&interpreter) {
        return None;
    }
    match find_env_program(program, &interpreter, argument) {
        Ok((_, found)) => check_program(&found, interpreters_left - 1).map(|problem| {
            let found = sanitize(&found.display().to_string());
            format!("cannot use {found}, which env runs for {path}: {problem}")
        }),
        Err(problem) => Some(problem),
    }
}

/// Checks the machine of an ELF file, and the loader that it names.
fn check_loader(program: &Path, file: &File, head: &[u8]) -> Option<String> {
    let path = program.display();
    let Some(header) = ElfHeader::parse(head) else {
        return Some(cut_short(program));
    };
    if !PROGRAM_TYPES.contains(&header.kind) || header.entry_count == 0 {
        return Some(not_a_program(program));
    }
    let own = File::open("/proc/self/exe").ok();
    let own = own.and_then(|own| ElfHeader::parse(&read_head(&own)?));
    if let Some(own) = own {
        let is_same =
            (header.machine, header.is_little_endian) == (own.machine, own.is_little_endian);
        let is_compatible = COMPATIBLE_MACHINES.contains(&(own.machine, header.machine));
        if !is_same && !is_compatible && !has_extra_format(program, head) {
            return Some(format!("{path} is a program for another kind of machine"));
        }
    }
    let Some(entries) = header.entries(file) else {
        return Some(cut_short(program));
    };
    let length = file.metadata().ok()?.len();
    let is_whole = |entry: &ElfEntry| entry.kind != PART_ENTRY || entry.end() <= length;
    if !entries.iter().all(is_whole) {
        return Some(cut_short(program));
    }
    let loader = entries.iter().find(|entry| entry.kind == LOADER_ENTRY)?;
    let Some(loader) = loader.read_name(file) else {
        return Some(cut_short(program));
    };
    if loader.is_file() {
        return None;
    }
    Some(format!(
        "{path} needs the loader {}, which does not exist; hint: install the libraries that it \
         was built for, or use a statically linked program",
        sanitize(&loader.display().to_string())
    ))
}

/// Whether this host runs files like this through a helper (`binfmt_misc`).
fn has_extra_format(program: &Path, head: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(EXTRA_FORMATS) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let rule = std::fs::read_to_string(entry.path()).unwrap_or_default();
        matches_extra_format(&rule, program, head)
    })
}

/// Whether `rule`, in the form of a file of `binfmt_misc`, matches a file.
fn matches_extra_format(rule: &str, program: &Path, head: &[u8]) -> bool {
    if rule.lines().next() != Some("enabled") {
        return false;
    }
    let value = |name: &str| {
        let mut lines = rule.lines();
        lines.find_map(|line| line.strip_prefix(name).map(str::trim))
    };
    if let Some(extension) = value("extension .") {
        return program.extension().is_some_and(|own| own == extension);
    }
    let bytes = |text: &str| -> Option<Vec<u8>> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    };
    let Some(magic) = value("magic ").and_then(bytes) else {
        return false;
    };
    let mask = value("mask ").and_then(bytes).unwrap_or_default();
    let offset = value("offset ").and_then(|text| text.parse().ok());
    let Some(found) = head.get(offset.unwrap_or(0)..) else {
        return false;
    };
    found.len() >= magic.len()
        && magic.iter().enumerate().all(|(index, byte)| {
            let mask = mask.get(index).copied().unwrap_or(u8::MAX);
            found[index] & mask == byte & mask
        })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns the problem of a program with this content.
    fn problem(content: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("put");
        std::fs::write(&program, content).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let problem = check_executable(&program, &TrustedPaths::default())?;
        let program = program.display().to_string();
        assert!(problem.contains(&program), "{problem}");
        Some(problem.replace(&program, "PUT"))
    }

    #[test]
    fn programs_that_can_be_run_have_no_problem() {
        for content in [
            &b"#!/bin/sh\ncat >/dev/null\n"[..],
            b"#!/bin/sh",
            b"#! /bin/sh -e\n",
            b"#!\t/bin/sh \t \n",
            b"#!/usr/bin/env sh\n",
            b"#!/usr/bin/env -S sh -e\n",
            b"#!/usr/bin/env -S -i /bin/sh\n",
            b"#!/usr/bin/env -S A=b sh\n",
            b"#!/usr/bin/env /bin/sh\n",
            // Line ends further down are the interpreter's.
            b"#!/bin/sh\necho a\r\n",
        ] {
            assert_eq!(
                problem(content),
                None,
                "{}",
                String::from_utf8_lossy(content)
            );
        }
        assert_eq!(
            check_executable(Path::new("/bin/sh"), &TrustedPaths::default()),
            None
        );
        assert_eq!(
            check_executable(&std::env::current_exe().unwrap(), &TrustedPaths::default()),
            None
        );
    }

    #[test]
    fn interpreter_that_is_missing_is_named() {
        for (content, expected) in [
            (
                &b"#!/usr/bin/python2.7\nprint 1\n"[..],
                "cannot use /usr/bin/python2.7, the interpreter of PUT: /usr/bin/python2.7 does not exist",
            ),
            (b"#!/bin/sh\r\ncat\r\n", "PUT has Windows line endings"),
            (b"#!/bin/sh -e\r\n", "PUT has Windows line endings"),
            (b"#!/usr/bin/env sh\r\n", "PUT has Windows line endings"),
            (
                b"#!/usr/bin/env no-such-program\n",
                "cannot use /usr/bin/env, the interpreter of PUT: no program no-such-program in /usr/local/sbin:",
            ),
            (
                b"#!/usr/bin/env sh -e\n",
                "env looks for one program named \"sh -e\"; hint: write env -S sh -e",
            ),
            (
                b"#!/usr/bin/env\n",
                "the interpreter of PUT: no program after env",
            ),
            (b"#!/usr/bin/env -S\n", "no program after env"),
            (b"#!/usr/bin/env /no/such\n", "no program /no/such"),
            (
                b"#!/usr/bin/env -i sh\n",
                "cannot use /usr/bin/env, the interpreter of PUT: rekeyd cannot say which program \
                 env runs after `-i sh`; hint: begin the script with that program",
            ),
            (
                b"#!/usr/bin/env -S env sh\n",
                "rekeyd cannot say which program env runs after `-S env sh`",
            ),
            (b"#!\n", "PUT names no interpreter after #!"),
            (
                b"#!/etc\n",
                "the interpreter of PUT: /etc is not a regular file",
            ),
            (
                b"#!/etc/passwd\n",
                "the interpreter of PUT: cannot execute /etc/passwd: permission denied; hint: \
                 name another interpreter behind #!",
            ),
            (
                b"#!no/such\n",
                "the interpreter of PUT: /no/such does not exist",
            ),
            (b"cat >/dev/null\n", "PUT has no #! line"),
            (b"\n#!/bin/sh\n", "PUT has no #! line"),
            (
                b"\xef\xbb\xbf#!/bin/sh\n",
                "PUT has a byte order mark before its #!",
            ),
            (b"", "PUT is empty"),
            (b"MZ\0\0", "PUT is neither a script nor a program"),
        ] {
            let found = problem(content).unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    /// The kernel starts most of them, and they end with a signal.
    #[test]
    fn program_without_its_end_is_incomplete() {
        let whole = std::fs::read("/bin/true").unwrap();
        assert_eq!(problem(&whole), None);
        for length in [4, 5, 17, 63, 64, 65, 200, 500, 4_000, whole.len() / 2] {
            let found = problem(&whole[..length]).unwrap_or_default();
            let expected = "PUT is incomplete: its end is missing; hint: install it again";
            assert_eq!(found, expected, "{length}");
        }
        // A part of a program that is to be linked, and a process that was written to disk.
        for kind in [1, 4] {
            let mut other = whole.clone();
            other[16] = kind;
            let found = problem(&other).unwrap_or_default();
            assert!(found.contains("is neither a script nor"), "{kind}: {found}");
        }
    }

    #[test]
    fn line_that_the_kernel_does_not_read_to_its_end_is_named() {
        let line = |length: usize| format!("#!{}bin/sh\nexit 0\n", "/".repeat(length - 8));
        let blanks = format!("#!/bin/sh -e{:300}\n", "");
        for content in [line(100), line(254), line(255), blanks] {
            assert_eq!(problem(content.as_bytes()), None, "{content}");
        }
        let argument = format!("#!/usr/bin/env -S sh {}\n", "x".repeat(300));
        for content in [line(256), line(300), argument] {
            let found = problem(content.as_bytes()).unwrap();
            assert!(
                found.contains("is longer than the 255 bytes that the kernel reads"),
                "{found}"
            );
        }
    }

    #[test]
    fn script_that_runs_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("loop");
        std::fs::write(&program, format!("#!{}\n", program.display())).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let problem = check_executable(&program, &TrustedPaths::default()).unwrap();
        assert!(problem.contains("too many scripts"), "{problem}");
    }

    #[test]
    fn loader_that_is_missing_is_named() {
        let mut bytes = std::fs::read("/bin/sh").unwrap();
        let sh = File::open("/bin/sh").unwrap();
        let entries = ElfHeader::parse(&bytes).and_then(|header| header.entries(&sh));
        let mut entries = entries.unwrap().into_iter();
        let Some(loader) = entries.find(|entry| entry.kind == LOADER_ENTRY) else {
            return;
        };
        let loader = loader.read_name(&sh).unwrap();
        assert!(loader.is_file());
        let name = loader.as_os_str().as_bytes();
        let at = bytes.windows(name.len()).position(|part| part == name);
        bytes[at.unwrap() + 1] = b'X';
        let found = problem(&bytes).unwrap();
        assert!(found.starts_with("PUT needs the loader /X"), "{found}");
        // Another machine, of which there is none.
        bytes[18] = 0xff;
        bytes[19] = 0xfe;
        let found = problem(&bytes).unwrap();
        assert_eq!(found, "PUT is a program for another kind of machine");
    }

    #[test]
    fn formats_with_a_helper_are_recognized() {
        let jar = Path::new("/opt/put.jar");
        for (rule, head, expected) in [
            (
                "enabled\ninterpreter /j\nflags: \nextension .jar\n",
                &b"x"[..],
                true,
            ),
            (
                "enabled\ninterpreter /j\nflags: \nextension .py\n",
                b"x",
                false,
            ),
            (
                "disabled\ninterpreter /j\nflags: \nextension .jar\n",
                b"x",
                false,
            ),
            (
                "enabled\ninterpreter /q\nflags: \noffset 0\nmagic 504b\n",
                b"PK",
                true,
            ),
            (
                "enabled\ninterpreter /q\nflags: \noffset 1\nmagic 504b\n",
                b"PK",
                false,
            ),
            (
                "enabled\ninterpreter /q\nflags: \noffset 1\nmagic 504b\nmask ff00\n",
                b"xPx",
                true,
            ),
            ("enabled\n", b"x", false),
            ("", b"x", false),
        ] {
            assert_eq!(matches_extra_format(rule, jar, head), expected, "{rule}");
        }
    }

    #[test]
    fn mount_without_execution_is_named() {
        let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else {
            return;
        };
        let mut noexec = mounts.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let options = fields.get(3)?.split(',').any(|option| option == "noexec");
            (options && fields[2] == "proc").then(|| Path::new(fields[1]).join("version"))
        });
        // Without /proc, or with one that allows programs, there is none to try.
        if let Some(file) = noexec.next() {
            let problem = check_executable(&file, &TrustedPaths::default()).unwrap();
            assert!(problem.contains("mounted with noexec"), "{problem}");
        }
    }

    #[test]
    fn program_that_another_user_could_exchange_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let write = |name: &str, content: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            path
        };
        let set_mode = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let (safe, open) = (
            write("safe/put", "#!/bin/sh\n"),
            write("open/put", "#!/bin/sh\n"),
        );
        let interpreted = write("safe/interpreted", &format!("#!{}\n", open.display()));
        let by_env = write(
            "safe/by-env",
            &format!("#!/usr/bin/env -S {} -e\n", open.display()),
        );
        let folder = root.join("open");
        set_mode(&folder, 0o777);
        let none = TrustedPaths::default();
        assert_eq!(check_executable(&safe, &none), None);
        for program in [&open, &interpreted, &by_env] {
            let problem = check_executable(program, &none).unwrap();
            let expected = format!(
                "{} is world-writable, so another user could exchange {}; rekeyd does not run it",
                folder.display(),
                open.display()
            );
            assert!(problem.starts_with(&expected), "{problem}");
            let trusted = TrustedPaths::from(vec![folder.clone()]);
            assert_eq!(check_executable(program, &trusted), None);
        }
        set_mode(&folder, 0o755);
        set_mode(&open, 0o757);
        let problem = check_executable(&interpreted, &none).unwrap();
        let hint = format!("hint: run `chmod o-w {}`", open.display());
        assert!(problem.ends_with(&hint), "{problem}");
    }
}
