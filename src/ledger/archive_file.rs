//! The file of an archive: its header says that it is no ledger. Opened as one, it would lack
//! every live credential.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rusqlite::{Connection, MAIN_DB};

use crate::core::os_error;
use crate::ledger::checkpoint::check_integrity;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::version::{
    self, ARCHIVE_APPLICATION_ID, FIRST_VERSION, LedgerVersion, SCHEMA_VERSION,
};

/// Reads the content of an archive's file.
pub(super) fn read_content(path: &Path, mut file: File) -> Result<Vec<u8>, LedgerError> {
    let mut content = Vec::new();
    let read = file.read_to_end(&mut content);
    read.map_err(|error| {
        unusable(
            path,
            format!("cannot read it: {}", os_error::describe(&error)),
        )
    })?;
    Ok(content)
}

/// Opens an archive in memory, with the tables of this version.
///
/// # Errors
/// It is no archive of this or an earlier version, or it is damaged.
pub(super) fn open_content(path: &Path, content: &[u8]) -> Result<Connection, LedgerError> {
    open_checked(path, content).map_err(|error| error.of_archive(path))
}

fn open_checked(path: &Path, content: &[u8]) -> Result<Connection, LedgerError> {
    let no_archive = || {
        unusable(
            path,
            "it is not an archive of a ledger; hint: name a file that `rekeyd ledger prune` made, \
             or a new one"
                .to_owned(),
        )
    };
    let mut connection = Connection::open_in_memory()?;
    connection
        .deserialize_read_exact(MAIN_DB, content, content.len(), false)
        .map_err(|_| no_archive())?;
    foreign_schema::distrust(&connection)?;
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    if number("PRAGMA application_id").ok() != Some(ARCHIVE_APPLICATION_ID) {
        return Err(no_archive());
    }
    let version = number("PRAGMA user_version")?;
    if version > SCHEMA_VERSION {
        return Err(LedgerError::NewerVersion {
            path: path.to_owned(),
            found_version: version,
            supported_version: SCHEMA_VERSION,
        });
    }
    if version < FIRST_VERSION {
        return Err(no_archive());
    }
    foreign_schema::check_readable(&connection, path, LedgerVersion::Supported(version))?;
    check_integrity(&connection)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    version::migrate(&mut connection, Some(version))?;
    Ok(connection)
}

fn unusable(path: &Path, reason: String) -> LedgerError {
    LedgerError::Archive {
        path: path.to_owned(),
        reason,
    }
}
