//! The checkpoints of the write-ahead log, which rekeyd runs itself and notes.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::core::os_error;
use crate::ledger::checkpoint_note::CheckpointNote;
use crate::ledger::error::LedgerError;

/// The length of the log, in pages, at which it is copied into the ledger, if the options
/// of the ledger do not say.
const DEFAULT_WAL_PAGES: u32 = 1000;

/// The bytes of a page, and of what the log has beside each.
const PAGE_SIZE: u64 = 4096;
const FRAME_HEADER: u64 = 24;

/// How long the last checkpoint waits for readers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the checkpoints of one ledger.
pub(super) struct Checkpoints {
    /// None without a lock, in tests and simulations.
    note: Option<CheckpointNote>,
    /// A descriptor of the ledger, to sync its modification time.
    ledger_file: Option<File>,
    /// The length of the log at which it is copied.
    max_pages: u32,
    /// The length at which it is copied next: further, if readers kept the last checkpoint
    /// from copying all.
    next_pages: u32,
    /// The length of the log after the last commit.
    log_pages: Arc<AtomicU32>,
    /// The length when the size of a commit was last asked for.
    sized_pages: u32,
    has_failed: bool,
}

impl Checkpoints {
    pub(super) fn new(
        note: Option<CheckpointNote>,
        ledger_file: Option<File>,
        wal_pages: Option<u32>,
    ) -> Self {
        let max_pages = wal_pages.unwrap_or(DEFAULT_WAL_PAGES);
        Self {
            note,
            ledger_file,
            max_pages,
            next_pages: max_pages,
            log_pages: Arc::default(),
            sized_pages: 0,
            has_failed: false,
        }
    }

    /// Replaces the checkpoints that SQLite runs by itself.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn install(&self, connection: &mut Connection) -> Result<(), LedgerError> {
        let log_pages = Arc::clone(&self.log_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            log_pages.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(())
    }

    /// Notes the ledger as it was opened.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(super) fn note_opened(&mut self) -> Result<(), LedgerError> {
        let noted = self.note.as_mut().map_or(Ok(()), CheckpointNote::finish);
        noted.map_err(note_error)
    }

    /// Returns the bytes that the log grew by since the last call. A log that started over
    /// counts from its beginning.
    pub(super) fn size_of_last_commit(&mut self) -> u64 {
        let pages = self.log_pages.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.sized_pages, pages);
        let grown = pages.checked_sub(before).unwrap_or(pages);
        u64::from(grown) * (PAGE_SIZE + FRAME_HEADER)
    }

    /// Copies the log if it has become long. Returns whether it was copied completely, or
    /// none if it was not copied. A failure is logged once: the log keeps all that it holds.
    ///
    /// # Errors
    /// As [`Checkpoints::run`].
    pub(super) fn after_commit(
        &mut self,
        connection: &Connection,
    ) -> Result<Option<bool>, LedgerError> {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if pages < self.max_pages {
            self.next_pages = self.max_pages;
        }
        if pages < self.next_pages {
            return Ok(None);
        }
        self.next_pages = pages.saturating_add(self.max_pages / 4);
        let result = self.run(connection, "PASSIVE");
        match &result {
            Err(error) if !self.has_failed => {
                tracing::warn!("cannot checkpoint the ledger: {error}; retrying")
            }
            Ok(_) | Err(_) => {}
        }
        self.has_failed = result.is_err();
        result.map(Some)
    }

    /// Copies the log into the ledger as far as readers allow. Returns whether the log is
    /// copied completely.
    ///
    /// # Errors
    /// SQLite's, or the note cannot be written.
    pub(super) fn run(&mut self, connection: &Connection, mode: &str) -> Result<bool, LedgerError> {
        if let Some(note) = &mut self.note {
            note.begin().map_err(note_error)?;
        }
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let (busy, log, copied): (i64, i64, i64) =
            connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if let Some(note) = &mut self.note {
            // SQLite syncs the content, and perhaps not the time, which the note has.
            if let Some(file) = &self.ledger_file {
                file.sync_all().map_err(note_error)?;
            }
            note.finish().map_err(note_error)?;
        }
        Ok(busy == 0 && log == copied)
    }

    /// Copies the tables of a new ledger out of its log.
    ///
    /// # Errors
    /// As [`Checkpoints::run`].
    pub(super) fn copy_first_commit(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        if self.note.is_some() {
            self.run(connection, "PASSIVE")?;
        }
        Ok(())
    }

    /// Copies and truncates the log at an orderly stop, so that the ledger is one file.
    pub(super) fn close(&mut self, connection: &Connection) {
        let closed = connection
            .busy_timeout(CLOSE_TIMEOUT)
            .map_err(LedgerError::from)
            .and_then(|()| self.run(connection, "TRUNCATE"));
        let result = closed.and_then(|is_empty| match &mut self.note {
            Some(note) if is_empty => note.close().map_err(note_error),
            _ => Ok(()),
        });
        if let Err(error) = result {
            tracing::warn!("cannot checkpoint the ledger: {error}");
        }
    }
}

// As `map_err` needs it.
#[allow(clippy::needless_pass_by_value)]
fn note_error(error: std::io::Error) -> LedgerError {
    LedgerError::CheckpointNote(os_error::describe(&error))
}

/// Checks every page, row and index.
///
/// # Errors
/// [`LedgerError::Corrupt`], or SQLite's.
pub(super) fn check_integrity(connection: &Connection) -> Result<(), LedgerError> {
    let sql = "PRAGMA main.integrity_check(1)";
    let result: String = connection.query_row(sql, [], |row| row.get(0))?;
    match result.as_str() {
        "ok" => Ok(()),
        _ => Err(LedgerError::Corrupt(result)),
    }
}
