//! Watches the files of an open ledger, by `stat`, and its newest rows.
//!
//! SQLite continues with the files that it opened, whatever happens to their names, and
//! with the pages that it read. What it commits to a file that was removed or replaced is
//! lost at the end of the process.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::ledger::checkpoint_note::FileStamp;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::ledger_file::cannot_open;
use crate::ledger::main_file::MainFile;
use crate::ledger::own_content::OwnContent;
use crate::ledger::paths::files_of_sqlite;

/// The files of an open ledger as SQLite opened them.
pub(super) struct FileWatch {
    /// The path that is configured.
    ledger: PathBuf,
    files: [WatchedFile; 3],
    /// The length of the ledger at the last check.
    size: u64,
    /// The length of the ledger and its log at the last check.
    total_size: u64,
    /// The number of its pages at that time, those in the log included.
    page_count: i64,
    /// The length of the log's index. SQLite has it mapped, so that reading a page that was
    /// cut off ends the process (SIGBUS).
    index_size: u64,
    /// The ledger and its log after the last commit or checkpoint of this process.
    own_stamps: [FileStamp; 2],
    /// The content of the ledger without its log.
    main: MainFile,
    /// What is in the ledger and its log.
    content: OwnContent,
    /// The change that was found. It lasts: what was committed since may be lost.
    damage: Option<LedgerDamage>,
}

struct WatchedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What a check of undamaged files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileActivity {
    /// Only this process wrote them.
    Own,
    /// Another process wrote them: an operator's `sqlite3`, or a program that damages them.
    Foreign,
}

impl FileWatch {
    /// Notes the files of the ledger at `path`, which `connection` has just opened, and
    /// which `descriptor` is of.
    ///
    /// # Errors
    /// A file is missing, or its attributes cannot be read.
    pub(super) fn new(
        path: &Path,
        connection: &Connection,
        descriptor: File,
    ) -> Result<Self, LedgerError> {
        let found = files_of_sqlite(path).map(|path| (look_at(&path), path));
        let [(ledger, _), (log, _), (index, index_path)] = &found;
        let own_stamps = [stamp_of(path, ledger)?, stamp_of(path, log)?];
        let index_size = stamp_of(index_path, index)?.size;
        let mut files = Vec::new();
        for (metadata, path) in found {
            let FileStamp { device, inode, .. } = stamp_of(&path, &metadata)?;
            files.push(WatchedFile {
                path,
                device,
                inode,
            });
        }
        let files = files.try_into().map_err(|_| LedgerError::WriterStopped)?;
        Ok(Self {
            ledger: path.to_owned(),
            files,
            size: own_stamps[0].size,
            total_size: own_stamps[0].size + own_stamps[1].size,
            page_count: page_count(connection)?,
            main: MainFile::new(path, descriptor, connection, own_stamps[1].size == 0)?,
            content: OwnContent::new(path, connection)?,
            own_stamps,
            index_size,
            damage: None,
        })
    }

    /// Returns the length of the ledger and its log at the last check.
    pub(super) const fn total_size(&self) -> u64 {
        self.total_size
    }

