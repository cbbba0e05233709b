//! Files that hold a secret: read only if nobody else can read or change them.
//!
//! The file is opened first and looked at through what was opened, so that
//! another one cannot be put in its place between the look and the reading.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::core::secret::Secret;

/// The most that a secret's file may hold: far more than any secret, and far
/// less than what a wrong path could pull into memory.
pub const LONGEST: u64 = 64 * 1024;

/// How closely a secret's file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Owner and permissions, as the contract says.
    Full,
    /// Neither: for what systemd put into the credentials directory, whose
    /// rights are its own affair.
    None,
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that cannot be read, is empty, longer than 64 KiB, not text, or open
/// to others; the message names the file and has the command to run.
pub fn read(path: &Path, checks: Checks) -> Result<Secret, String> {
    let file = open(path, checks)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // It may have grown since it was looked at.
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(too_long(path));
    }
    // Errors of the conversion carry the bytes: they are not shown.
    let text = String::from_utf8(bytes).map_err(|_| {
        format!(
            "{} is not text; it must hold a secret alone",
            path.display()
        )
    })?;
    let value = text.trim();
    if value.is_empty() {
        return Err(format!(
            "{} is empty; write the secret into it",
            path.display()
        ));
    }
    Ok(Secret::new(value.to_owned()))
}

/// Says what is wrong with a file that shall hold a secret: everything that
/// [`read`] would, and the secret is forgotten at once.
///
/// # Errors
/// The problem in words.
pub fn inspect(path: &Path, checks: Checks) -> Result<(), String> {
    read(path, checks).map(drop)
}

fn open(path: &Path, checks: Checks) -> Result<File, String> {
    // Opening a pipe would wait for somebody to write into it.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let facts = file
        .metadata()
        .map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    if !facts.is_file() {
        return Err(format!(
            "{} is not a regular file; name a file that holds the secret",
            path.display()
        ));
    }
    if facts.len() > LONGEST {
        return Err(too_long(path));
    }
    match checks {
        Checks::Full => guarded(path, &facts)?,
        Checks::None => {}
    }
    Ok(file)
}

fn guarded(path: &Path, facts: &Metadata) -> Result<(), String> {
    let us = rustix::process::geteuid().as_raw();
    let path = path.display();
    if facts.uid() != 0 && facts.uid() != us {
        return Err(format!(
            "{path} belongs to user {}, who could change it; run: chown {us} {path}",
            facts.uid()
        ));
    }
    let who = match (facts.mode() & 0o006, facts.mode() & 0o020) {
        (0, 0) => return Ok(()),
        (0, _) => "its group can write it",
        (_, _) => "others can read or write it",
    };
    Err(format!(
        "{path} has mode {:04o}: {who}; run: chmod 0600 {path}",
        facts.mode() & 0o7777
    ))
}

fn too_long(path: &Path) -> String {
    format!(
        "{} is longer than 64 KiB; it must hold a secret alone",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn written(folder: &tempfile::TempDir, mode: u32, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join("secret");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_guarded_file_is_read_without_white_space() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400, 0o640] {
            let path = written(&folder, mode, b"  sk-admin-file\n\n");
            assert_eq!(
                read(&path, Checks::Full).unwrap().expose(),
                "sk-admin-file",
                "{mode:o}"
            );
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, who) in [
            (0o644, "others can read or write it"),
            (0o602, "others can read or write it"),
            (0o666, "others can read or write it"),
            (0o660, "its group can write it"),
        ] {
            let path = written(&folder, mode, b"sk-admin-open");
            let shown = path.display();
            let message = format!("{shown} has mode {mode:04o}: {who}; run: chmod 0600 {shown}");
            assert_eq!(inspect(&path, Checks::Full), Err(message.clone()));
            assert_eq!(read(&path, Checks::Full).unwrap_err(), message);
            assert!(read(&path, Checks::None).is_ok());
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder, 0o600, b"sk-admin-foreign");
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(4_711), None).is_ok() {
            let shown = path.display();
            assert_eq!(
                inspect(&path, Checks::Full),
                Err(format!(
                    "{shown} belongs to user 4711, who could change it; run: chown 0 {shown}"
                ))
            );
        }
    }

    #[test]
    fn what_holds_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, wrong) in [
            (&b" \n"[..], "is empty"),
            (&b"\xff\xfe"[..], "is not text"),
            (&vec![b'a'; 65_537][..], "is longer than 64 KiB"),
        ] {
            let path = written(&folder, 0o600, bytes);
            let message = inspect(&path, Checks::Full).unwrap_err();
            assert!(message.contains(wrong), "{message}");
        }
        let message = inspect(folder.path(), Checks::Full).unwrap_err();
        assert!(message.contains("is not a regular file"), "{message}");
        let message = inspect(&folder.path().join("none"), Checks::Full).unwrap_err();
        assert!(message.contains("cannot open"), "{message}");
    }
}
