//! Makes and reads archives: files with the rotations that leave a ledger, and with all that
//! it knows of them, in tables and views like its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params, params_from_iter};

use crate::core::hex;
use crate::core::ids::RotationId;
use crate::ledger::archive_file::{open_content, read_content};
use crate::ledger::archive_stamp::{ArchiveStamp, ledger_number};
use crate::ledger::backup::{NewCopy, cannot_write};
use crate::ledger::checkpoint::check_integrity;
use crate::ledger::copy_in_memory::serialize;
use crate::ledger::error::LedgerError;
use crate::ledger::prune::{ArchivedRotation, PrunableRow, prunable};
use crate::ledger::reader::LedgerSnapshot;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::version::{self, ARCHIVE_APPLICATION_ID};

/// The greatest number of rotations in one archive, which is made in memory.
pub const MAX_ARCHIVED_ROTATIONS: usize = 100_000;

/// The tables of an archive that no ledger has; the first has one row.
const ARCHIVE_TABLE: &str = "CREATE TABLE archive (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        made_at TEXT NOT NULL,
        before  TEXT NOT NULL
    ) STRICT;
    CREATE TABLE archived_rotation (
        id         INTEGER PRIMARY KEY,
        last_event INTEGER NOT NULL
    ) STRICT;";

/// The content of an archive that was made or read.
#[derive(Debug)]
pub struct Archive {
    /// What identifies it.
    pub stamp: ArchiveStamp,
    /// Its rotations, oldest first.
    pub rotations: Vec<ArchivedRotation>,
}

/// An archive that was made and is in no file yet.
#[derive(Debug)]
pub struct NewArchive {
    content: Vec<u8>,
    rotations: usize,
}

impl NewArchive {
    /// Returns the number of its rotations.
    #[must_use]
    pub const fn rotations(&self) -> usize {
        self.rotations
    }

    /// Returns the content of the archive as its file at `path` will have it.
    ///
    /// # Errors
    /// It cannot be read back.
    pub fn read_back(&self, path: &Path) -> Result<Archive, LedgerError> {
        Archive::parse(path, &self.content)
    }

    /// Writes the archive of the ledger at `ledger` to the new file `target`, which only its
    /// owner can read. The content is on disk and was read back when the file gets its name.
    ///
    /// # Errors
    /// `target` exists, a link of another user leads to it, or it cannot be written.
    pub fn write(&self, ledger: &Path, target: &Path) -> Result<(), LedgerError> {
        let failed = |error: std::io::Error| cannot_write(target, &error);
        let copy = NewCopy::create(ledger, target)?;
        let mut file = copy.clone_file().map_err(failed)?;
        let written = file.write_all(&self.content).and_then(|()| file.sync_all());
        written.map_err(failed)?;
        if read_again(&file).map_err(failed)? != self.content {
            let reason = "it has other content than was written; hint: check its disk";
            return Err(failed(std::io::Error::other(reason)));
        }
        drop(file);
        copy.finish()
    }
}

/// Reads a file that was opened for writing, whatever its path leads to by now.
fn read_again(file: &File) -> std::io::Result<Vec<u8>> {
    fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl LedgerSnapshot<'_> {
    /// Makes an archive of the rotations that may be pruned because they ended before a time;
    /// none if there are no such rotations. It has the oldest ones, and
    /// [`MAX_ARCHIVED_ROTATIONS`] at most.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn make_archive(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Option<NewArchive>, LedgerError> {
        let rows = prunable(&self.transaction, before, now, MAX_ARCHIVED_ROTATIONS)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut archive = create(&self.transaction, before, now)?;
        copy_rows(&self.transaction, &archive, &rows)?;
        version::check_references(&archive.unchecked_transaction()?)?;
        check_integrity(&archive)?;
        Ok(Some(NewArchive {
            content: serialize(&mut archive)?,
            rotations: rows.len(),
        }))
    }
}

/// Creates an archive in memory without rotations.
fn create(
    source: &Connection,
    before: Timestamp,
    now: Timestamp,
) -> Result<Connection, LedgerError> {
    let mut archive = Connection::open_in_memory()?;
    version::migrate(&mut archive, None)?;
    // They let rows in only as a ledger gets them.
    archive.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    archive.execute_batch(ARCHIVE_TABLE)?;
    archive.pragma_update(None, "application_id", ARCHIVE_APPLICATION_ID)?;
    archive.execute(
        "INSERT INTO archive (id, made_at, before) VALUES (1, ?1, ?2)",
        params![SqlTimestamp(now), SqlTimestamp(before)],
    )?;
    archive.execute(
        "UPDATE ledger_number SET number = ?1",
        [ledger_number(source)?],
    )?;
    copy_keys(source, &archive)?;
    Ok(archive)
}

