//! The lock of the ledger's one writer.
//!
//! A writer locks the ledger's own inode, which no removal of a lock file takes from it,
//! and the lock file beside it, which earlier releases check. It records its command,
//! process id and socket in the lock file, so that a second process can report and ask it.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::io::Errno;

use crate::core::os_error;
use crate::ledger::error::LedgerError;
use crate::ledger::free_space::is_disk_full;
use crate::ledger::ledger_file::{
    REMOVE_ADVICE, cannot_open, create_if_missing, is_no_own_file, network_file_system,
    open_beside, open_or_create_beside, open_regular,
};
use crate::ledger::lock_record::{
    EndedWriter, LockRecord, UNKNOWN_HOLDER, append_end, write_holder,
};
use crate::ledger::paths::{lock_path, missing_directory_error};
use crate::platform::file_locks::may_have_open;

/// The number of attempts to take the lock while readers hold it, for a fifth of a second
/// in total. Readers hold the lock only for moments, to check for a writer.
const MAX_ATTEMPTS: u32 = 200;

/// The delay before another attempt while a reader holds the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The number of times that the ledger may be replaced while it is locked.
const MAX_REPLACEMENTS: u32 = 3;

/// The permissions by which other users may write a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The right to write one ledger. The connection to the ledger must be opened after and
/// closed before it, because closing its descriptor drops SQLite's own locks. The system
/// releases the lock when the process ends.
#[derive(Debug)]
pub struct WriterLock {
    ledger: PathBuf,
    command: String,
    /// The socket at which this process answers.
    socket: Option<PathBuf>,
    lock_file: File,
    ledger_file: File,
    /// Whether the ledger's inode is locked: not on a network file system.
    is_inode_locked: bool,
}

impl WriterLock {
    /// Takes the locks of the ledger at `ledger`, which is created if it is missing, and
    /// records `command` in the lock file.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] with the holder's record, [`LedgerError::LockFile`] if the
    /// lock file cannot be used, [`LedgerError::LocksUnsupported`], or
    /// [`LedgerError::Open`] if the ledger's folder is missing, or it is no regular file.
    pub fn acquire(ledger: &Path, command: &str) -> Result<Self, LedgerError> {
        let mut lock_file = acquire_lock_file(ledger)?;
        let (ledger_file, is_inode_locked) = acquire_inode(ledger)?;
        write_holder(&mut lock_file, command, None)
            .map_err(|error| lock_file_error(ledger, &error))?;
        Ok(Self {
            ledger: ledger.to_owned(),
            command: command.to_owned(),
            socket: None,
            lock_file,
            ledger_file,
            is_inode_locked,
        })
    }

    /// Returns the path of the ledger.
    #[must_use]
    pub fn ledger(&self) -> &Path {
        &self.ledger
    }

    /// Returns another descriptor of the ledger, which must be closed after the connection.
    ///
    /// # Errors
    /// [`LedgerError::Open`].
    pub(super) fn clone_descriptor(&self) -> Result<File, LedgerError> {
        let cloned = self.ledger_file.try_clone();
        cloned.map_err(|error| cannot_open(&self.ledger, &error))
    }

