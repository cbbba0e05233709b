//! The ledger as it is at one moment, in memory: the daemon shows it to users who may read
//! the ledger's content but not open its file, since everybody who can open a file can lock
//! it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use rusqlite::{Connection, MAIN_DB};

use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;

/// The largest copy: it is in the memory of both processes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The two bytes of the header that say whether the database has a log.
const VERSION_BYTES: std::ops::Range<usize> = 18..20;
const WITHOUT_LOG: [u8; 2] = [1, 1];

/// A copy of the ledger: an SQLite file without a log.
#[derive(Debug)]
pub struct LedgerCopy(Vec<u8>);

impl AsRef<[u8]> for LedgerCopy {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The last copy, as long as somebody reads it.
#[derive(Debug, Default)]
pub(super) struct LastCopy {
    copy: Weak<LedgerCopy>,
    /// The state of the ledger that it has.
    state: Option<ContentState>,
}

/// What differs after each commit: the number of rows that this connection has changed, and
/// SQLite's number for the commits of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentState {
    changes: u64,
    version: i64,
}

impl LastCopy {
    /// Returns a copy of the ledger as the writer's `connection` sees it: the last one, if
    /// nothing was committed since.
    ///
    /// # Errors
    /// As [`copy_to_memory`].
    pub(super) fn renew(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Arc<LedgerCopy>, LedgerError> {
        let state = ContentState {
            changes: connection.total_changes(),
            version: connection.query_row("PRAGMA main.data_version", [], |row| row.get(0))?,
        };
        if self.state == Some(state)
            && let Some(copy) = self.copy.upgrade()
        {
            return Ok(copy);
        }
        let copy = Arc::new(LedgerCopy(copy_to_memory(connection)?));
        (self.copy, self.state) = (Arc::downgrade(&copy), Some(state));
        Ok(copy)
    }
}

/// Returns the content of the ledger, with its log, as the writer's `connection`
/// sees it. Another connection would open whatever is at the path by now, and SQLite
/// deletes the log beside a file without a page.
///
/// # Errors
/// It cannot be read, or is too large.
fn copy_to_memory(connection: &mut Connection) -> Result<Vec<u8>, LedgerError> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let size: u64 = connection.query_row(sql, [], |row| row.get(0))?;
    if size > MAX_BYTES {
        return Err(LedgerError::Open {
            path: connection.path().map(PathBuf::from).unwrap_or_default(),
            reason: "it is too large to read through the control socket; hint: run this as root \
                     or as rekeyd's user"
                .to_owned(),
        });
    }
    serialize(connection)
}

/// As [`copy_to_memory`], of any connection and of any size.
///
/// # Errors
/// It cannot be read, or SQLite refuses its size, two gigabytes.
pub(super) fn serialize(connection: &mut Connection) -> Result<Vec<u8>, LedgerError> {
    let mut content = connection.serialize(MAIN_DB)?.to_vec();
    if let Some(versions) = content.get_mut(VERSION_BYTES) {
        versions.copy_from_slice(&WITHOUT_LOG);
    }
    Ok(content)
}

/// Opens a copy that [`copy_to_memory`] made.
///
/// # Errors
/// It is none.
pub(super) fn open_copy(content: &[u8]) -> Result<Connection, LedgerError> {
    let mut connection = Connection::open_in_memory()?;
    connection.deserialize_read_exact(MAIN_DB, content, content.len(), true)?;
    foreign_schema::distrust(&connection)?;
    Ok(connection)
}
