//! Puts a copy of the ledger back, and keeps the former one.

use std::fs::{self, Permissions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::core::ids::KeyName;
use crate::ledger::backup::{cannot_write, copy_database};
use crate::ledger::checkpoint_note::free_name;
use crate::ledger::error::LedgerError;
use crate::ledger::identity::{self, LedgerIdentity};
use crate::ledger::ledger_file::{LEDGER_FILE_MODE, cannot_open, check_regular, open_regular};
use crate::ledger::lock::WriterLock;
use crate::ledger::paths::{files_of_sqlite, sibling_path, sync_folder_of};
use crate::ledger::read_only;
use crate::ledger::rotation_request;
use crate::ledger::version::LedgerVersion;

/// The result of a restore.
#[derive(Debug)]
pub struct RestoredLedger {
    /// The path of the ledger before; none if there was none.
    pub previous: Option<PathBuf>,
    /// Whether another host wrote the copy last: the next start needs `--take-over`.
    pub is_of_other_host: bool,
    /// The keys whose requested rotations were in the copy, and are dropped.
    pub dropped_requests: Vec<KeyName>,
}

/// Replaces the ledger of `lock` by a copy of the one at `source`. The former ledger is
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
    source: &Path,
    configured: &LedgerIdentity,
    host: Option<&str>,
) -> Result<RestoredLedger, LedgerError> {
    let [ledger, ..] = files_of_sqlite(lock.ledger());
    let new = sibling_path(&ledger, ".restoring");
    let is_of_other_host = copy_source(source, &ledger, &new, configured, host)
        .inspect_err(|_| drop(fs::remove_file(&new)))?;
    let dropped_requests = drop_requests(&new).inspect_err(|_| drop(fs::remove_file(&new)))?;
    let replaced = replace(&ledger, &new).map_err(|error| cannot_write(&ledger, &error));
    Ok(RestoredLedger {
        previous: replaced?,
        is_of_other_host,
        dropped_requests,
    })
}

/// Removes the requested rotations from the checked copy at `new`. Returns their keys.
fn drop_requests(new: &Path) -> Result<Vec<KeyName>, LedgerError> {
    // The copy has no log, and SQLite syncs it before the deletion is committed.
    let copy = Connection::open(new)?;
    copy.pragma_update(None, "synchronous", "FULL")?;
    rotation_request::remove_all(&copy)
}

/// Copies and checks the ledger at `source`. Returns whether another host wrote it last.
fn copy_source(
    source: &Path,
    ledger: &Path,
    new: &Path,
    configured: &LedgerIdentity,
    host: Option<&str>,
) -> Result<bool, LedgerError> {
    let unusable = |error: &Error| cannot_open(source, error);
    let found = source.metadata().map_err(|error| unusable(&error))?;
    check_regular(source).map_err(|error| unusable(&error))?;
    // SQLite does not say why it cannot open a file.
    if let Err(error) = open_regular(source) {
        let advice = if error.kind() == ErrorKind::PermissionDenied {
            "; hint: let the user who restores it read it"
        } else {
            ""
        };
        return Err(unusable(&Error::other(format!("{error}{advice}"))));
    }
    let is_ledger =
        |present: fs::Metadata| (present.dev(), present.ino()) == (found.dev(), found.ino());
    if ledger.metadata().is_ok_and(is_ledger) {
        let error = Error::other("it is the ledger itself; hint: use the path of a backup");
        return Err(unusable(&error));
    }
    let (connection, version) = open_source(source)?;
    if version == LedgerVersion::Empty {
        return Err(unusable(&Error::other("it contains no ledger")));
    }
    // The copy is checked completely; then nothing in it is malformed.
    copy_database(&connection, new).map_err(|error| {
        if matches!(error, LedgerError::Corrupt(_) | LedgerError::Database(_)) {
            unusable(&Error::other(format!("cannot copy it ({error})")))
        } else {
            error
        }
    })?;
    identity::check_identity(&connection, source, version, configured)?;
    let is_of_other_host = identity::check_host(&connection, source, version, host).is_err();
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

/// Puts the copy at `new` in place of the ledger, and the former files aside. Until the
/// former log has moved, it lies beside a file that is not its own, which every start
/// refuses.
fn replace(ledger: &Path, new: &Path) -> Result<Option<PathBuf>, Error> {
    let others = ["-wal", "-shm", "-journal"].map(|ending| (ending, sibling_path(ledger, ending)));
    let has_content = |file: &Path| file.metadata().is_ok_and(|found| found.len() > 0);
    let is_new = !has_content(ledger) && !others.iter().any(|(_, file)| has_content(file));
    let former = free_name(ledger, "before-restore");
    // A log is not left beside an empty file: SQLite would remove it.
    if has_content(ledger) && fs::hard_link(ledger, &former).is_err() {
        // The file system has no hard links.
        fs::rename(ledger, &former)?;
    }
    fs::rename(new, ledger)?;
    sync_folder_of(ledger)?;
    for (ending, file) in others {
        if file.symlink_metadata().is_ok() {
            fs::rename(&file, sibling_path(&former, ending))?;
        }
    }
    sync_folder_of(ledger)?;
    Ok((!is_new).then_some(former))
}
