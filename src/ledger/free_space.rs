//! Checks that the disk has room for what the ledger writes, before it counts as writable
//! again.
//!
//! A full disk often takes one page more. A write of one page then succeeds, and the next
//! commit fails: once a second, for ever.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::core::os_error;
use crate::ledger::error::LedgerError;
use crate::ledger::paths::{files_of_sqlite, parent_directory, sibling_path};

/// The room that the ledger needs at least, in bytes: some twenty rotations.
const MIN_ROOM: u64 = 1 << 20;

/// The room that it needs at most.
const MAX_ROOM: u64 = 64 << 20;

/// The time within which a commit that fails shows that the room was too small.
const PROOF_TIME: Duration = Duration::from_secs(60);

/// The size of one write where room cannot be reserved.
static BLOCK: [u8; 1 << 16] = [0x5A; 1 << 16];

/// The room that the ledger needs.
pub(super) struct FreeSpace {
    /// The ledger.
    ledger: PathBuf,
    /// The file that takes the room for a moment.
    path: PathBuf,
    room: u64,
    /// When the room was last there.
    found_at: Option<Instant>,
}

impl FreeSpace {
    pub(super) fn new(ledger: &Path) -> Self {
        let [ledger, ..] = files_of_sqlite(ledger);
        Self {
            path: sibling_path(&ledger, ".room"),
            ledger,
            room: MIN_ROOM,
            found_at: None,
        }
    }

    /// Returns the room for a look that may be beside a running writer.
    pub(super) fn for_check(ledger: &Path) -> Self {
        let [ledger, ..] = files_of_sqlite(ledger);
        Self {
            path: sibling_path(&ledger, ".room-check"),
            ..Self::new(&ledger)
        }
    }

    /// Notes the size of a commit, in bytes. The room is twice the largest.
    pub(super) fn note_commit(&mut self, size: u64) {
        self.room = self.room.max(size.saturating_mul(2)).min(MAX_ROOM);
    }

    /// Notes that a commit failed although there was room: it needs more.
    pub(super) fn note_failure(&mut self) {
        if self
            .found_at
            .take()
            .is_some_and(|at| at.elapsed() < PROOF_TIME)
        {
            self.room = self.room.saturating_mul(2).min(MAX_ROOM);
        }
    }

    /// Checks that there is room, by taking it for a moment.
    ///
    /// # Errors
    /// [`LedgerError::NoRoom`]. A folder in which no file can be created is no error here:
    /// a write to the ledger shows whether it can be written.
    pub(super) fn check(&mut self) -> Result<(), LedgerError> {
        let Ok(file) = create_unnamed(&self.path) else {
            return Ok(());
        };
        take_room(&file, self.room).map_err(|error| self.no_room(&error))?;
        self.found_at = Some(Instant::now());
        Ok(())
    }

    /// As [`FreeSpace::check`], for a writer that has yet to start: it also creates files.
    ///
    /// # Errors
    /// [`LedgerError::NoRoom`], also if the disk takes no further file.
    pub(super) fn check_start(&mut self) -> Result<(), LedgerError> {
        match create_unnamed(&self.path) {
            Err(error) if is_disk_full(&error) => Err(self.no_room(&error)),
            Ok(_) | Err(_) => self.check(),
        }
    }

    /// Returns the error of a commit for which the disk has no room: it names the disk,
    /// which that of SQLite does not.
    pub(super) fn explain(&self, error: LedgerError) -> LedgerError {
        if error.is_disk_full() {
            self.no_room(&ErrorKind::StorageFull.into())
        } else {
            error
        }
    }

    fn no_room(&self, error: &Error) -> LedgerError {
        let folder = parent_directory(&self.path).display();
        // How much this process needs differs from what the next one does.
        let free = format!(
            "free some space on the disk of {folder}; {} MiB are enough",
            MAX_ROOM >> 20
        );
        let reason = if error.kind() == ErrorKind::StorageFull {
            "its disk is full".to_owned()
        } else {
            os_error::describe(error)
        };
        let advice = if is_disk_full(error) {
            free
        } else {
            disk_advice()
        };
        LedgerError::NoRoom {
            path: self.ledger.clone(),
            reason,
            advice,
        }
    }
}

/// Returns whether a disk, or a user's part of it, is full.
pub(super) fn is_disk_full(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Creates a file without a name, which takes no room once it is closed.
fn create_unnamed(path: &Path) -> Result<File, Error> {
    // A killed process may have left it.
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Takes room on the disk, by reserving or else by writing it.
fn take_room(mut file: &File, room: u64) -> Result<(), Error> {
    match fallocate(file, FallocateFlags::empty(), 0, room) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            for _ in 0..room.div_ceil(BLOCK.len() as u64) {
                file.write_all(&BLOCK)?;
            }
            file.sync_data()
        }
        reserved => Ok(reserved?),
    }
}

/// Returns what to check when a file of the ledger cannot be written.
#[must_use]
pub fn disk_advice() -> String {
    let advice = "check whether its disk is full or read-only";
    match getrlimit(Resource::Fsize).current {
        None => advice.to_owned(),
        Some(limit) => format!(
            "{advice}, or its files reach the limit of {limit} bytes that this process has \
             (LimitFSIZE=, `ulimit -f`)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_commits_and_failures() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = FreeSpace::new(&dir.path().join("ledger.db"));
        space.note_failure();
        assert_eq!(space.room, MIN_ROOM, "nothing was proved");
        space.note_commit(4096);
        assert_eq!(space.room, MIN_ROOM);
        space.note_commit(3 << 20);
        assert_eq!(space.room, 6 << 20);
        space.check().unwrap();
        space.note_failure();
        space.note_failure();
        assert_eq!(space.room, 12 << 20, "one failure after one proof");
        space.note_commit(u64::MAX);
        assert_eq!(space.room, MAX_ROOM);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn full_disk_is_named_with_the_room_that_the_ledger_needs() {
        let mut space = FreeSpace::new(Path::new("/var/lib/rekeyd/ledger.db"));
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let full = LedgerError::from(rusqlite::Error::SqliteFailure(full, None));
        let system = space.no_room(&Error::from_raw_os_error(
            rustix::io::Errno::NOSPC.raw_os_error(),
        ));
        // The text is the same before and after a commit that needs more.
        space.note_commit(3 << 20);
        for error in [space.explain(full), system] {
            assert!(error.is_disk_full());
            assert_eq!(
                error.to_string(),
                "cannot write the ledger /var/lib/rekeyd/ledger.db: its disk is full; hint: free \
                 some space on the disk of /var/lib/rekeyd; 64 MiB are enough"
            );
        }
        let other = space.explain(LedgerError::WriterStopped);
        assert!(matches!(other, LedgerError::WriterStopped));
    }

    #[test]
    fn folder_that_takes_no_files_is_left_to_the_ledger() {
        let mut space = FreeSpace::new(Path::new("/nowhere/ledger.db"));
        space.check().unwrap();
        assert_eq!(space.found_at, None);
    }
}