/// Copies the names of all keys, and nothing of their present state.
fn copy_keys(source: &Connection, archive: &Connection) -> Result<(), LedgerError> {
    let mut query = source.prepare("SELECT key, renamed_to FROM key_state")?;
    let mut insert = archive.prepare("INSERT INTO key_state (key, renamed_to) VALUES (?1, ?2)")?;
    let mut keys = query.query([])?;
    while let Some(row) = keys.next()? {
        let (key, present): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        insert.execute(params![key, present])?;
    }
    Ok(())
}

fn copy_rows(
    source: &Connection,
    archive: &Connection,
    rows: &[PrunableRow],
) -> Result<(), LedgerError> {
    let mut tables = [
        TableCopy::new(source, archive, "rotation", "id")?,
        TableCopy::new(source, archive, "delivery", "rotation_row")?,
        TableCopy::new(source, archive, "event_log", "rotation_row")?,
    ];
    let sql = "INSERT INTO archived_rotation (id, last_event) VALUES (?1, ?2)";
    let mut insert = archive.prepare(sql)?;
    let transaction = archive.unchecked_transaction()?;
    for row in rows {
        for table in &mut tables {
            table.copy(row.id)?;
        }
        insert.execute([row.id, row.archived.last_event])?;
    }
    transaction.commit()?;
    Ok(())
}

/// Copies the rows of one table that belong to a rotation.
struct TableCopy<'a> {
    select: Statement<'a>,
    insert: Statement<'a>,
    columns: usize,
}

impl<'a> TableCopy<'a> {
    fn new(
        source: &'a Connection,
        archive: &'a Connection,
        table: &str,
        owner: &str,
    ) -> Result<Self, LedgerError> {
        let columns = columns_of(archive, table)?;
        let (names, values) = (columns.join(", "), vec!["?"; columns.len()].join(", "));
        let select = format!("SELECT {names} FROM {table} WHERE {owner} = ?1");
        let insert = format!("INSERT INTO {table} ({names}) VALUES ({values})");
        Ok(Self {
            select: source.prepare(&select)?,
            insert: archive.prepare(&insert)?,
            columns: columns.len(),
        })
    }

    fn copy(&mut self, rotation_row: i64) -> Result<(), LedgerError> {
        let columns = self.columns;
        let mut rows = self.select.query([rotation_row])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get::<_, Value>(column));
            let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
            self.insert.execute(params_from_iter(values))?;
        }
        Ok(())
    }
}

/// Returns the quoted names of a table's columns, those that SQLite computes excepted.
fn columns_of(connection: &Connection, table: &str) -> Result<Vec<String>, LedgerError> {
    let sql = "SELECT '\"' || name || '\"' FROM pragma_table_info(?1)";
    let mut query = connection.prepare(sql)?;
    let names = query.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

impl LedgerSnapshot<'_> {
    /// Returns the number of an archive's rotations that have not left the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn count_unpruned(&self, archive: &Archive) -> Result<usize, LedgerError> {
        let sql = "SELECT 1 FROM rotation WHERE rotation = ?1";
        let mut query = self.transaction.prepare(sql)?;
        let mut count = 0;
        for archived in &archive.rotations {
            count += usize::from(query.exists([archived.rotation.as_str()])?);
        }
        Ok(count)
    }

    /// Returns the number that tells this ledger, and its backups, from all others.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn ledger_number(&self) -> Result<String, LedgerError> {
        ledger_number(&self.transaction)
    }
}

impl Archive {
    /// Reads the archive in `file`, which was opened at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is no archive of this or an earlier version.
    pub fn read(path: &Path, file: File) -> Result<Self, LedgerError> {
        Self::parse(path, &read_content(path, file)?)
    }

    fn parse(path: &Path, content: &[u8]) -> Result<Self, LedgerError> {
        let connection = open_content(path, content)?;
        Self::of_connection(path, &connection, content).map_err(|error| error.of_archive(path))
    }

    fn of_connection(
        path: &Path,
        connection: &Connection,
        content: &[u8],
    ) -> Result<Self, LedgerError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, content);
        let name = path.file_name().unwrap_or(path.as_os_str());
        let sql = "SELECT before FROM archive";
        let before = connection.query_row(sql, [], |row| row.get::<_, SqlTimestamp>(0))?;
        Ok(Self {
            stamp: ArchiveStamp {
                name: name.to_string_lossy().into_owned(),
                digest: hex::encode(digest.as_ref()),
                ledger: ledger_number(connection)?,
                before: before.0,
            },
            rotations: archived_rotations(connection)?,
        })
    }
}

fn archived_rotations(archive: &Connection) -> Result<Vec<ArchivedRotation>, LedgerError> {
    let mut query = archive.prepare(
        "SELECT r.rotation, a.last_event FROM archived_rotation a JOIN rotation r ON r.id = a.id
         ORDER BY a.id",
    )?;
    let rows = query.query_map([], |row| {
        Ok(ArchivedRotation {
            rotation: RotationId::from_recorded(row.get::<_, String>(0)?),
            last_event: row.get(1)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
