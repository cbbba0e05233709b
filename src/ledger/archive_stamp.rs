//! What tells an archive of a ledger from others.

use jiff::Timestamp;
use rusqlite::Connection;

use crate::ledger::error::LedgerError;

/// What identifies an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStamp {
    /// The name of its file.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal digits.
    pub digest: String,
    /// The number of the ledger that it is of.
    pub ledger: String,
    /// Its rotations ended before this time, those that certainly made nothing excepted.
    pub before: Timestamp,
}

/// Returns the number that tells this ledger, and its backups, from all others.
pub(super) fn ledger_number(connection: &Connection) -> Result<String, LedgerError> {
    let sql = "SELECT number FROM ledger_number";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}
