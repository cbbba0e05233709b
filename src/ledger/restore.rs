//! Restores a copy of the ledger, and keeps the former ledger.

pub(super) mod operator_orders;

use std::fs::{self, File, Permissions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Connection;

use crate::core::ids::KeyName;
use crate::core::os_error;
use crate::ledger::backup::{cannot_write, copy_database};
use crate::ledger::checkpoint_note::{self, LogOrigin, free_name, log_origin};
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::identity::{self, LedgerIdentity};
use crate::ledger::kept_file::create_private;
use crate::ledger::last_run::{self, LastRun};
use crate::ledger::ledger_file::{LEDGER_FILE_MODE, cannot_open, check_regular, open_regular};
use crate::ledger::lock::WriterLock;
use crate::ledger::paths::{files_of_sqlite, sibling_path, sync_folder_of};
use crate::ledger::read_only;
use crate::ledger::reader::LedgerReader;
use crate::ledger::restore::operator_orders::{ChangedOrders, RecordedOrders};
use crate::ledger::rotation_request;
use crate::ledger::version::LedgerVersion;

/// What a restore has kept of the former ledger, by its present path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptLedger {
    /// The ledger.
    Whole(PathBuf),
    /// The log or the journal of a ledger that was gone or empty.
    LogAlone(PathBuf),
}

/// The result of a restore.
#[derive(Debug)]
pub struct RestoredLedger {
    /// What was kept of the ledger before; none if there was none.
    pub previous: Option<KeptLedger>,
    /// Whether another host wrote the copy last: the next start needs `--take-over`.
    pub is_of_other_host: bool,
    /// The keys whose requested rotations were in the copy, and are dropped.
    pub dropped_requests: Vec<KeyName>,
    /// The orders of operators that the restored ledger does not have, or has again; none
    /// if the former ledger, which had them, could not be read.
    pub changed_orders: Option<ChangedOrders>,
}

/// The backup that is restored.
#[derive(Debug)]
pub struct RestoreSource {
    /// Its path.
    pub path: PathBuf,
    /// The opened file, if this process may not be able to open it.
    pub file: Option<File>,
}

/// A copy of a file that this process may not be able to open by its path, beside the ledger.
struct ReceivedFile(PathBuf);

impl ReceivedFile {
    fn receive(ledger: &Path, source: &Path, mut file: &File) -> Result<Self, LedgerError> {
        let received = Self(sibling_path(ledger, ".received"));
        let copy = create_private(&received.0);
        let mut copy = copy.map_err(|error| cannot_write(&received.0, &error))?;
        let copied = std::io::copy(&mut file, &mut copy);
        copied.map_err(|error| {
            if is_of_target(&error) {
                cannot_write(&received.0, &error)
            } else {
                cannot_open(source, &error)
            }
        })?;
        Ok(received)
    }
}

/// Returns whether an error of a copy can only be that of the file that is written.
fn is_of_target(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::ReadOnlyFilesystem
    )
}

