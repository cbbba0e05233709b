//! The record of the last crash beside the ledger.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::core::crash::Crash;
use crate::core::{os_error, redact, time};

/// The file, and its name while it is written.
pub const CRASH_FILE_NAMES: [&str; 2] = ["last-crash", "last-crash.new"];

/// The longest record that is read, in bytes.
const MAX_LEN: u64 = 16 * 1024;

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct CrashRecord {
    at: String,
    version: String,
    location: String,
    reason: String,
}

impl CrashRecord {
    fn of(crash: &Crash) -> Self {
        Self {
            at: time::to_text(crash.at),
            version: crash.version.clone(),
            location: crash.location.clone(),
            reason: crash.reason.clone(),
        }
    }

    /// Returns the crash; none without a time. It is sanitized once more: the secrets of
    /// this process may not have been in the memory of that one.
    fn into_crash(self) -> Option<Crash> {
        Some(Crash {
            at: self.at.parse().ok()?,
            version: redact::sanitize_name(&self.version),
            location: redact::sanitize_name(&self.location),
            reason: redact::sanitize(&self.reason),
        })
    }
}

/// The folder of the ledger that this process writes.
static FOLDER: OnceLock<OwnedFd> = OnceLock::new();

/// Sets the ledger beside which this process leaves the record of its crash.
pub fn set_folder(ledger: &Path) {
    let folder = folder_of(ledger);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(folder) = openat(CWD, folder, flags, Mode::empty()) {
        // Tests call this more than once in a process, which is no error.
        let _ = FOLDER.set(folder);
    }
}

fn folder_of(ledger: &Path) -> &Path {
    let folder = ledger.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

/// Writes the record.
pub(super) fn write(crash: &Crash) {
    if let Some(folder) = FOLDER.get() {
        // A failure cannot be reported anywhere.
        let _ = replace(folder, crash);
    }
}

fn replace(folder: &OwnedFd, crash: &Crash) -> io::Result<()> {
    let [name, new] = CRASH_FILE_NAMES;
    // One that an earlier crash did not finish.
    match unlinkat(folder, new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, new, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(&CrashRecord::of(crash))?)?;
    file.sync_data()?;
    Ok(renameat(folder, new, folder, name)?)
}

/// The record that an earlier process left.
#[derive(Debug)]
pub struct CrashFile {
    path: PathBuf,
    /// What it says.
    pub crash: Crash,
}

/// The reason why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CrashFileError {
    /// It cannot be read.
    #[error(
        "cannot read {path}, which tells of an earlier crash: {}; hint: remove {path}",
        os_error::describe(source),
        path = path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is no record of this user's.
    #[error(
        "{path} is no record of a crash of this rekeyd; hint: remove {path}",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl CrashFile {
    /// Reads the record beside a ledger; none if there is none.
    ///
    /// # Errors
    /// It cannot be read, or another user made it.
    pub fn read(ledger: &Path) -> Result<Option<Self>, CrashFileError> {
        let path = folder_of(ledger).join(CRASH_FILE_NAMES[0]);
        let content = match read_own(&path) {
            Ok(Some(content)) => content,
            Ok(None) => return Err(CrashFileError::Foreign { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CrashFileError::Unreadable { path, source }),
        };
        let record = serde_json::from_slice::<CrashRecord>(&content).ok();
        match record.and_then(CrashRecord::into_crash) {
            Some(crash) => Ok(Some(Self { path, crash })),
            None => Err(CrashFileError::Foreign { path }),
        }
    }

    /// Removes the record, which was reported.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// Reads a file of this process's user; none if it is another's, or no file of this length.
fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty());
    let file = match opened {
        Ok(file) => File::from(file),
        // A symbolic link.
        Err(Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = file.metadata()?;
    let belongs_to_user = facts.uid() == rustix::process::geteuid().as_raw();
    if !facts.is_file() || !belongs_to_user || facts.len() > MAX_LEN {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use jiff::Timestamp;

    use super::*;

    fn crash() -> Crash {
        Crash {
            at: Timestamp::UNIX_EPOCH,
            version: "1.2.3".to_owned(),
            location: "src/a.rs:1:2".to_owned(),
            reason: "it failed".to_owned(),
        }
    }

    fn open_folder(path: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn record_is_private_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "kept").unwrap();
        for name in CRASH_FILE_NAMES {
            symlink(&victim, folder.path().join(name)).unwrap();
        }
        replace(&open_folder(folder.path()), &crash()).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"kept");
        let path = folder.path().join("last-crash");
        let facts = std::fs::symlink_metadata(&path).unwrap();
        assert!(facts.is_file());
        assert_eq!(facts.permissions().mode() & 0o7777, 0o600);
        let read = CrashFile::read(&folder.path().join("ledger.db")).unwrap();
        let read = read.unwrap();
        assert_eq!(read.crash, crash());
        read.remove().unwrap();
        let again = CrashFile::read(&folder.path().join("ledger.db"));
        assert!(again.unwrap().is_none());
    }

    #[test]
    fn what_is_no_record_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, path) = (folder.path().join("x"), folder.path().join("last-crash"));
        std::fs::write(&path, "{}").unwrap();
        let error = CrashFile::read(&ledger).unwrap_err().to_string();
        assert!(error.contains("is no record of a crash"), "{error}");
        std::fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(CrashFile::read(&ledger).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(CrashFile::read(&ledger).is_err());
        assert!(path.exists());
    }
}
