//! The content of the ledger's main file, without its log.
//!
//! Only checkpoints write this file, and rekeyd runs its own. A copy from another time that
//! is written over it is complete, so a check of the pages finds nothing, but the next
//! commit would mix both.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, MAIN_DB};

use crate::core::os_error;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::ledger_file::cannot_open;

/// The largest file whose content is compared: it is read into memory.
const MAX_COMPARED_BYTES: u64 = 256 * 1024 * 1024;

/// How long after a check that finds damage a second one decides: another process may be in
/// the middle of a checkpoint.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// The two bytes of the header that say that the file has a log, and their value.
const VERSION_BYTES: std::ops::Range<usize> = 18..20;
const WITH_LOG: [u8; 2] = [2, 2];

/// The main file of an open ledger.
pub(super) struct MainFile {
    path: PathBuf,
    /// Closed after the connection, see `ledger_file.rs`.
    file: File,
    /// The file as this process wrote it, or as it was last found to be right.
    stamp: ChangeStamp,
    /// The newest event that the file certainly holds.
    newest_event: Option<i64>,
}

/// Size, modification time and change time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ChangeStamp(u64, (i64, i64), (i64, i64));

impl ChangeStamp {
    fn new(found: &Metadata) -> Self {
        Self(
            found.size(),
            (found.mtime(), found.mtime_nsec()),
            (found.ctime(), found.ctime_nsec()),
        )
    }
}

impl MainFile {
    /// Notes the file at `path`, which `file` is a descriptor of, as `connection` opened it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn new(
        path: &Path,
        file: File,
        connection: &Connection,
        is_log_empty: bool,
    ) -> Result<Self, LedgerError> {
        let found = file.metadata().map_err(|error| cannot_open(path, &error))?;
        let mut main = Self {
            path: path.to_owned(),
            file,
            stamp: ChangeStamp::new(&found),
            newest_event: None,
        };
        if is_log_empty {
            main.newest_event = newest_event(connection)?;
        }
        Ok(main)
    }

    /// Notes the file after a checkpoint of this process, which may have copied the whole
    /// log.
    pub(super) fn note_checkpoint(&mut self, connection: &Connection, is_complete: bool) {
        if let Ok(found) = self.file.metadata() {
            self.stamp = ChangeStamp::new(&found);
        }
        if is_complete && let Ok(newest) = newest_event(connection) {
            self.newest_event = newest;
        }
    }

    /// Notes the file after a checkpoint of this process that failed. Where it copied a part of
    /// the log, the file alone mixes the pages of several commits: its content is compared
    /// again after the next complete checkpoint.
    pub(super) fn note_failed_checkpoint(&mut self) {
        let Ok(found) = self.file.metadata() else {
            return;
        };
        let stamp = ChangeStamp::new(&found);
        if stamp != self.stamp {
            (self.stamp, self.newest_event) = (stamp, None);
        }
    }

    /// Checks that the file holds what this process wrote, if another one has changed it.
    ///
    /// # Errors
    /// It does not, or cannot be read.
    pub(super) fn check(&mut self) -> Result<(), LedgerDamage> {
        let found = self.metadata()?;
        let stamp = ChangeStamp::new(&found);
        if stamp == self.stamp {
            return Ok(());
        }
        let mut examined = self.examine(found.size());
        if examined.is_err() {
            std::thread::sleep(SETTLE_TIME);
            examined = self.examine(self.metadata()?.size());
        }
        examined?;
        self.stamp = stamp;
        Ok(())
    }

    fn examine(&self, size: u64) -> Result<(), LedgerDamage> {
        let overwritten = || LedgerDamage::Overwritten(self.path.clone());
        let mut header = [0; 20];
        let read = self.file.read_exact_at(&mut header, 0);
        read.map_err(|error| malformed(&error))?;
        // A backup is one file and says so.
        if header[VERSION_BYTES] != WITH_LOG {
            return Err(overwritten());
        }
        let Some(expected) = self.newest_event.filter(|_| size <= MAX_COMPARED_BYTES) else {
            return Ok(());
        };
        let newest = self.read_newest_event(size);
        if newest? < Some(expected) {
            return Err(overwritten());
        }
        Ok(())
    }

    /// Reads the newest event in the file alone: a connection to the file would see the log
    /// as well, and its end would drop the locks of this process.
    fn read_newest_event(&self, size: u64) -> Result<Option<i64>, LedgerDamage> {
        let length = usize::try_from(size).map_err(|error| malformed(&error))?;
        let mut content = vec![0; length];
        let read = self.file.read_exact_at(&mut content, 0);
        read.map_err(|error| malformed(&os_error::describe(&error)))?;
        // A database in memory has no log.
        content[VERSION_BYTES].copy_from_slice(&[1, 1]);
        let newest = || -> Result<Option<i64>, LedgerError> {
            let mut copy = Connection::open_in_memory()?;
            copy.deserialize_read_exact(MAIN_DB, content.as_slice(), length, true)?;
            newest_event(&copy)
        };
        newest().map_err(|error| malformed(&error))
    }

    fn metadata(&self) -> Result<Metadata, LedgerDamage> {
        let found = self.file.metadata();
        found.map_err(|error| malformed(&os_error::describe(&error)))
    }
}

