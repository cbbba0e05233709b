//! Files that hold a secret: read only if nobody else can read or change them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::secret::Secret;

/// The longest file that is taken for a secret.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// The name of rekeyd's own admin key in `$CREDENTIALS_DIRECTORY`.
pub const ADMIN_CREDENTIAL_NAME: &str = "openai-admin-key";

/// What is asked of a file besides its being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionCheck {
    /// Nobody but its owner (root or us) and readers in its group.
    Enforce,
    /// Nothing: systemd guards the folder it is in.
    Skip,
}

/// What is asked of the file at `path`: nothing of those in `credentials`,
/// which is `$CREDENTIALS_DIRECTORY`.
#[must_use]
pub fn permission_check_for(path: &Path, credentials: Option<&Path>) -> PermissionCheck {
    let upwards = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    match credentials {
        Some(folder) if path.starts_with(folder) && !upwards => PermissionCheck::Skip,
        Some(_) | None => PermissionCheck::Enforce,
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
    read(path, permission_check_for(path, credentials.as_deref()))
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that is missing, cannot be read, is empty, longer than 64 KiB, not
/// text, or open to others; the message names the file and what to run.
pub fn read(path: &Path, checks: PermissionCheck) -> Result<Secret, String> {
    let file = open_checked(path, checks)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_SIZE)
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
pub fn check(path: &Path, checks: PermissionCheck) -> Result<(), String> {
    read(path, checks).map(drop)
}

/// Opens first and looks at what was opened, so that it cannot be exchanged
/// between the two.
fn open_checked(path: &Path, checks: PermissionCheck) -> Result<File, String> {
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
    if found.len() > MAX_FILE_SIZE {
        return Err(format!(
            "{} is longer than 64 KiB; it is no secret",
            path.display()
        ));
    }
    match checks {
        PermissionCheck::Enforce => check_permissions(path, &found)?,
        PermissionCheck::Skip => {}
    }
    Ok(file)
}

fn check_permissions(path: &Path, found: &Metadata) -> Result<(), String> {
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

    fn temp_secret_file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn protected_file_is_read_and_trimmed() {
        for mode in [0o600, 0o400, 0o640] {
            let file = temp_secret_file(" sk-admin-in-a-file \n", mode);
            assert_eq!(
                read(file.path(), PermissionCheck::Enforce)
                    .unwrap()
                    .expose(),
                "sk-admin-in-a-file"
            );
        }
    }

    #[test]
    fn file_open_to_others_is_rejected_with_a_fix() {
        for (mode, who) in [
            (0o604, "others can read or write it"),
            (0o602, "others can read or write it"),
            (0o666, "others can read or write it"),
            (0o620, "its group can write it"),
        ] {
            let file = temp_secret_file("sk-admin-open-file", mode);
            let shown = file.path().display();
            let problem = format!("{shown} has mode {mode:04o}: {who}; run: chmod 0600 {shown}");
            assert_eq!(
                read(file.path(), PermissionCheck::Enforce).unwrap_err(),
                problem.clone()
            );
            assert_eq!(check(file.path(), PermissionCheck::Enforce), Err(problem));
            assert!(read(file.path(), PermissionCheck::Skip).is_ok());
        }
    }

    #[test]
    fn missing_file_is_reported_with_a_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-key");
        let shown = path.display();
        let problem =
            format!("{shown} does not exist; write the secret into it and run: chmod 0600 {shown}");
        assert_eq!(check(&path, PermissionCheck::Skip), Err(problem));
    }

    #[test]
    fn file_of_another_user_is_rejected() {
        let file = temp_secret_file("sk-admin-foreign", 0o600);
        // Only root can give a file away.
        if std::os::unix::fs::chown(file.path(), Some(4_711), None).is_ok() {
            let problem = check(file.path(), PermissionCheck::Enforce).unwrap_err();
            let us = rustix::process::geteuid().as_raw();
            let command = format!("run: chown {us} {}", file.path().display());
            assert!(problem.contains("belongs to user 4711"), "{problem}");
            assert!(problem.ends_with(&command), "{problem}");
        }
    }

    #[test]
    fn only_files_in_the_credentials_directory_skip_checks() {
        let folder = Some(Path::new("/run/credentials/rekeyd.service"));
        for (path, wanted) in [
            ("/run/credentials/rekeyd.service/a", PermissionCheck::Skip),
            (
                "/run/credentials/rekeyd.service2/a",
                PermissionCheck::Enforce,
            ),
            (
                "/run/credentials/rekeyd.service/../a",
                PermissionCheck::Enforce,
            ),
            ("/etc/a", PermissionCheck::Enforce),
        ] {
            assert_eq!(
                permission_check_for(Path::new(path), folder),
                wanted,
                "{path}"
            );
            assert_eq!(
                permission_check_for(Path::new(path), None),
                PermissionCheck::Enforce,
                "{path}"
            );
        }
    }

    #[test]
    fn empty_irregular_and_oversized_files_are_rejected() {
        assert!(
            read(
                temp_secret_file(" \n", 0o600).path(),
                PermissionCheck::Enforce
            )
            .unwrap_err()
            .contains("is empty")
        );
        assert!(
            read(Path::new("/dev/null"), PermissionCheck::Enforce)
                .unwrap_err()
                .contains("no regular file")
        );
        let long = temp_secret_file(&"x".repeat(70_000), 0o600);
        assert!(
            read(long.path(), PermissionCheck::Enforce)
                .unwrap_err()
                .contains("longer than")
        );
        let empty = temp_secret_file("", 0o600);
        assert!(check(empty.path(), PermissionCheck::Enforce).is_err());
    }
}
