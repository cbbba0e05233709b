//! Whether a program can be run, as far as it shows without running it: its
//! file, its interpreter or its loader.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, CWD, StatVfsMountFlags};

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

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The types of an ELF file that the kernel runs: with fixed addresses, and without.
const PROGRAM_TYPES: [u16; 2] = [2, 3];

/// The type of the entry of an ELF file that has a part of the program.
const PART_ENTRY: u64 = 1;

/// The type of the entry of an ELF file that names its loader.
const LOADER_ENTRY: u64 = 3;

/// Returns the reason why a program cannot or must not be run, as far as it shows without
/// running it. Blocks.
#[must_use]
pub fn check_executable(program: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    check_program(program, MAX_INTERPRETERS)
        .or_else(|| exchangeable_part(program, trusted_paths))
        .or_else(launcher::find_problem)
}

/// Returns how another user could exchange a program or its interpreter, which would then
/// run as rekeyd's user. Blocks.
pub(super) fn exchangeable_part(program: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    for part in parts(program) {
        // What is missing cannot be started, which says more.
        let found = path_walk::find_weaknesses(&part, &trusted_paths.and_users(&[])).ok()?;
        if let Some(weakness) = found.first() {
            return Some(format!(
                "{weakness}, so another user could exchange {}; rekeyd does not run it; hint: {}",
                sanitize(&part.display().to_string()),
                weakness.hint()
            ));
        }
    }
    None
}

/// Returns a program, its interpreter, the interpreter of that, and so on. Blocks.
pub(super) fn parts(program: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::successors(Some(program.to_owned()), |part| interpreter(part))
        .take(MAX_INTERPRETERS + 1)
}

/// Returns the interpreter of a script, or the program that env(1) runs for it.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let head = read_head(&File::open(program).ok()?)?;
    let Format::Script(line) = classify(&head) else {
        return None;
    };
    let (interpreter, argument) = split_first_line(line);
    let is_env = interpreter.file_name().is_some_and(|name| name == "env");
    if !is_env {
        return Some(interpreter);
    }
    let argument = String::from_utf8_lossy(argument);
    let words = argument.strip_prefix("-S").unwrap_or(&argument);
    let wanted = words.split_whitespace().next()?;
    let mut candidates = env_candidates(wanted).into_iter();
    candidates.find(|candidate| check_access(candidate, Role::Interpreter).is_none())
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
        vec![PathBuf::from(wanted)]
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
        Format::Script(line.split(|byte| *byte == b'\n').next().unwrap_or_default())
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

/// Checks the interpreter that the first line of a script names.
fn check_interpreter(program: &Path, line: &[u8], interpreters_left: usize) -> Option<String> {
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
    let (interpreter, argument) = split_first_line(line);
    if interpreters_left == 0 {
        return Some(format!(
            "{path} needs too many scripts in a row as interpreters"
        ));
    }
    let name = interpreter.display();
    if let Some(problem) = check_program(&interpreter, interpreters_left - 1) {
        let name = sanitize(&name.to_string());
        return Some(format!(
            "cannot use {name}, the interpreter of {path}: {problem}"
        ));
    }
    let is_env = interpreter.file_name().is_some_and(|name| name == "env");
    if is_env {
        let argument = String::from_utf8_lossy(argument);
        let problem = check_env_argument(&argument);
        return problem.map(|problem| {
            let problem = sanitize(&problem);
            format!("cannot use {name}, the interpreter of {path}: {problem}")
        });
    }
    None
}

/// Checks the argument of `#!/usr/bin/env`, as far as it can be told.
fn check_env_argument(argument: &str) -> Option<String> {
    let (is_split, words) = match argument.strip_prefix("-S") {
        Some(words) => (true, words.trim()),
        None => (false, argument),
    };
    let wanted = words.split_whitespace().next().unwrap_or_default();
    if wanted.is_empty() {
        return Some("no program after env".to_owned());
    }
    // Options and variables of env(1).
    if wanted.starts_with('-') || wanted.contains('=') {
        return None;
    }
    if !is_split && wanted != words {
        return Some(format!(
            "env looks for one program named \"{words}\"; hint: write env -S {words}"
        ));
    }
    let is_found = env_candidates(wanted)
        .iter()
        .any(|file| check_access(file, Role::Interpreter).is_none());
    (!is_found).then(|| format!("no program {wanted} in {PATH}"))
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

/// The part of an ELF header that matters here, see elf(5).
#[derive(Debug, Clone, Copy)]
struct ElfHeader {
    is_64_bit: bool,
    is_little_endian: bool,
    kind: u16,
    machine: u16,
    entries_at: u64,
    entry_size: u16,
    entry_count: u16,
}

impl ElfHeader {
    fn parse(head: &[u8]) -> Option<Self> {
        let [.., class, encoding] = *head.strip_prefix(ELF_MAGIC)?.first_chunk::<2>()?;
        let (is_64_bit, is_little_endian) = (class == 2, encoding == 1);
        let numbers = ElfNumbers {
            bytes: head,
            is_little_endian,
        };
        let (entries_at, sizes_at) = if is_64_bit {
            (numbers.number(32, 8)?, 54)
        } else {
            (numbers.number(28, 4)?, 42)
        };
        Some(Self {
            is_64_bit,
            is_little_endian,
            kind: numbers.short(16)?,
            machine: numbers.short(18)?,
            entries_at,
            entry_size: numbers.short(sizes_at)?,
            entry_count: numbers.short(sizes_at + 2)?,
        })
    }

    /// Returns the entries of the file; none if it ends before them.
    fn entries(&self, file: &File) -> Option<Vec<ElfEntry>> {
        let entries = (0..self.entry_count).map(|index| {
            let mut bytes = vec![0; usize::from(self.entry_size).min(HEAD_BYTES)];
            let offset = u64::from(index) * u64::from(self.entry_size);
            file.read_exact_at(&mut bytes, self.entries_at.checked_add(offset)?)
                .ok()?;
            let numbers = ElfNumbers {
                bytes: &bytes,
                is_little_endian: self.is_little_endian,
            };
            let (at, length) = if self.is_64_bit {
                (numbers.number(8, 8)?, numbers.number(32, 8)?)
            } else {
                (numbers.number(4, 4)?, numbers.number(16, 4)?)
            };
            let kind = numbers.number(0, 4)?;
            Some(ElfEntry { kind, at, length })
        });
        entries.collect()
    }
}

/// An entry of an ELF file: what a part of it is, and where it is in the file.
#[derive(Debug, Clone, Copy)]
struct ElfEntry {
    kind: u64,
    at: u64,
    length: u64,
}

impl ElfEntry {
    const fn end(&self) -> u64 {
        self.at.saturating_add(self.length)
    }

    /// Returns the path that it has.
    fn read_name(&self, file: &File) -> Option<PathBuf> {
        let mut name = vec![0; usize::try_from(self.length).ok()?.min(HEAD_BYTES)];
        file.read_exact_at(&mut name, self.at).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(Path::new(std::ffi::OsStr::from_bytes(name)).to_owned())
    }
}

/// The numbers of an ELF file.
struct ElfNumbers<'b> {
    bytes: &'b [u8],
    is_little_endian: bool,
}

impl ElfNumbers<'_> {
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at + length)?;
        let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.is_little_endian {
            bytes.iter().rev().fold(0, join)
        } else {
            bytes.iter().fold(0, join)
        })
    }

    fn short(&self, at: usize) -> Option<u16> {
        self.number(at, 2)
            .and_then(|number| u16::try_from(number).ok())
    }
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
            b"#!/usr/bin/env -i sh\n",
            b"#!/usr/bin/env A=b sh\n",
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