fn malformed(error: &dyn std::fmt::Display) -> LedgerDamage {
    LedgerDamage::Malformed(error.to_string())
}

fn newest_event(connection: &Connection) -> Result<Option<i64>, LedgerError> {
    let sql = "SELECT max(seq) FROM event_log";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt as _;
    use std::time::SystemTime;

    use super::*;

    /// More events than one page holds, so that the table gets pages beneath its first one.
    const MANY_EVENTS: &str = "WITH RECURSIVE numbers (number) AS \
         (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 2000) \
         INSERT INTO event_log (text) SELECT 'an event' FROM numbers";

    /// The pages that are copied before the disk is full: that of the schema and the first
    /// one of the table.
    const COPIED_BYTES: usize = 2 * 4096;

    fn checkpoint(connection: &Connection) {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        connection.query_row(sql, [], |_| Ok(())).unwrap();
    }

    #[test]
    fn checkpoint_that_a_full_disk_ends_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        connection
            .execute_batch(
                "CREATE TABLE event_log (seq INTEGER PRIMARY KEY, text TEXT NOT NULL); \
                 INSERT INTO event_log (text) VALUES ('an event')",
            )
            .unwrap();
        checkpoint(&connection);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut main = MainFile::new(&path, file, &connection, false).unwrap();
        main.note_checkpoint(&connection, true);
        let earlier = fs::read(&path).unwrap();
        connection.execute_batch(MANY_EVENTS).unwrap();

        // What a complete checkpoint would write.
        let other = dir.path().join("other.db");
        for ending in ["", "-wal"] {
            let at = |name: &str| dir.path().join(format!("{name}.db{ending}"));
            fs::copy(at("ledger"), at("other")).unwrap();
        }
        let other_connection = Connection::open(&other).unwrap();
        checkpoint(&other_connection);
        let later = fs::read(&other).unwrap();
        main.file.write_all_at(&later[..COPIED_BYTES], 0).unwrap();
        let size = main.file.metadata().unwrap().len();
        assert!(main.read_newest_event(size).is_err(), "half copied");
        main.note_failed_checkpoint();
        main.check().unwrap();
        // Another process touches the file, which is half copied still.
        main.file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        main.check().unwrap();

        checkpoint(&connection);
        main.note_checkpoint(&connection, true);
        main.check().unwrap();
        main.file
            .set_len(u64::try_from(earlier.len()).unwrap())
            .unwrap();
        main.file.write_all_at(&earlier, 0).unwrap();
        assert!(matches!(main.check(), Err(LedgerDamage::Overwritten(_))));
    }
}