impl Drop for ReceivedFile {
    fn drop(&mut self) {
        // A later restore replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Replaces the ledger of `lock` by a copy of `source`. The former ledger is
/// kept beside it with its log, and its log is never applied to the copy. After a kill at
/// any point the next start either finds the former ledger, or the copy, or refuses to
/// apply the former log to it. The next writer compares the copy with the provider before
/// anything else. The rotations that were requested when the copy was made are dropped:
/// they may have been made since.
///
/// # Errors
/// `source` is no undamaged ledger of `configured`, or a file cannot be written: the
/// former ledger is in its place.
pub fn restore(
    lock: &WriterLock,
    source: &RestoreSource,
    configured: &LedgerIdentity,
    host: Option<&str>,
    now: Timestamp,
) -> Result<RestoredLedger, LedgerError> {
    let [ledger, ..] = files_of_sqlite(lock.ledger());
    let new = sibling_path(&ledger, ".restoring");
    let is_of_other_host = copy_source(source, &ledger, &new, configured, host)
        .inspect_err(|_| drop(fs::remove_file(&new)))?;
    let former = FormerLedger::read(&ledger, now);
    let dropped_requests =
        prepare_copy(&new, former.last_run).inspect_err(|_| drop(fs::remove_file(&new)))?;
    let changed_orders = former.compare_orders(&new, now);
    let replaced = replace(&ledger, &new).map_err(|error| cannot_write(&ledger, &error));
    Ok(RestoredLedger {
        previous: replaced?,
        is_of_other_host,
        dropped_requests,
        changed_orders,
    })
}

/// What the ledger that is replaced says, as far as it can be read.
struct FormerLedger {
    last_run: Option<LastRun>,
    orders: FormerOrders,
}

/// What operators had ordered in the ledger that is replaced.
enum FormerOrders {
    /// There was no ledger.
    Absent,
    /// It could not be read.
    Unreadable,
    Read(RecordedOrders),
}

impl FormerLedger {
    /// Reads the ledger at `path`. A damaged ledger is replaced nevertheless.
    fn read(path: &Path, now: Timestamp) -> Self {
        // This process has its lock: no writer vouches for a log that is not its own.
        let is_foreign = !matches!(
            log_origin(path),
            Ok(LogOrigin::Empty { .. } | LogOrigin::Own | LogOrigin::Unclear)
        );
        let read = || {
            let Some(reader) = LedgerReader::open_existing(path)? else {
                return Ok(None);
            };
            let last_run = reader.snapshot()?.last_run()?;
            let orders = RecordedOrders::read(&reader, now)?;
            Ok::<_, LedgerError>(Some((last_run.map(|(run, _)| run), orders)))
        };
        let unread = |orders| Self {
            last_run: None,
            orders,
        };
        if is_foreign {
            return unread(FormerOrders::Unreadable);
        }
        match read() {
            Ok(Some((last_run, orders))) => Self {
                last_run,
                orders: FormerOrders::Read(orders),
            },
            Ok(None) => unread(FormerOrders::Absent),
            Err(error) => {
                tracing::debug!(%error, "the former ledger cannot be read");
                unread(FormerOrders::Unreadable)
            }
        }
    }

    /// Compares its orders with those of the copy at `new`.
    fn compare_orders(&self, new: &Path, now: Timestamp) -> Option<ChangedOrders> {
        let former = match &self.orders {
            FormerOrders::Absent => return Some(ChangedOrders::default()),
            FormerOrders::Unreadable => return None,
            FormerOrders::Read(orders) => orders,
        };
        // One of the first release is read once the next start has converted it.
        let restored = LedgerReader::open_whole(new).ok()?;
        let restored = RecordedOrders::read(&restored, now).ok()?;
        Some(former.compare(&restored))
    }
}

/// Removes the requested rotations from the checked copy at `new`, and replaces its latest
/// run by that of the former ledger. Returns the keys of the requests.
fn prepare_copy(new: &Path, former: Option<LastRun>) -> Result<Vec<KeyName>, LedgerError> {
    // The copy has no log, and SQLite syncs it before the deletion is committed.
    let copy = Connection::open(new)?;
    foreign_schema::distrust(&copy)?;
    copy.pragma_update(None, "synchronous", "FULL")?;
    last_run::carry_over(&copy, former)?;
    rotation_request::remove_all(&copy)
}

/// Copies and checks the ledger at `source`. Returns whether another host wrote it last.
fn copy_source(
    source: &RestoreSource,
    ledger: &Path,
    new: &Path,
    configured: &LedgerIdentity,
    host: Option<&str>,
) -> Result<bool, LedgerError> {
    let unusable = |error: &Error| cannot_open(&source.path, error);
    let found = match &source.file {
        Some(file) => file.metadata(),
        None => source.path.metadata(),
    };
    let found = found.map_err(|error| unusable(&error))?;
    let received = source.file.as_ref();
    let received = received.map(|file| ReceivedFile::receive(ledger, &source.path, file));
    let received = received.transpose()?;
    let file = received
        .as_ref()
        .map_or(&source.path, |received| &received.0);
    check_regular(file).map_err(|error| unusable(&error))?;
    // SQLite does not say why it cannot open a file.
    if let Err(error) = open_regular(file) {
        let advice = if error.kind() == ErrorKind::PermissionDenied {
            "; hint: let the user who restores it read it"
        } else {
            ""
        };
        let reason = os_error::describe(&error);
        return Err(unusable(&Error::other(format!("{reason}{advice}"))));
    }
    let is_ledger =
        |present: fs::Metadata| (present.dev(), present.ino()) == (found.dev(), found.ino());
    if ledger.metadata().is_ok_and(is_ledger) {
        let error = Error::other("it is the ledger itself; hint: use the path of a backup");
        return Err(unusable(&error));
    }
    let (connection, version) = match &received {
        Some(received) => read_only::open_immutable_copy(&source.path, &received.0)?,
        None => open_source(&source.path)?,
    };
    if version == LedgerVersion::Empty {
        return Err(unusable(&Error::other("it contains no ledger")));
    }
    // The copy is checked completely; then nothing in it is malformed.
    copy_database(&connection, new).map_err(|error| {
        if error.is_disk_full() {
            cannot_write(new, &ErrorKind::StorageFull.into())
        } else if matches!(error, LedgerError::Corrupt(_) | LedgerError::Database(_)) {
            unusable(&Error::other(format!("cannot copy it ({error})")))
        } else {
            error
        }
    })?;
    identity::check_identity(&connection, &source.path, version, configured)?;
    let is_of_other_host = identity::check_host(&connection, &source.path, version, host).is_err();
    let mode = Permissions::from_mode(LEDGER_FILE_MODE);
    fs::set_permissions(new, mode).map_err(|error| cannot_write(new, &error))?;
    Ok(is_of_other_host)
}

/// Opens the copy. One without a log is read without creating files beside it.
fn open_source(source: &Path) -> Result<(Connection, LedgerVersion), LedgerError> {
    let [_, log, _] = files_of_sqlite(source);
    if log.exists() {
        read_only::open_any_version(source)
    } else {
        read_only::open_immutable(source)
    }
}

/// How the former ledger was put aside.
#[derive(Debug, Clone, Copy)]
enum KeptName {
    /// It has both names until the copy takes the first one.
    Linked,
    Moved,
}

/// Puts the copy at `new` in place of the ledger, and the former files aside. Until the
/// former log has moved, it lies beside a file that is not its own, which every start
/// refuses.
fn replace(ledger: &Path, new: &Path) -> Result<Option<KeptLedger>, Error> {
    let others = ["-wal", "-shm", "-journal"].map(|ending| (ending, sibling_path(ledger, ending)));
    let former = free_name(ledger, "before-restore");
    // A log is not left beside an empty file: SQLite would remove it.
    let is_kept = has_content(ledger);
    let kept = is_kept.then(|| keep_former(ledger, &former)).transpose()?;
    if let Err(error) = fs::rename(new, ledger) {
        if let Some(kept) = kept {
            restore_former(ledger, &former, kept)?;
        }
        return Err(error);
    }
    sync_folder_of(ledger)?;
    let mut rest = None;
    for (ending, file) in others {
        if file.symlink_metadata().is_ok() {
            let kept_path = sibling_path(&former, ending);
            // The shared memory is made again from the log.
            let is_log = ending != "-shm" && has_content(&file);
            fs::rename(&file, &kept_path)?;
            rest = rest.or(is_log.then_some(kept_path));
        }
    }
    sync_folder_of(ledger)?;
    Ok(if is_kept {
        Some(KeptLedger::Whole(former))
    } else {
        rest.map(KeptLedger::LogAlone)
    })
}

/// Puts the former ledger aside as `former`, with a copy of its note, without which its log
/// would not be taken for its own. The note itself stays: it shows that the log, as long as it
/// lies beside the restored copy, is not that copy's.
fn keep_former(ledger: &Path, former: &Path) -> Result<KeptName, Error> {
    checkpoint_note::copy_note(ledger, former)?;
    if fs::hard_link(ledger, former).is_ok() {
        return Ok(KeptName::Linked);
    }
    // The file system has no hard links.
    let moved = fs::rename(ledger, former);
    moved.inspect_err(|_| checkpoint_note::remove_note(former))?;
    Ok(KeptName::Moved)
}

/// Undoes [`keep_former`]: the former ledger stays in its place.
fn restore_former(ledger: &Path, former: &Path, kept: KeptName) -> Result<(), Error> {
    match kept {
        KeptName::Linked => fs::remove_file(former)?,
        KeptName::Moved => fs::rename(former, ledger)?,
    }
    checkpoint_note::remove_note(former);
    Ok(())
}

fn has_content(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.len() > 0)
}
