//! What this process knows to be in the ledger: the newest event, and the number of
//! rotations.
//!
//! Neither the newest event nor the newest rotation is ever deleted, and what remains of a
//! pruned rotation counts as one. Content from another time that is written into
//! the files in place is complete, so no check of the pages finds anything. But it lacks
//! the newest event, or has another one in its place, however it came there.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;

/// The newest rows of an open ledger, as this process committed or found them last.
pub(super) struct OwnContent {
    ledger: PathBuf,
    newest: NewestRows,
    /// The number of rotations, or less.
    rotations: i64,
}

/// The newest rows at one moment.
pub(super) struct NewestRows {
    event: Option<EventRow>,
    /// The id of the newest rotation, zero without any.
    rotation: i64,
}

/// A row of `event_log`, without the rotation that it is of.
#[derive(PartialEq, Eq)]
struct EventRow {
    seq: i64,
    at: String,
    key: Option<String>,
    event: String,
    detail: String,
}

impl OwnContent {
    /// Notes the content of the ledger at `path`, which `connection` has just opened.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn new(path: &Path, connection: &Connection) -> Result<Self, LedgerError> {
        Ok(Self {
            ledger: path.to_owned(),
            newest: NewestRows::read(connection)?,
            rotations: count_rotations(connection)?,
        })
    }

    /// Checks that the newest rows are still there, in the pages that SQLite has.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], or SQLite's.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        self.check_rows(connection)
            .map_err(|error| self.without_tables(error))
    }

    /// As [`OwnContent::check`], in the files themselves, and of every rotation: another
    /// process wrote them.
    ///
    /// # Errors
    /// As [`OwnContent::check`].
    pub(super) fn check_files(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        // SQLite does not notice that the ledger changed without its log: its pages would
        // answer instead of the file.
        connection.execute_batch("PRAGMA shrink_memory")?;
        self.check(connection)?;
        let count = count_rotations(connection)?;
        if count < self.rotations {
            return Err(self.older());
        }
        self.rotations = count;
        Ok(())
    }

    /// Notes the rows that this process has committed since the last check.
    pub(super) fn note_commit(&mut self, newest: NewestRows) {
        self.rotations += newest.rotation - self.newest.rotation;
        self.newest = newest;
    }

    fn check_rows(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        if let Some(known) = &self.newest.event {
            let sql = "SELECT seq, at, key, event, detail FROM event_log WHERE seq = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement
                .query_row([known.seq], EventRow::read)
                .optional()?;
            if found.as_ref() != Some(known) {
                return Err(self.older());
            }
        }
        let rotation = newest_rotation(connection)?;
        if rotation < self.newest.rotation {
            return Err(self.older());
        }
        // Another program may add rotations, whatever that is good for.
        self.newest.rotation = rotation;
        Ok(())
    }

    fn older(&self) -> LedgerError {
        LedgerError::Damaged {
            path: self.ledger.clone(),
            damage: LedgerDamage::Older(self.ledger.clone()),
        }
    }

    /// Returns the damage of a ledger with other tables, else the error itself.
    fn without_tables(&self, error: LedgerError) -> LedgerError {
        if error.has_other_tables() {
            self.older()
        } else {
            error
        }
    }
}

impl NewestRows {
    /// Reads the newest rows, within a transaction those that it wrote.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn read(connection: &Connection) -> Result<Self, LedgerError> {
        let sql = "SELECT seq, at, key, event, detail FROM event_log ORDER BY seq DESC LIMIT 1";
        let mut statement = connection.prepare_cached(sql)?;
        Ok(Self {
            event: statement.query_row([], EventRow::read).optional()?,
            rotation: newest_rotation(connection)?,
        })
    }
}

impl EventRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            key: row.get(2)?,
            event: row.get(3)?,
            detail: row.get(4)?,
        })
    }
}

fn newest_rotation(connection: &Connection) -> Result<i64, LedgerError> {
    // The newest one is never pruned.
    let sql = "SELECT coalesce(max(id), 0) FROM rotation";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn count_rotations(connection: &Connection) -> Result<i64, LedgerError> {
    let sql = "SELECT (SELECT count(*) FROM rotation) + (SELECT count(*) FROM pruned_rotation)";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}
