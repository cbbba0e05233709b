//! The lock of the ledger's one writer. The writer records its command and process id in
//! the lock file, so that a second process can report them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::ledger::error::LedgerError;
use crate::ledger::paths::{lock_path, missing_directory_error};

/// The number of attempts to take the lock while readers hold it, for a fifth of a second
/// in total. Readers hold the lock only for moments, to check for a writer.
const MAX_ATTEMPTS: u32 = 200;

/// The delay before another attempt while a reader holds the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The right to write one ledger, for the lifetime of this value. The system releases the
/// lock when the process ends.
#[derive(Debug)]
pub struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Takes the lock of the ledger at `ledger`, and records `command` in the lock file.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] with the holder's record, [`LedgerError::LockFile`] if the
    /// lock file cannot be used, or [`LedgerError::Open`] if its folder is missing.
    pub fn acquire(ledger: &Path, command: &str) -> Result<Self, LedgerError> {
        let path = lock_path(ledger);
        let cannot = |error: std::io::Error| {
            let folder = ledger.parent();
            if error.kind() == ErrorKind::NotFound && !folder.is_some_and(Path::exists) {
                return missing_directory_error(ledger);
            }
            LedgerError::LockFile {
                path: path.clone(),
                reason: error.to_string(),
            }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(cannot)?;
        match try_acquire(&file, || std::thread::sleep(RETRY_INTERVAL)).map_err(cannot)? {
            LockContention::Uncontended => {}
            LockContention::Writer => {
                return Err(LedgerError::Locked {
                    path: ledger.to_owned(),
                    holder: read_holder(&mut file),
                });
            }
            LockContention::Reader => {
                // The record in the file is that of an earlier writer.
                return Err(LedgerError::Locked {
                    path: ledger.to_owned(),
                    holder: format!("a process that only reads {}", path.display()),
                });
            }
        }
        file.set_len(0).map_err(cannot)?;
        file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        file.write_all(format!("{command} (process {})\n", std::process::id()).as_bytes())
            .map_err(cannot)?;
        Ok(Self { _file: file })
    }

    /// Returns the record of the process that holds the lock of the ledger at `ledger`;
    /// none without a writer.
    #[must_use]
    pub fn holder(ledger: &Path) -> Option<String> {
        let mut file = File::open(lock_path(ledger)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

/// The result of an attempt to become the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockContention {
    /// The lock was taken.
    Uncontended,
    /// Another writer holds the lock.
    Writer,
    /// Readers held the lock during every attempt.
    Reader,
}

/// Takes the exclusive lock. A shared lock shows whether a reader or a writer is in the
/// way, because only a writer excludes it. It is released at once: two processes that
/// start together would otherwise block each other.
fn try_acquire(file: &File, mut pause: impl FnMut()) -> std::io::Result<LockContention> {
    for _ in 0..MAX_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(LockContention::Uncontended),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match file.try_lock_shared() {
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(LockContention::Writer),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        pause();
    }
    Ok(LockContention::Reader)
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    // The lock is held, even if its record cannot be read.
    let _ = file.take(200).read_to_string(&mut text);
    let text = text.trim();
    if text.is_empty() {
        "another process".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn lock_shared(path: &Path) -> File {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.try_lock_shared().unwrap();
        file
    }

    #[test]
    fn holder_queries_do_not_block_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let is_done = AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let _ = WriterLock::holder(&ledger);
                }
            });
            let attempts = (0..2_000).map(|_| WriterLock::acquire(&ledger, "writer"));
            let failed: Vec<_> = attempts.filter_map(Result::err).collect();
            is_done.store(true, Ordering::Relaxed);
            failed
        });
        assert!(failed.is_empty(), "{} of 2000: {}", failed.len(), failed[0]);
    }

    #[test]
    fn writer_waits_for_a_reader_to_finish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db.lock");
        let mut reader = Some(lock_shared(&path));
        let file = File::open(&path).unwrap();
        let contention = try_acquire(&file, || drop(reader.take())).unwrap();
        assert_eq!(contention, LockContention::Uncontended);
        assert!(File::open(&path).unwrap().try_lock_shared().is_err());
    }

    #[test]
    fn another_writer_is_reported_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let _writer = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        let file = File::open(lock_path(&ledger)).unwrap();
        let contention = try_acquire(&file, || panic!("a writer is not waited for")).unwrap();
        assert_eq!(contention, LockContention::Writer);
        let holder = WriterLock::holder(&ledger).unwrap();
        assert!(holder.starts_with("rekeyd run (process "), "{holder}");
    }

    #[test]
    fn a_lasting_reader_is_not_reported_as_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        // The file keeps the record of an earlier writer.
        drop(WriterLock::acquire(&ledger, "rekeyd run").unwrap());
        let _reader = lock_shared(&lock_path(&ledger));
        let error = WriterLock::acquire(&ledger, "rekeyd once").unwrap_err();
        assert!(error.to_string().contains("only reads"), "{error}");
        assert_eq!(WriterLock::holder(&ledger), None);
    }
}