    /// Looks at the files.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], from then on; or the system's.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<FileActivity, LedgerError> {
        if let Some(damage) = &self.damage {
            return Err(self.error(damage.clone()));
        }
        self.check_named_file()?;
        let mut stamps = Vec::new();
        for file in &self.files {
            match look_at(&file.path) {
                Ok(Some(found)) if file.is(&found) => stamps.push(FileStamp::new(&found)),
                Ok(Some(_)) => return Err(self.mark(LedgerDamage::Replaced(file.path.clone()))),
                Ok(None) => return Err(self.mark(LedgerDamage::Missing(file.path.clone()))),
                Err(error) => return Err(cannot_open(&file.path, &error)),
            }
        }
        self.total_size = stamps[0].size + stamps[1].size;
        // Before SQLite reads the index.
        self.check_index(stamps[2].size)?;
        self.check_size(stamps[0].size, connection)?;
        if let Err(damage) = self.main.check() {
            return Err(self.mark(damage));
        }
        let activity = if stamps[..2] == self.own_stamps {
            FileActivity::Own
        } else {
            FileActivity::Foreign
        };
        self.check_content(connection, activity)?;
        Ok(activity)
    }

    /// Checks that the configured path still leads to the open file. SQLite and the other
    /// checks hold the path without its links, and a link on it may lead elsewhere by now.
    fn check_named_file(&mut self) -> Result<(), LedgerError> {
        match self.ledger.metadata() {
            Ok(found) if self.files[0].is(&found) => Ok(()),
            Ok(_) => Err(self.mark(LedgerDamage::Replaced(self.ledger.clone()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(self.mark(LedgerDamage::Missing(self.ledger.clone())))
            }
            Err(error) => Err(cannot_open(&self.ledger, &error)),
        }
    }

    /// Checks that the ledger has what this process knows to be in it.
    fn check_content(
        &mut self,
        connection: &Connection,
        activity: FileActivity,
    ) -> Result<(), LedgerError> {
        let checked = match activity {
            FileActivity::Own => self.content.check(connection),
            FileActivity::Foreign => self.content.check_files(connection),
        };
        match checked.map_err(|error| self.mark_if_damaged(error)) {
            Err(error) if !matches!(error, LedgerError::Damaged { .. }) => {
                // The next transaction also fails, and is reported.
                tracing::debug!(%error, "cannot compare the ledger with the last commit");
                Ok(())
            }
            checked => checked,
        }
    }

    /// Returns what is known to be in the ledger, for a transaction.
    pub(super) fn content(&mut self) -> &mut OwnContent {
        &mut self.content
    }

    /// Checks that the log's index was not cut: SQLite only lengthens it while the ledger is
    /// open.
    fn check_index(&mut self, size: u64) -> Result<(), LedgerError> {
        if size < self.index_size {
            let path = self.files[2].path.clone();
            return Err(self.mark(LedgerDamage::Truncated(path)));
        }
        self.index_size = size;
        Ok(())
    }

    /// Checks that the ledger lost no pages. `VACUUM` makes it shorter, and says so.
    fn check_size(&mut self, size: u64, connection: &Connection) -> Result<(), LedgerError> {
        if size == self.size {
            return Ok(());
        }
        let count = page_count(connection).map_err(|error| self.mark_if_damaged(error))?;
        if size < self.size && count >= self.page_count {
            let path = self.files[0].path.clone();
            return Err(self.mark(LedgerDamage::Truncated(path)));
        }
        (self.size, self.page_count) = (size, count);
        Ok(())
    }

    /// Notes that this process has written the log.
    pub(super) fn note_commit(&mut self) {
        self.note(1);
    }

    /// Notes the ledger and the log, which this process has written or found undamaged.
    pub(super) fn note_checkpoint(&mut self) {
        self.note(0);
        self.note(1);
    }

    /// Notes a checkpoint of this process, which may have copied the whole log.
    pub(super) fn note_own_checkpoint(&mut self, connection: &Connection, is_complete: bool) {
        self.note_checkpoint();
        self.main.note_checkpoint(connection, is_complete);
    }

    /// Notes a checkpoint of this process that failed, perhaps in the middle.
    pub(super) fn note_failed_checkpoint(&mut self) {
        self.note_checkpoint();
        self.main.note_failed_checkpoint();
    }

    fn note(&mut self, number: usize) {
        // A file that is gone is found by the next check.
        if let Ok(Some(found)) = look_at(&self.files[number].path) {
            self.own_stamps[number] = FileStamp::new(&found);
        }
    }

    /// Returns the ledger's stamp now, if it is there.
    pub(super) fn ledger_stamp(&self) -> Option<FileStamp> {
        let found = look_at(&self.files[0].path).ok()??;
        Some(FileStamp::new(&found))
    }

    /// Marks the ledger as damaged if an error says so, and returns the error that reports
    /// it.
    pub(super) fn mark_if_damaged(&mut self, error: LedgerError) -> LedgerError {
        if let LedgerError::Damaged { damage, .. } = error {
            return self.mark(damage);
        }
        if error.is_malformed() {
            return self.mark(LedgerDamage::Malformed(error.to_string()));
        }
        error
    }

    /// Marks the ledger as damaged, and returns the error that reports it.
    pub(super) fn mark(&mut self, damage: LedgerDamage) -> LedgerError {
        let damage = self.damage.get_or_insert(damage).clone();
        self.error(damage)
    }

    fn error(&self, damage: LedgerDamage) -> LedgerError {
        LedgerError::Damaged {
            path: self.ledger.clone(),
            damage,
        }
    }
}

impl WatchedFile {
    fn is(&self, found: &Metadata) -> bool {
        (self.device, self.inode) == (found.dev(), found.ino()) && found.nlink() > 0
    }
}

/// Reads the attributes of the file at `path`, which was no link when SQLite opened it. A
/// process that opens the ledger through a link expects the log beside its target.
fn look_at(path: &Path) -> std::io::Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stamp_of(
    path: &Path,
    found: &std::io::Result<Option<Metadata>>,
) -> Result<FileStamp, LedgerError> {
    match found {
        Ok(Some(found)) => Ok(FileStamp::new(found)),
        Ok(None) => Err(cannot_open(path, &ErrorKind::NotFound.into())),
        Err(error) => Err(cannot_open(path, error)),
    }
}

fn page_count(connection: &Connection) -> Result<i64, LedgerError> {
    Ok(connection.query_row("PRAGMA main.page_count", [], |row| row.get(0))?)
}
