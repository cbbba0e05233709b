//! One process is the writer. It says who it is in the lock file, so that a
//! second one can tell.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::ledger::error::LedgerError;
use crate::ledger::paths::{lock_path, missing_directory_error};

/// Readers hold the lock file for moments, to see whether a writer is there. A
/// writer that meets one tries again so often, a fifth of a second in all and
/// more on a busy host, before it believes that somebody means to stay.
const MAX_ATTEMPTS: u32 = 200;

/// How long a writer lets a reader finish before it tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

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
    /// [`LedgerError::Locked`] with the holder's own words, [`LedgerError::LockFile`]
    /// when the lock file cannot be used, or [`LedgerError::Open`] when its
    /// folder is missing.
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
                // What stands in the file was written by a writer that is gone.
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

    /// Who writes the ledger at `ledger` now, in its own words; none if nobody
    /// does.
    #[must_use]
    pub fn holder(ledger: &Path) -> Option<String> {
        let mut file = File::open(lock_path(ledger)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

/// Who was in the way of a process that wants to be the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockContention {
    /// Nobody: the lock is ours.
    Uncontended,
    /// Another writer.
    Writer,
    /// Readers alone, for all the time there was.
    Reader,
}

/// Takes the lock for its one writer. Only another writer keeps a shared lock
/// from being had, and so a reader is told from a writer by asking for one; it
/// is not kept, since two that begin at once would be in each other's way.
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
    // Whatever cannot be read is not worth failing for: the lock is held.
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
        let over = AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = WriterLock::holder(&ledger);
                }
            });
            let tries = (0..2_000).map(|_| WriterLock::acquire(&ledger, "writer"));
            let failed: Vec<_> = tries.filter_map(Result::err).collect();
            over.store(true, Ordering::Relaxed);
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
        let met = try_acquire(&file, || drop(reader.take())).unwrap();
        assert_eq!(met, LockContention::Uncontended);
        assert!(File::open(&path).unwrap().try_lock_shared().is_err());
    }

    #[test]
    fn another_writer_is_reported_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let _writer = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        let file = File::open(lock_path(&ledger)).unwrap();
        let met = try_acquire(&file, || panic!("a writer is not waited for")).unwrap();
        assert_eq!(met, LockContention::Writer);
        let held = WriterLock::holder(&ledger).unwrap();
        assert!(held.starts_with("rekeyd run (process "), "{held}");
    }

    #[test]
    fn a_lasting_reader_is_not_reported_as_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        // What a writer that is gone left in the file.
        drop(WriterLock::acquire(&ledger, "rekeyd run").unwrap());
        let _reader = lock_shared(&lock_path(&ledger));
        let refused = WriterLock::acquire(&ledger, "rekeyd once").unwrap_err();
        assert!(refused.to_string().contains("only reads"), "{refused}");
        assert_eq!(WriterLock::holder(&ledger), None);
    }
}
