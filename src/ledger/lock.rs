//! One process is the writer. It says who it is in the lock file, so that a
//! second one can tell.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::ledger::error::LedgerError;

/// The right to write one ledger, for as long as this value lives. The system
/// takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Becomes the writer of the ledger at `ledger`; `command` is what this
    /// process tells others of itself.
    ///
    /// # Errors
    /// [`LedgerError::Held`] with the holder's own words, or
    /// [`LedgerError::Lock`] when the lock file cannot be used.
    pub fn take(ledger: &Path, command: &str) -> Result<Self, LedgerError> {
        let path = lock_path(ledger);
        let cannot = |error: std::io::Error| LedgerError::Lock {
            path: path.clone(),
            why: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(LedgerError::Held {
                    path: ledger.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        file.set_len(0).map_err(cannot)?;
        file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        file.write_all(format!("{command} (process {})\n", std::process::id()).as_bytes())
            .map_err(cannot)?;
        Ok(Self { _file: file })
    }

    /// Who writes the ledger at `ledger` now, in its own words; none if nobody
    /// does.
    #[must_use]
    pub fn held_by(ledger: &Path) -> Option<String> {
        let mut file = File::open(lock_path(ledger)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn lock_path(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // Whatever cannot be read is not worth failing for: the lock is held.
    let _ = file.take(200).read_to_string(&mut text);
    let text = text.trim();
    if text.is_empty() {
        "another process".to_owned()
    } else {
        text.to_owned()
    }
}