    /// Returns the device and inode of the ledger. Closes no descriptor.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn identity(&self) -> Result<(u64, u64), Error> {
        let found = self.ledger_file.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Checks that this process still holds both locks. Takes the lock file again if it
    /// was removed or replaced.
    ///
    /// # Errors
    /// [`LedgerError::Locked`]: another process took one of them.
    pub(super) fn check(&mut self) -> Result<(), LedgerError> {
        // On a descriptor that has the lock this changes nothing.
        if self.is_inode_locked
            && let Err(TryLockError::WouldBlock) = self.ledger_file.try_lock()
        {
            return Err(locked(&self.ledger, UNKNOWN_HOLDER.to_owned()));
        }
        let path = lock_path(&self.ledger);
        let is_same = match path.metadata() {
            Ok(found) => is_same_file(&found, &self.lock_file.metadata()),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if is_same {
            return Ok(());
        }
        let mut lock_file = acquire_lock_file(&self.ledger)?;
        write_holder(&mut lock_file, &self.command, self.socket.as_deref())
            .map_err(|error| lock_file_error(&self.ledger, &error))?;
        self.lock_file = lock_file;
        tracing::warn!(
            "the lock file {} was removed or replaced; created and locked it again",
            path.display()
        );
        Ok(())
    }

    /// Checks that no process is the writer of the ledger at `ledger`. The writer itself
    /// must not call it.
    ///
    /// # Errors
    /// If another process is the writer.
    pub fn check_free(ledger: &Path) -> Result<(), LedgerError> {
        match Self::holder(ledger) {
            Some(holder) => Err(locked(ledger, holder)),
            None => Ok(()),
        }
    }

    /// Returns the record of the process that holds the lock of the ledger at `ledger`;
    /// none without a writer. The writer itself must not call it: it opens and closes the
    /// ledger.
    #[must_use]
    pub fn holder(ledger: &Path) -> Option<String> {
        if let Ok(mut file) = open_beside(&lock_path(ledger))
            && is_locked(&file)
        {
            return Some(describe_holder(&mut file));
        }
        is_inode_held(ledger).then(|| format!("{UNKNOWN_HOLDER} (its lock file was removed)"))
    }

    /// Records in the lock file at which socket this process answers.
    pub(super) fn record_socket(&mut self, socket: Option<PathBuf>) {
        self.socket = socket;
        let recorded = write_holder(&mut self.lock_file, &self.command, self.socket.as_deref());
        if let Err(error) = recorded {
            tracing::debug!(%error, "cannot record the control socket in the lock file");
        }
    }

    /// Returns the socket at which the writer of the ledger at `ledger` answers, as it
    /// recorded it; none without a writer. Only the lock file of the ledger's owner or of
    /// root counts, which nobody else can write.
    #[must_use]
    pub fn recorded_socket(ledger: &Path) -> Option<PathBuf> {
        let mut file = open_beside(&lock_path(ledger)).ok()?;
        let (found, owner) = (file.metadata().ok()?, ledger.metadata().ok()?.uid());
        let is_trusted =
            [0, owner].contains(&found.uid()) && found.mode() & WRITABLE_BY_OTHERS == 0;
        if !is_trusted || !is_locked(&file) {
            return None;
        }
        LockRecord::read(&mut file).socket()
    }

    /// Records in the lock file that the writer ends: even a full disk takes these bytes, as
    /// a rule, in the block that the file has.
    pub(super) fn record_end(&mut self, at: Timestamp) {
        if let Err(error) = append_end(&mut self.lock_file, at) {
            tracing::debug!(%error, "cannot record the end of this process in the lock file");
        }
    }

    /// Returns the last writer of the ledger at `ledger`, if it ended in order and none
    /// writes now. The writer itself must not call it.
    #[must_use]
    pub fn ended_writer(ledger: &Path) -> Option<EndedWriter> {
        let mut file = open_beside(&lock_path(ledger)).ok()?;
        if is_locked(&file) {
            return None;
        }
        LockRecord::read(&mut file).ended_writer()
    }

    /// Returns whether a process holds the ledger's inode and no process its lock file: a
    /// program that is no rekeyd, or one whose lock file was removed a moment ago. The writer
    /// itself must not call it.
    #[must_use]
    pub fn has_unrecorded_holder(ledger: &Path) -> bool {
        let is_recorded = open_beside(&lock_path(ledger)).is_ok_and(|file| is_locked(&file));
        !is_recorded && is_inode_held(ledger)
    }
}

/// Describes who holds a locked lock file, by its record. That names another process where the
/// writer passed its lock on and ended, or runs in another container.
fn describe_holder(lock_file: &mut File) -> String {
    let record = LockRecord::read(lock_file);
    let found = lock_file.metadata().ok();
    let found = found.map(|found| (found.dev(), found.ino()));
    let may_hold = |process| found.is_none_or(|file| may_have_open(process, file));
    match record.process() {
        Some(process) if !may_hold(process) => format!(
            "a process that is not shown here: the lock file names {}, which has ended or runs in \
             another container",
            record.holder()
        ),
        Some(_) | None => record.holder(),
    }
}

/// Returns whether a process holds the ledger's inode, where that can be locked.
fn is_inode_held(ledger: &Path) -> bool {
    open_regular(ledger).is_ok_and(|file| network_file_system(&file).is_none() && is_locked(&file))
}

/// Opens and locks the lock file.
fn acquire_lock_file(ledger: &Path) -> Result<File, LedgerError> {
    let path = lock_path(ledger);
    let cannot = |error: Error| lock_file_error(ledger, &error);
    for _ in 0..MAX_REPLACEMENTS {
        let mut file = open_or_create_beside(&path).map_err(cannot)?;
        match try_acquire(&file, || std::thread::sleep(RETRY_INTERVAL))
            .map_err(|error| lock_error(&path, &error))?
        {
            LockContention::Uncontended => {}
            LockContention::Writer => {
                return Err(locked(ledger, describe_holder(&mut file)));
            }
            // The record in the file is that of an earlier writer.
            LockContention::Reader => {
                let holder = format!("a process that only reads {}", path.display());
                return Err(locked(ledger, holder));
            }
        }
        if is_at(&file, &path) {
            return Ok(file);
        }
    }
    Err(locked(ledger, UNKNOWN_HOLDER.to_owned()))
}

/// Opens the ledger, and locks its inode where that is possible. The descriptor can only
/// read, which is enough for a lock.
fn acquire_inode(ledger: &Path) -> Result<(File, bool), LedgerError> {
    for _ in 0..MAX_REPLACEMENTS {
        create_if_missing(ledger)?;
        let file = open_regular(ledger).map_err(|error| cannot_open(ledger, &error))?;
        if network_file_system(&file).is_some() {
            return Ok((file, false));
        }
        match try_acquire(&file, || std::thread::sleep(RETRY_INTERVAL))
            .map_err(|error| lock_error(ledger, &error))?
        {
            LockContention::Uncontended => {}
            LockContention::Writer => {
                let holder = format!("{UNKNOWN_HOLDER} (its lock file was removed)");
                return Err(locked(ledger, holder));
            }
            LockContention::Reader => {
                let holder = format!("a process that only reads {}", ledger.display());
                return Err(locked(ledger, holder));
            }
        }
        if is_at(&file, ledger) {
            return Ok((file, true));
        }
    }
    Err(locked(ledger, UNKNOWN_HOLDER.to_owned()))
}

/// Returns whether `file` is the one at `path`, which another process may have replaced
/// since it was opened.
fn is_at(file: &File, path: &Path) -> bool {
    let found = path.metadata();
    found.is_ok_and(|found| is_same_file(&found, &file.metadata()))
}

fn is_same_file(one: &std::fs::Metadata, other: &std::io::Result<std::fs::Metadata>) -> bool {
    let other = other.as_ref();
    other.is_ok_and(|other| (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn locked(ledger: &Path, holder: String) -> LedgerError {
    LedgerError::Locked {
        path: ledger.to_owned(),
        holder,
    }
}

fn lock_file_error(ledger: &Path, error: &Error) -> LedgerError {
    let folder = ledger.parent();
    if error.kind() == ErrorKind::NotFound && !folder.is_some_and(Path::exists) {
        return missing_directory_error(ledger);
    }
    unusable_lock_file(lock_path(ledger), error)
}

/// Returns the error of a lock file that cannot be created, opened or written.
pub(super) fn unusable_lock_file(path: PathBuf, error: &Error) -> LedgerError {
    let hint = if is_no_own_file(error) {
        REMOVE_ADVICE
    } else if is_disk_full(error) {
        "free some space on its disk"
    } else if error.kind() == ErrorKind::PermissionDenied {
        "run it with sudo, or let rekeyd write to its folder"
    } else {
        "let rekeyd write to its folder"
    };
    LedgerError::LockFile {
        path,
        reason: format!("{}; hint: {hint}", os_error::describe(error)),
    }
}

/// Returns the error of a lock that failed. A file system without locks has errors of its
/// own.
fn lock_error(path: &Path, error: &Error) -> LedgerError {
    let is_unsupported = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    let path = path.to_owned();
    if is_unsupported {
        let reason = os_error::describe(error);
        LedgerError::LocksUnsupported { path, reason }
    } else {
        unusable_lock_file(path, error)
    }
}

/// Returns whether a writer holds the lock of a file.
fn is_locked(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
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

    /// The next writer's record replaces that of the end.
    #[test]
    fn end_of_a_writer_is_in_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        assert_eq!(WriterLock::ended_writer(&ledger), None);
        let mut lock = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        lock.record_end(at);
        let holder = format!("rekeyd run (process {})", std::process::id());
        assert_eq!(WriterLock::holder(&ledger), Some(holder));
        assert_eq!(WriterLock::ended_writer(&ledger), None, "it still runs");
        drop(lock);
        let ended = EndedWriter {
            command: "rekeyd run".to_owned(),
            at,
        };
        assert_eq!(WriterLock::ended_writer(&ledger), Some(ended));
        // A killed one records no end.
        drop(WriterLock::acquire(&ledger, "rekeyd run").unwrap());
        assert_eq!(WriterLock::ended_writer(&ledger), None);
    }

    /// A lock file that was made again names the socket again; that of an ended writer none.
    #[test]
    fn socket_of_a_writer_is_in_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        assert_eq!(WriterLock::recorded_socket(&ledger), None);
        let mut lock = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        assert_eq!(WriterLock::recorded_socket(&ledger), None);
        for path in ["/run/rekeyd/a-long-name.sock", "/run/rekeyd/s"] {
            lock.record_socket(Some(PathBuf::from(path)));
            let recorded = WriterLock::recorded_socket(&ledger);
            assert_eq!(recorded.as_deref(), Some(Path::new(path)));
        }
        std::fs::remove_file(lock_path(&ledger)).unwrap();
        lock.check().unwrap();
        let recorded = WriterLock::recorded_socket(&ledger);
        assert_eq!(recorded.as_deref(), Some(Path::new("/run/rekeyd/s")));
        let holder = format!("rekeyd run (process {})", std::process::id());
        assert_eq!(WriterLock::holder(&ledger), Some(holder));
        drop(lock);
        assert_eq!(WriterLock::recorded_socket(&ledger), None);
    }

    #[test]
    fn lock_file_that_others_can_write_names_no_socket() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut lock = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        lock.record_socket(Some(PathBuf::from("/run/s")));
        for (mode, is_trusted) in [
            (0o600, true),
            (0o640, true),
            (0o620, false),
            (0o602, false),
            (0o666, false),
        ] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(lock_path(&ledger), permissions).unwrap();
            let recorded = WriterLock::recorded_socket(&ledger);
            assert_eq!(recorded.is_some(), is_trusted, "{mode:o}");
        }
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
            let acquire = || WriterLock::acquire(&ledger, "writer");
            // A process that another test starts has the lock, too, until it executes its
            // program.
            let after_a_start = |_| {
                std::thread::sleep(Duration::from_millis(100));
                acquire()
            };
            let attempts = (0..2_000).map(|_| acquire().or_else(after_a_start));
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

    /// The recorded number is that of another process here, or of none: the writer passed its
    /// lock on, or runs in another container.
    #[test]
    fn process_without_the_lock_file_is_not_named_as_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let writer = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let record = format!("rekeyd run (process {})\n", child.id());
        std::fs::write(lock_path(&ledger), record).unwrap();
        let expected = format!(
            "a process that is not shown here: the lock file names rekeyd run (process {}), which \
             has ended or runs in another container",
            child.id()
        );
        assert_eq!(WriterLock::holder(&ledger), Some(expected.clone()));
        let error = WriterLock::acquire(&ledger, "rekeyd once").unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
        drop(writer);
        assert_eq!(WriterLock::holder(&ledger), None);
    }

