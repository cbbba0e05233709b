//! Keeps a ledger as it was before a migration, as a file beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::ledger::error::LedgerError;
use crate::ledger::paths::{parent_directory, sibling_path};

/// How many bytes of two files are compared at once.
const BLOCK: usize = 1 << 16;

/// A former ledger that is on disk.
#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    is_new: bool,
}

impl KeptFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file unless an earlier attempt made it: nothing was
    /// migrated, and a full disk needs the room.
    pub(super) fn discard_if_new(&self) {
        if self.is_new
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Where the ledger at `path`, written by `release`, is kept if nothing has
/// that name yet.
pub(super) fn kept_path(path: &Path, release: &str) -> PathBuf {
    sibling_path(path, &format!(".{release}"))
}

/// Copies the ledger, written by `release`, to a file beside it that only its
/// owner can read. Returns when it is on disk. A file that is there already is
/// never overwritten: one of the same content serves as the copy, beside any
/// other the copy gets a numbered name.
///
/// # Errors
/// There is no copy, or it may not be on disk.
pub(super) fn keep(
    connection: &Connection,
    path: &Path,
    release: &str,
) -> Result<KeptFile, LedgerError> {
    let wanted = kept_path(path, release);
    let unfinished = sibling_path(&wanted, ".unfinished");
    let kept = write_copy(connection, &unfinished).and_then(|()| {
        let settled = settle(&unfinished, &wanted);
        settled.map_err(|error| io_error(&wanted, &error))
    });
    if kept.is_err() {
        // It is of no use, and a full disk needs the room.
        let _ = fs::remove_file(&unfinished);
    }
    kept
}

fn write_copy(connection: &Connection, target: &Path) -> Result<(), LedgerError> {
    create_private(target).map_err(|error| io_error(target, &error))?;
    let name = target
        .to_str()
        .ok_or_else(|| io_error(target, &io::Error::other("its path is not UTF-8")))?;
    connection.execute("VACUUM main INTO ?1", [name])?;
    let synced = File::open(target).and_then(|file| file.sync_all());
    synced.map_err(|error| io_error(target, &error))?;
    let copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check_pages(&copy)
}

/// Creates an empty file that only its owner can read, in place of what an
/// interrupted attempt left there.
fn create_private(target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    claim(target).map(drop)
}

/// Creates a file that only its owner can read; fails if there is one.
fn claim(target: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
}

/// Gives the finished copy its name, and waits until the folder is on disk.
fn settle(unfinished: &Path, wanted: &Path) -> io::Result<KeptFile> {
    let mut number = 1;
    let mut name = wanted.to_owned();
    let is_new = loop {
        match claim(&name) {
            Ok(_) => break true,
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // Claimed by an attempt that ended before it renamed its copy.
            Err(_) if is_empty_file(&name)? => break true,
            Err(_) if have_same_content(unfinished, &name)? => break false,
            Err(_) => {
                number += 1;
                name = sibling_path(wanted, &format!("-{number}"));
            }
        }
    };
    if is_new {
        fs::rename(unfinished, &name)?;
    } else {
        fs::remove_file(unfinished)?;
    }
    File::open(parent_directory(&name))?.sync_all()?;
    Ok(KeptFile { path: name, is_new })
}

fn is_empty_file(path: &Path) -> io::Result<bool> {
    let found = path.symlink_metadata()?;
    Ok(found.is_file() && found.len() == 0)
}

/// Whether both are files with the same bytes: SQLite writes the same copy of
/// the same ledger each time.
fn have_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let found = other.symlink_metadata()?;
    if !found.is_file() || found.len() != one.metadata()?.len() {
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

/// Has SQLite check every page and row. Indexes are not compared with their
/// tables: each was just written by SQLite, and it would take as long as all
/// the rest of a migration.
pub(super) fn check_pages(connection: &Connection) -> Result<(), LedgerError> {
    let found: String = connection.query_row("PRAGMA main.quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(LedgerError::Corrupt(found)),
    }
}

fn io_error(file: &Path, error: &io::Error) -> LedgerError {
    LedgerError::KeptFile {
        path: file.to_owned(),
        reason: error.to_string(),
    }
}
