//! Read-only connections to the ledger.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::core::shell::quote;
use crate::ledger::absence::{absence_error, emptiness_error};
use crate::ledger::checkpoint_note::{ForeignReason, LogOrigin, foreign_log, log_origin};
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::ledger_file::{cannot_open, check_regular};
use crate::ledger::lock::WriterLock;
use crate::ledger::open::{BUSY_TIMEOUT, into_open_error};
use crate::ledger::paths::{files_of_sqlite, files_to_check, sqlite_url};
use crate::ledger::version::LedgerVersion;
use crate::ledger::{first_release, foreign_schema, kept_file};
use crate::platform::{path_walk, users};

/// Opens a ledger of this rekeyd's version, with or without a running writer.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    check_exists(path)?;
    let (connection, version) = open_any_version(path)?;
    match version {
        LedgerVersion::CURRENT => Ok(connection),
        LedgerVersion::FirstRelease(_) => Err(LedgerError::NotMigrated {
            path: path.to_owned(),
            release: first_release::RELEASE,
            kept_path: kept_file::kept_path(path, first_release::RELEASE),
        }),
        LedgerVersion::Empty => Err(emptiness_error(path)),
        LedgerVersion::Supported(_) => Err(LedgerError::Open {
            path: path.to_owned(),
            reason: "it is of an older version; hint: `rekeyd run` migrates it".to_owned(),
        }),
    }
}

/// Checks that there is a file at `path`.
///
/// # Errors
/// That of [`absence_error`], or its folder cannot be read.
pub(super) fn check_exists(path: &Path) -> Result<(), LedgerError> {
    // An inaccessible folder may hold a ledger, so its error is not `NotFound`.
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(absence_error(path)),
        Err(error) => Err(cannot_open(path, &error)),
    }
}

/// Opens a ledger of any version that this rekeyd can write or migrate, and
/// returns its version.
pub(super) fn open_any_version(path: &Path) -> Result<(Connection, LedgerVersion), LedgerError> {
    open_named(path, path, path)
}

/// Opens a ledger without `-wal` and `-shm` as [`open_any_version`] does, and creates
/// neither.
pub(super) fn open_immutable(path: &Path) -> Result<(Connection, LedgerVersion), LedgerError> {
    open_immutable_copy(path, path)
}

/// As [`open_immutable`], of a copy of the one at `path`, which errors name.
pub(super) fn open_immutable_copy(
    path: &Path,
    copy: &Path,
) -> Result<(Connection, LedgerVersion), LedgerError> {
    open_named(path, copy, Path::new(&sqlite_url(copy, "immutable=1")?))
}

/// Opens a ledger as [`open_any_version`] does, and creates no file beside it; none if this
/// process may not read it, or could only read it with a log of its own.
pub(super) fn open_untouched(
    path: &Path,
) -> Result<Option<(Connection, LedgerVersion)>, LedgerError> {
    let [_, log, index] = files_of_sqlite(path);
    let can_read = accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok();
    let log = log.metadata().ok().map(|found| found.len());
    match (can_read, log, index.exists()) {
        (true, Some(_), true) => open_any_version(path).map(Some),
        // A plain connection would make SQLite create the files that are missing.
        (true, None | Some(0), _) => open_immutable(path).map(Some),
        _ => Ok(None),
    }
}

/// Checks that the log beside the ledger belongs to it, unless a writer has opened both,
/// and that SQLite would not delete it.
///
/// # Errors
/// [`LedgerError::ForeignLog`], or [`LedgerError::Damaged`] while a writer runs.
pub(super) fn check_log(path: &Path) -> Result<LogOrigin, LedgerError> {
    let origin = log_origin(path).map_err(|error| cannot_open(path, &error))?;
    let LogOrigin::Foreign(reason) = origin else {
        return Ok(origin);
    };
    if WriterLock::holder(path).is_none() {
        return Err(foreign_log(path, reason));
    }
    if reason == ForeignReason::NoLedger {
        return Err(LedgerError::Damaged {
            path: path.to_owned(),
            damage: LedgerDamage::Truncated(path.to_owned()),
        });
    }
    Ok(origin)
}

/// Checks that no link of another user leads to a ledger: SQLite would leave files beside the
/// target, which may be a database of root's.
fn check_links(path: &Path) -> Result<(), LedgerError> {
    let absolute = std::path::absolute(path).map_err(|error| cannot_open(path, &error))?;
    let Some(link) = path_walk::first_foreign_link(&absolute) else {
        return Ok(());
    };
    let owner = users::describe_user(link.owner);
    let command = format!("chown -h root {}", quote(&link.path.to_string_lossy()));
    let link = link.path.display();
    Err(LedgerError::Open {
        path: path.to_owned(),
        reason: format!(
            "{link} is a symbolic link of {owner}, which rekeyd does not follow; hint: if it leads \
             where it should, run `{command}`"
        ),
    })
}

/// Opens the ledger in `file` by `name`, a path or a `file:` URL. Errors name `path`.
fn open_named(
    path: &Path,
    file: &Path,
    name: &Path,
) -> Result<(Connection, LedgerVersion), LedgerError> {
    check_links(file)?;
    for file in files_to_check(file) {
        check_regular(&file).map_err(|error| cannot_open(&file, &error))?;
    }
    check_log(file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connect = || {
        let connection = Connection::open_with_flags(name, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        foreign_schema::distrust(&connection)?;
        let version = LedgerVersion::read(&connection, path)?;
        foreign_schema::check_readable(&connection, path, version)?;
        Ok((connection, version))
    };
    connect().map_err(|error| into_open_error(path, error))
}