    #[test]
    fn removed_lock_file_admits_no_second_writer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut writer = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        std::fs::remove_file(lock_path(&ledger)).unwrap();
        let error = WriterLock::acquire(&ledger, "rekeyd once").unwrap_err();
        assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
        let holder = WriterLock::holder(&ledger).unwrap();
        assert!(holder.contains("lock file was removed"), "{holder}");

        writer.check().unwrap();
        let holder = WriterLock::holder(&ledger).unwrap();
        assert!(holder.starts_with("rekeyd run (process "), "{holder}");
        writer.check().unwrap();
        drop(writer);
        assert_eq!(WriterLock::holder(&ledger), None);
        WriterLock::acquire(&ledger, "rekeyd once").unwrap();
    }

    #[test]
    fn lock_file_of_another_writer_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let mut writer = WriterLock::acquire(&ledger, "rekeyd run").unwrap();
        std::fs::remove_file(lock_path(&ledger)).unwrap();
        // An earlier release locks nothing but its lock file.
        let mut former = open_or_create_beside(&lock_path(&ledger)).unwrap();
        former.try_lock().unwrap();
        write_holder(&mut former, "rekeyd run", None).unwrap();
        let error = writer.check().unwrap_err();
        assert!(error.to_string().contains("rekeyd run (process"), "{error}");
        drop(former);
        writer.check().unwrap();
    }

    #[test]
    fn missing_locks_of_a_file_system_are_named() {
        for (errno, is_unsupported) in [
            (Errno::NOLCK, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::INVAL, true),
            (Errno::IO, false),
            (Errno::INTR, false),
        ] {
            let error = lock_error(Path::new("/l.db.lock"), &errno.into());
            let text = error.to_string();
            assert_eq!(
                matches!(error, LedgerError::LocksUnsupported { .. }),
                is_unsupported,
                "{text}"
            );
            assert_eq!(
                text.contains("move the ledger to a local disk"),
                is_unsupported,
                "{text}"
            );
        }
    }
}
