//! Copies a ledger as it is at one moment, also beside its writer.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::core::os_error;
use crate::ledger::absence::emptiness_error;
use crate::ledger::checkpoint::check_integrity;
use crate::ledger::copy_in_memory;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::kept_file::create_private;
use crate::ledger::paths::{is_beside, sibling_path, sync_folder_of};
use crate::ledger::read_only;
use crate::ledger::version::LedgerVersion;

/// The delay before another attempt while a writer has the ledger.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Copies the ledger at `path` to the new file `target`, which only its owner can read.
/// The copy is checked, is one file, and is on disk when this returns.
///
/// # Errors
/// There is no ledger, it cannot be read, `target` exists, or it cannot be written.
pub fn back_up(path: &Path, target: &Path) -> Result<(), LedgerError> {
    check_target(path, target)?;
    let source = open_to_copy(path)?;
    let unfinished = sibling_path(target, ".unfinished");
    let copied = copy_database(&source, &unfinished)
        .and_then(|()| rename_to_new(&unfinished, target).map_err(|e| cannot_write(target, &e)));
    if copied.is_err() {
        // The disk may be full.
        let _ = fs::remove_file(&unfinished);
    }
    copied
}

/// A copy of a ledger that its owner writes into a file of root's.
#[derive(Debug)]
pub struct NewCopy {
    target: PathBuf,
    unfinished: PathBuf,
    file: File,
    is_finished: bool,
}

impl NewCopy {
    /// Creates the file in which a copy of `ledger` is made, beside `target`. It replaces what
    /// an interrupted attempt left.
    ///
    /// # Errors
    /// `target` exists, or the file cannot be created.
    pub fn create(ledger: &Path, target: &Path) -> Result<Self, LedgerError> {
        check_target(ledger, target)?;
        let unfinished = sibling_path(target, ".unfinished");
        let file = create_private(&unfinished).map_err(|error| cannot_write(target, &error))?;
        Ok(Self {
            target: target.to_owned(),
            unfinished,
            file,
            is_finished: false,
        })
    }

    /// Returns another descriptor of the file.
    ///
    /// # Errors
    /// The system's.
    pub fn clone_file(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the written copy its name.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        let renamed = rename_to_new(&self.unfinished, &self.target);
        renamed.map_err(|error| cannot_write(&self.target, &error))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for NewCopy {
    fn drop(&mut self) {
        if !self.is_finished {
            // The disk may be full.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Writes a checked copy of the ledger at `path` into `file`, which is to be `target`, and
/// returns when it is on disk.
///
/// # Errors
/// There is no ledger, it cannot be read or is damaged, or the file cannot be written.
pub fn write_copy(path: &Path, mut file: File, target: &Path) -> Result<(), LedgerError> {
    let mut source = open_to_copy(path)?;
    let content = copy_in_memory::serialize(&mut source)?;
    drop(source);
    check_integrity(&copy_in_memory::open_copy(&content)?)?;
    let written = file.write_all(&content).and_then(|()| file.sync_all());
    written.map_err(|error| cannot_write(target, &error))
}

fn check_target(ledger: &Path, target: &Path) -> Result<(), LedgerError> {
    if target.symlink_metadata().is_ok() {
        return Err(cannot_write(target, &ErrorKind::AlreadyExists.into()));
    }
    if is_beside(ledger, target) {
        let reason =
            "SQLite and rekeyd would treat it as a file of the ledger; hint: use another path";
        return Err(cannot_write(target, &Error::other(reason)));
    }
    Ok(())
}

fn open_to_copy(path: &Path) -> Result<Connection, LedgerError> {
    read_only::check_exists(path)?;
    match read_only::open_any_version(path)? {
        (_, LedgerVersion::Empty) => Err(emptiness_error(path)),
        (source, LedgerVersion::FirstRelease(_) | LedgerVersion::Supported(_)) => Ok(source),
    }
}

/// Copies a database into the new file `target`, whose mode is 0600, and checks the copy.
/// Replaces what an interrupted attempt left.
///
/// # Errors
/// The copy cannot be written, or is damaged because the source is.
pub(super) fn copy_database(source: &Connection, target: &Path) -> Result<(), LedgerError> {
    drop(create_private(target).map_err(|error| cannot_write(target, &error))?);
    let mut copy = Connection::open(target)?;
    Backup::new(source, &mut copy)?.run_to_completion(i32::MAX, RETRY_INTERVAL, None)?;
    // Without a log, the copy is one file.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    drop(copy);
    let copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    foreign_schema::distrust(&copy)?;
    check_integrity(&copy)?;
    drop(copy);
    let synced = File::open(target).and_then(|file| file.sync_all());
    synced.map_err(|error| cannot_write(target, &error))
}

/// Renames a file to a path at which nothing is, and waits until the folder is on disk.
fn rename_to_new(from: &Path, to: &Path) -> Result<(), Error> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system has no such operation.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => fs::rename(from, to)?,
        renamed => renamed?,
    }
    sync_folder_of(to)
}

/// Returns the error of a copy that cannot be written.
pub(super) fn cannot_write(target: &Path, error: &Error) -> LedgerError {
    LedgerError::Copy {
        path: target.to_owned(),
        reason: if error.kind() == ErrorKind::AlreadyExists {
            "it already exists; hint: use the path of a new file".to_owned()
        } else {
            os_error::describe(error)
        },
    }
}
