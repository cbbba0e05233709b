//! Files that hold a secret: read only if nobody else can read or change them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::secret::Secret;

/// The longest file that is taken for a secret.
const LONGEST: u64 = 64 * 1024;

/// The name of rekeyd's own admin key in `$CREDENTIALS_DIRECTORY`.
pub const ADMIN_CREDENTIAL: &str = "openai-admin-key";

/// What is asked of a file besides its being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Nobody but its owner (root or us) and readers in its group.
    Full,
    /// Nothing: systemd guards the folder it is in.
    None,
}

/// What is asked of the file at `path`: nothing of those in `credentials`,
/// which is `$CREDENTIALS_DIRECTORY`.
#[must_use]
pub fn checks_for(path: &Path, credentials: Option<&Path>) -> Checks {
    let upwards = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    match credentials {
        Some(folder) if path.starts_with(folder) && !upwards => Checks::None,
        Some(_) | None => Checks::Full,
    }
}

/// Reads a secret from a file that the configuration names, by the checks that
/// are for it in this process.
///
/// # Errors
/// As [`read`].
pub fn read_configured(path: &Path) -> Result<Secret, String> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credentials = credentials.filter(|folder| folder.is_absolute());
    read(path, checks_for(path, credentials.as_deref()))
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that is missing, cannot be read, is empty, longer than 64 KiB, not
/// text, or open to others; the message names the file and what to run.
pub fn read(path: &Path, checks: Checks) -> Result<Secret, String> {
    let file = open(path, checks)?;
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| format!("{} cannot be read as text: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!(
            "{} is empty; put the secret into it",
            path.display()
        )),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}

/// Says what is wrong with a file that shall hold a secret: everything that
/// [`read`] would, and the secret is forgotten at once.
///
/// # Errors
/// The problem in words.
pub fn inspect(path: &Path, checks: Checks) -> Result<(), String> {
    read(path, checks).map(drop)
}

/// Opens first and looks at what was opened, so that it cannot be exchanged
/// between the two.
fn open(path: &Path, checks: Checks) -> Result<File, String> {
    let cannot = |error: std::io::Error| {
        let shown = path.display();
        if error.kind() == ErrorKind::NotFound {
            let run = format!("run: chmod 0600 {shown}");
            return format!("{shown} does not exist; write the secret into it and {run}");
        }
        format!("{shown} cannot be read: {error}")
    };
    // A FIFO would hold the opening up for ever.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if !found.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    if found.len() > LONGEST {
        return Err(format!(
            "{} is longer than 64 KiB; it is no secret",
            path.display()
        ));
    }
    match checks {
        Checks::Full => guarded(path, &found)?,
        Checks::None => {}
    }
    Ok(file)
}

fn guarded(path: &Path, found: &Metadata) -> Result<(), String> {
    let shown = path.display();
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != us {
        return Err(format!(
            "{shown} belongs to user {}, neither root nor the user that rekeyd runs as; \
             run: chown {us} {shown}",
            found.uid()
        ));
    }
    // To execute what is no program opens nothing.
    let who = match (found.mode() & 0o006, found.mode() & 0o020) {
        (0, 0) => return Ok(()),
        (0, _) => "its group can write it",
        (_, _) => "others can read or write it",
    };
    let mode = found.mode() & 0o7777;
    Err(format!(
        "{shown} has mode {mode:04o}: {who}; run: chmod 0600 {shown}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_guarded_file_is_read_without_its_newline() {
        for mode in [0o600, 0o400, 0o640] {
            let file = file(" sk-admin-in-a-file \n", mode);
            assert_eq!(
                read(file.path(), Checks::Full).unwrap().expose(),
                "sk-admin-in-a-file"
            );
        }
    }

    #[test]
    fn an_open_file_is_refused_with_what_to_run() {
        for (mode, who) in [
            (0o604, "others can read or write it"),
            (0o602, "others can read or write it"),
            (0o666, "others can read or write it"),
            (0o620, "its group can write it"),
        ] {
            let file = file("sk-admin-open-file", mode);
            let shown = file.path().display();
            let problem = format!("{shown} has mode {mode:04o}: {who}; run: chmod 0600 {shown}");
            assert_eq!(
                read(file.path(), Checks::Full).unwrap_err(),
                problem.clone()
            );
            assert_eq!(inspect(file.path(), Checks::Full), Err(problem));
            assert!(read(file.path(), Checks::None).is_ok());
        }
    }

    #[test]
    fn a_missing_file_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-key");
        let shown = path.display();
        let problem =
            format!("{shown} does not exist; write the secret into it and run: chmod 0600 {shown}");
        assert_eq!(inspect(&path, Checks::None), Err(problem));
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let file = file("sk-admin-foreign", 0o600);
        // Only root can give a file away.
        if std::os::unix::fs::chown(file.path(), Some(4_711), None).is_ok() {
            let problem = inspect(file.path(), Checks::Full).unwrap_err();
            let us = rustix::process::geteuid().as_raw();
            let command = format!("run: chown {us} {}", file.path().display());
            assert!(problem.contains("belongs to user 4711"), "{problem}");
            assert!(problem.ends_with(&command), "{problem}");
        }
    }

    #[test]
    fn only_what_systemd_guards_is_not_checked() {
        let folder = Some(Path::new("/run/credentials/rekeyd.service"));
        for (path, wanted) in [
            ("/run/credentials/rekeyd.service/a", Checks::None),
            ("/run/credentials/rekeyd.service2/a", Checks::Full),
            ("/run/credentials/rekeyd.service/../a", Checks::Full),
            ("/etc/a", Checks::Full),
        ] {
            assert_eq!(checks_for(Path::new(path), folder), wanted, "{path}");
            assert_eq!(checks_for(Path::new(path), None), Checks::Full, "{path}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        assert!(
            read(file(" \n", 0o600).path(), Checks::Full)
                .unwrap_err()
                .contains("is empty")
        );
        assert!(
            read(Path::new("/dev/null"), Checks::Full)
                .unwrap_err()
                .contains("no regular file")
        );
        let long = file(&"x".repeat(70_000), 0o600);
        assert!(
            read(long.path(), Checks::Full)
                .unwrap_err()
                .contains("longer than")
        );
        let empty = file("", 0o600);
        assert!(inspect(empty.path(), Checks::Full).is_err());
    }
}
