//! Files that hold a secret: read only if nobody else can read or change them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::core::secret::Secret;

/// The longest file that is taken for a secret.
const LONGEST: u64 = 64 * 1024;

/// What is asked of a file besides its being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Nobody but its owner (root or us) and readers in its group.
    Full,
    /// Nothing: systemd guards the folder it is in.
    None,
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that cannot be read, is empty, longer than 64 KiB, not text, or open
/// to others; the message names the file and has the `chmod` to run.
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

/// Says what is wrong with a file that shall hold a secret, without reading
/// it.
///
/// # Errors
/// The problem in words.
pub fn inspect(path: &Path, checks: Checks) -> Result<(), String> {
    open(path, checks).map(|_| ())
}

/// Opens first and looks at what was opened, so that it cannot be exchanged
/// between the two.
fn open(path: &Path, checks: Checks) -> Result<File, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
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
             chown root {shown}",
            found.uid()
        ));
    }
    if found.mode() & 0o007 != 0 {
        return Err(format!("{shown} is open to others; chmod 0600 {shown}"));
    }
    if found.mode() & 0o020 != 0 {
        return Err(format!(
            "{shown} can be written by its group; chmod 0600 {shown}"
        ));
    }
    Ok(())
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
        for mode in [0o604, 0o602, 0o620, 0o666] {
            let file = file("sk-admin-open-file", mode);
            let problem = read(file.path(), Checks::Full).unwrap_err();
            let fix = format!("chmod 0600 {}", file.path().display());
            assert!(problem.ends_with(&fix), "{mode:o}: {problem}");
            assert!(read(file.path(), Checks::None).is_ok());
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
        assert!(inspect(Path::new("/nonexistent/secret"), Checks::Full).is_err());
    }
}
