//! Connections that cannot write.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use url::Url;

use crate::ledger::error::LedgerError;
use crate::ledger::open::{BUSY_TIMEOUT, SCHEMA_VERSION, into_open_error, schema_version};

/// Opens a ledger of this rekeyd's version, beside its writer or alone.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    // A folder that may not be entered may well hold a ledger.
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            return Err(LedgerError::NotFound {
                path: path.to_owned(),
            });
        }
        Err(error) => {
            return Err(LedgerError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            });
        }
    }
    match open_any_version(path)? {
        (connection, SCHEMA_VERSION) => Ok(connection),
        _ => Err(LedgerError::Open {
            path: path.to_owned(),
            reason: "it is older than this rekeyd; `rekeyd run` brings it up to date".to_owned(),
        }),
    }
}

/// Opens a ledger of this version or an older one, and returns its version.
pub(super) fn open_any_version(path: &Path) -> Result<(Connection, i64), LedgerError> {
    open_named(path, path)
}

/// As [`open_any_version`], for a ledger without `-wal` and `-shm`; creates
/// neither.
pub(super) fn open_immutable(path: &Path) -> Result<(Connection, i64), LedgerError> {
    let mut name = Url::from_file_path(path).map_err(|()| LedgerError::Open {
        path: path.to_owned(),
        reason: "its path is not absolute".to_owned(),
    })?;
    name.set_query(Some("immutable=1"));
    open_named(path, Path::new(name.as_str()))
}

/// Opens the ledger at `path` by `name`, a path or a `file:` URL.
fn open_named(path: &Path, name: &Path) -> Result<(Connection, i64), LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let opened = || {
        let connection = Connection::open_with_flags(name, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let version = schema_version(&connection, path)?;
        Ok((connection, version))
    };
    opened().map_err(|error| into_open_error(path, error))
}
