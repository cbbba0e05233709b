//! Keeps a copy of a ledger before its migration, as a file beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::core::os_error;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::paths::{sibling_path, sync_folder_of};

/// The number of bytes of two files that are compared at once.
const BLOCK: usize = 1 << 16;

/// A copy of a ledger that is on disk.
#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    is_new: bool,
}

impl KeptFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file unless an earlier attempt created it. The migration failed, and
    /// the disk may be full.
    pub(super) fn discard_if_new(&self) {
        if self.is_new
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(
                "cannot remove {}: {}",
                self.path.display(),
                os_error::describe(&error)
            );
        }
    }
}

/// Returns the preferred path of the copy of the ledger at `path`, which `release`
/// wrote.
pub(super) fn kept_path(path: &Path, release: &str) -> PathBuf {
    sibling_path(path, &format!(".{release}"))
}

/// Copies the ledger, which `release` wrote, to a file beside it that only its owner can
/// read. Returns when the copy is on disk. An existing file is never overwritten: if its
/// content is the same, it serves as the copy; otherwise the copy gets a numbered name.
///
/// # Errors
/// The copy could not be written, or may not be on disk.
pub(super) fn keep(
    connection: &Connection,
    path: &Path,
    release: &str,
) -> Result<KeptFile, LedgerError> {
    let preferred = kept_path(path, release);
    let unfinished = sibling_path(&preferred, ".unfinished");
    let kept = write_copy(connection, &unfinished).and_then(|()| {
        let named = settle(&unfinished, &preferred);
        named.map_err(|error| io_error(&preferred, &error))
    });
    if kept.is_err() {
        // The disk may be full.
        let _ = fs::remove_file(&unfinished);
    }
    kept
}

fn write_copy(connection: &Connection, target: &Path) -> Result<(), LedgerError> {
    drop(create_private(target).map_err(|error| io_error(target, &error))?);
    let name = target
        .to_str()
        .ok_or_else(|| io_error(target, &io::Error::other("its path is not valid UTF-8")))?;
    connection.execute("VACUUM main INTO ?1", [name])?;
    let synced = File::open(target).and_then(|file| file.sync_all());
    synced.map_err(|error| io_error(target, &error))?;
    let copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    foreign_schema::distrust(&copy)?;
    check_pages(&copy)
}

/// Creates an empty file that only its owner can read, in place of a file that an
/// interrupted attempt left.
pub(super) fn create_private(target: &Path) -> io::Result<File> {
    match fs::remove_file(target) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    claim(target)
}

/// Creates a file that only its owner can read; fails if the path exists.
fn claim(target: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
}

/// Renames the finished copy, and waits until the folder is on disk.
fn settle(unfinished: &Path, preferred: &Path) -> io::Result<KeptFile> {
    let mut number = 1;
    let mut name = preferred.to_owned();
    let is_new = loop {
        match claim(&name) {
            Ok(_) => break true,
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // An attempt claimed it and ended before it renamed its copy.
            Err(_) if is_empty_file(&name)? => break true,
            Err(_) if have_same_content(unfinished, &name)? => break false,
            Err(_) => {
                number += 1;
                name = sibling_path(preferred, &format!("-{number}"));
            }
        }
    };
    if is_new {
        fs::rename(unfinished, &name)?;
    } else {
        fs::remove_file(unfinished)?;
    }
    sync_folder_of(&name)?;
    Ok(KeptFile { path: name, is_new })
}

fn is_empty_file(path: &Path) -> io::Result<bool> {
    let metadata = path.symlink_metadata()?;
    Ok(metadata.is_file() && metadata.len() == 0)
}

/// Returns whether both are files with the same bytes: SQLite writes the same copy of
/// the same ledger each time.
fn have_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let metadata = other.symlink_metadata()?;
    if !metadata.is_file() || metadata.len() != one.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

/// Checks every page and row. Indexes are not compared with their tables: SQLite has just
/// written them, and the comparison would double the time of a migration.
pub(super) fn check_pages(connection: &Connection) -> Result<(), LedgerError> {
    let result: String =
        connection.query_row("PRAGMA main.quick_check(1)", [], |row| row.get(0))?;
    match result.as_str() {
        "ok" => Ok(()),
        _ => Err(LedgerError::Corrupt(result)),
    }
}

fn io_error(file: &Path, error: &io::Error) -> LedgerError {
    LedgerError::KeptFile {
        path: file.to_owned(),
        reason: os_error::describe(error),
    }
}
