//! Copies a ledger as it is at one moment, also beside its writer.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::core::os_error;
use crate::core::path::is_sync_unsupported;
use crate::ledger::absence::emptiness_error;
use crate::ledger::checkpoint::check_integrity;
use crate::ledger::copy_in_memory;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::kept_file::create_private;
use crate::ledger::paths::{is_beside, sibling_path, sync_folder_of};
use crate::ledger::read_only;
use crate::ledger::version::LedgerVersion;
use crate::platform::path_walk::{PathTrust, WalkedPath, walk_to_file};
use crate::platform::users;

/// The delay before another attempt while a writer has the ledger.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Copies the ledger at `path` to the new file `target`, which only its owner can read.
/// The copy is checked, is one file, and is on disk when this returns.
///
/// # Errors
/// There is no ledger, it cannot be read, `target` exists, a link of another user leads to it,
/// or it cannot be written.
pub fn back_up(path: &Path, target: &Path) -> Result<(), LedgerError> {
    let place = walk_to_target(path, target)?;
    if place.weaknesses.is_empty() {
        return copy_by_path(path, target);
    }
    // SQLite opens files by their paths, which another user could exchange here.
    let copy = NewCopy::create_at(place, target)?;
    let file = copy.clone_file();
    write_copy(path, file.map_err(|e| cannot_write(target, &e))?, target)?;
    copy.finish()
}

/// Copies the ledger to a path that nobody else can exchange.
fn copy_by_path(path: &Path, target: &Path) -> Result<(), LedgerError> {
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

/// A copy of a ledger that is written into a file which was opened before: nothing of it is
/// reopened by its path.
#[derive(Debug)]
pub struct NewCopy {
    target: PathBuf,
    place: WalkedPath,
    unfinished: OsString,
    file: File,
    is_finished: bool,
}

impl NewCopy {
    /// Creates the file in which a copy of `ledger` is made, beside `target`. It replaces what
    /// an interrupted attempt left.
    ///
    /// # Errors
    /// `target` exists, a link of another user leads to it, or the file cannot be created.
    pub fn create(ledger: &Path, target: &Path) -> Result<Self, LedgerError> {
        Self::create_at(walk_to_target(ledger, target)?, target)
    }

    fn create_at(place: WalkedPath, target: &Path) -> Result<Self, LedgerError> {
        let mut unfinished = place.name().to_owned();
        unfinished.push(".unfinished");
        let removed = match place.remove_entry(&unfinished) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        };
        let file = removed.and_then(|()| place.create_entry(&unfinished));
        let file = file.map_err(|error| cannot_write(target, &error.into()))?;
        Ok(Self {
            target: target.to_owned(),
            place,
            unfinished,
            file: file.into(),
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
    /// The system's, or another user has exchanged the file meanwhile.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        let failed = |error: Error| cannot_write(&self.target, &error);
        let renamed = self.place.rename_entry_here(&self.unfinished);
        renamed.map_err(|error| failed(error.into()))?;
        self.is_finished = true;
        if !self.is_in_place().map_err(failed)? {
            let reason = "another user exchanged it while it was written; hint: use a folder that \
                          nobody else can write to";
            return Err(failed(Error::other(reason)));
        }
        match self.place.sync_folder().map_err(Error::from) {
            Err(error) if is_sync_unsupported(&error) => Ok(()),
            synced => synced.map_err(failed),
        }
    }

    /// Returns whether the file is the one that has the name now.
    fn is_in_place(&self) -> Result<bool, Error> {
        let (own, found) = (rustix::fs::fstat(&self.file)?, self.place.stat()?);
        Ok((own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
}

impl Drop for NewCopy {
    fn drop(&mut self) {
        if !self.is_finished {
            // The disk may be full.
            let _ = self.place.remove_entry(&self.unfinished);
        }
    }
}

/// Follows the path of a new copy of `ledger`.
///
/// # Errors
/// Something is there, SQLite would take it for a file of the ledger, or a link of another user
/// leads to it.
fn walk_to_target(ledger: &Path, target: &Path) -> Result<WalkedPath, LedgerError> {
    check_target(ledger, target)?;
    let walked = walk_to_file(target, &PathTrust::default());
    let walked = walked.map_err(|error| cannot_write(target, &error.into()))?;
    match walked.foreign_links.first() {
        None => Ok(walked),
        Some(link) => {
            let (link, owner) = (link.path.display(), users::describe_user(link.owner));
            let reason = format!(
                "{link} is a symbolic link of {owner}, which could lead it elsewhere; hint: use a \
                 path without that link"
            );
            Err(cannot_write(target, &Error::other(reason)))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The owner of the folder exchanges the file while it is written.
    #[test]
    fn exchanged_file_is_neither_written_nor_taken_for_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (target, precious) = (dir.path().join("copy.db"), dir.path().join("precious"));
        fs::write(&precious, "precious\n").unwrap();
        let copy = NewCopy::create(&dir.path().join("ledger.db"), &target).unwrap();
        let unfinished = dir.path().join("copy.db.unfinished");
        fs::rename(&unfinished, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&precious, &unfinished).unwrap();
        copy.clone_file().unwrap().write_all(b"copied\n").unwrap();
        let error = copy.finish().unwrap_err().to_string();
        assert!(error.contains("another user exchanged it"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious\n");
        assert_eq!(
            fs::read_to_string(dir.path().join("moved")).unwrap(),
            "copied\n"
        );
    }
}
