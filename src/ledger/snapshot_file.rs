//! The snapshot of the ledger for users who may look and not open the ledger: where no daemon
//! runs, nobody can show them its content.
//!
//! A thread copies the ledger with a connection of its own, beside the work: at most once a
//! minute, and once more when the ledger is closed, unless nothing changed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use crate::core::os_error;
use crate::core::shell::quote;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::paths::{parent_directory, sibling_path, sync_folder_of};

/// How long SQLite waits for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval between two snapshots at least.
const INTERVAL: Duration = Duration::from_secs(60);

/// That interval for a large ledger, as a multiple of the last copy's duration.
const REST: u32 = 20;

/// The mode of the file: its group may read it.
const SNAPSHOT_MODE: u32 = 0o640;

/// The mode of a folder that rekeyd makes for it.
const FOLDER_MODE: u32 = 0o750;

/// The rights that nobody may have in the folder: those of other users, and writing by the
/// group, which could put another file there.
const FORBIDDEN_RIGHTS: u32 = 0o027;

/// Where the snapshot of a ledger is, and how long a stop may wait for the last one.
#[derive(Debug, Clone)]
pub struct SnapshotTarget {
    /// The file, in a folder of its own. Members of the folder's group may read it.
    pub path: PathBuf,
    /// Whether the folder is made if it is missing. The default one is there only if the
    /// service manager made it.
    pub makes_folder: bool,
    /// How long the writer waits for the last snapshot when it closes the ledger.
    pub close_timeout: Duration,
    /// Returns the present time.
    pub now: fn() -> Timestamp,
    /// Returns why others could lead the path of a folder elsewhere, if they could.
    pub find_weakness: fn(&Path) -> io::Result<Option<String>>,
}

/// Why there is no new snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum SnapshotError {
    /// There is no folder for it, and none is to be made.
    #[error("there is no folder for it")]
    Off,
    /// Others than its owner and the readers of its group could use the folder.
    #[error(
        "{} has to be a folder of its own that only rekeyd can write to, and that only its group \
         can read; hint: run `{}`", .0.display(), folder_command(.0)
    )]
    OpenFolder(PathBuf),
    /// Others could put another folder there.
    #[error("{0}")]
    Weak(String),
    /// The system refuses it.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// SQLite refuses it.
    #[error("{0}")]
    Database(String),
    /// The files are no longer those that the writer opened, or a stop does not wait.
    #[error("it was given up")]
    GivenUp,
}

impl From<rusqlite::Error> for SnapshotError {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
            return Self::GivenUp;
        }
        Self::from(LedgerError::from(error))
    }
}

impl From<LedgerError> for SnapshotError {
    fn from(error: LedgerError) -> Self {
        Self::Database(error.to_string())
    }
}

/// The thread that writes snapshots.
pub(super) struct SnapshotFile {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    close_timeout: Duration,
}

struct Shared {
    ledger: PathBuf,
    /// The device and inode of the ledger that the writer opened.
    identity: (u64, u64),
    target: SnapshotTarget,
    state: Mutex<SnapshotState>,
    changed: Condvar,
}

#[derive(Default)]
struct SnapshotState {
    /// Whether the ledger has changed since the last snapshot began.
    is_due: bool,
    /// Whether the ledger is being closed: the last snapshot is written at once.
    is_closing: bool,
    is_finished: bool,
    interrupt: Option<InterruptHandle>,
}

impl SnapshotFile {
    /// Starts the thread, which writes the first snapshot at once: of the ledger at `ledger`,
    /// as long as that is the file with this device and inode.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(
        ledger: &Path,
        identity: (u64, u64),
        target: SnapshotTarget,
    ) -> io::Result<Self> {
        let close_timeout = target.close_timeout;
        let shared = Arc::new(Shared {
            ledger: ledger.to_owned(),
            identity,
            target,
            state: Mutex::new(SnapshotState {
                is_due: true,
                ..SnapshotState::default()
            }),
            changed: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ledger-snapshot".to_owned());
        Ok(Self {
            thread: Some(thread.spawn(move || worker.run())?),
            shared,
            close_timeout,
        })
    }

    /// Notes that a commit changed the ledger.
    pub(super) fn note_change(&self) {
        self.shared.lock().is_due = true;
        self.shared.changed.notify_all();
    }

    /// Writes the last snapshot, if that does not take longer than a stop waits for it.
    pub(super) fn close(self) {
        let deadline = Instant::now() + self.close_timeout;
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.shared.changed.notify_all();
        while !state.is_finished {
            let now = Instant::now();
            if now >= deadline {
                tracing::debug!("the last snapshot of the ledger was not finished in time");
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for SnapshotFile {
    /// Gives up a running copy, and starts none any more.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.is_closing, state.is_due) = (true, false);
        if let Some(interrupt) = state.interrupt.take() {
            interrupt.interrupt();
        }
        drop(state);
        self.shared.changed.notify_all();
        // The thread closes its connection before the writer closes its own.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, SnapshotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut last_start: Option<Instant> = None;
        let mut interval = INTERVAL;
        let mut reported = None;
        while self.wait(last_start, interval) {
            let start = Instant::now();
            last_start = Some(start);
            let written = self.write();
            interval = INTERVAL.max(start.elapsed() * REST);
            self.lock().interrupt = None;
            match written {
                Ok(()) | Err(SnapshotError::GivenUp) => reported = None,
                Err(SnapshotError::Off) => break,
                Err(error) if reported.as_ref() == Some(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        "cannot write the snapshot of the ledger {}: {error}; where no rekeyd runs, \
                         members of its group see an older one or none",
                        self.target.path.display()
                    );
                    reported = Some(error);
                }
            }
        }
        self.lock().is_finished = true;
        self.changed.notify_all();
    }

    /// Waits until a snapshot is due. Returns false at the end.
    fn wait(&self, last_start: Option<Instant>, interval: Duration) -> bool {
        let mut state = self.lock();
        loop {
            let rest =
                last_start.map_or(Duration::ZERO, |at| interval.saturating_sub(at.elapsed()));
            if state.is_due && (state.is_closing || rest.is_zero()) {
                state.is_due = false;
                return true;
            }
            if state.is_closing {
                return false;
            }
            let span = if state.is_due { rest } else { INTERVAL };
            let waited = self.changed.wait_timeout(state, span);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write(&self) -> Result<(), SnapshotError> {
        let target = &self.target.path;
        let folder = self.check_folder()?;
        self.check_identity()?;
        let unfinished = sibling_path(target, ".new");
        let file = create_empty(&unfinished)?;
        let copied = self.copy(&unfinished, &file, folder);
        if copied.is_err() {
            // The disk may be full.
            let _ = fs::remove_file(&unfinished);
        }
        copied
    }

    /// Copies the ledger into the empty file, and gives it to the group of the folder.
    fn copy(&self, unfinished: &Path, file: &File, group: u32) -> Result<(), SnapshotError> {
        let target = &self.target.path;
        let failed = |error: io::Error| io_error(target, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.ledger, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        foreign_schema::distrust(&connection)?;
        {
            let mut state = self.lock();
            state.interrupt = Some(connection.get_interrupt_handle());
        }
        let name = unfinished.to_str();
        let name = name.ok_or_else(|| failed(io::Error::other("its path is not valid UTF-8")))?;
        let taken_at = SystemTime::from((self.target.now)());
        connection.execute("VACUUM main INTO ?1", [name])?;
        drop(connection);
        // It is that of the ledger which the writer has.
        self.check_identity()?;
        let found = file.metadata().map_err(failed)?;
        if found.gid() != group {
            fchown(file.as_fd(), None, Some(group)).map_err(failed)?;
        }
        let mode = Permissions::from_mode(SNAPSHOT_MODE);
        file.set_permissions(mode).map_err(failed)?;
        file.set_modified(taken_at).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(unfinished, target).map_err(failed)?;
        sync_folder_of(target).map_err(failed)
    }

    /// Checks that what the path of the ledger leads to is what the writer opened.
    fn check_identity(&self) -> Result<(), SnapshotError> {
        let found = self.ledger.metadata();
        let is_same = found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        is_same.then_some(()).ok_or(SnapshotError::GivenUp)
    }

    /// Checks the folder, and makes it if it is missing. Returns its group.
    fn check_folder(&self) -> Result<u32, SnapshotError> {
        let folder = parent_directory(&self.target.path);
        let failed = |error: io::Error| io_error(folder, &error);
        match folder.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound && self.target.makes_folder => {
                let mut builder = fs::DirBuilder::new();
                builder.mode(FOLDER_MODE).create(folder).map_err(failed)?;
                // The umask has taken rights from the mode.
                let mode = Permissions::from_mode(FOLDER_MODE);
                fs::set_permissions(folder, mode).map_err(failed)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(SnapshotError::Off),
            Err(error) => return Err(failed(error)),
            Ok(_) => {}
        }
        if let Some(weakness) = (self.target.find_weakness)(folder).map_err(failed)? {
            return Err(SnapshotError::Weak(weakness));
        }
        let found = folder.symlink_metadata().map_err(failed)?;
        let own = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != own || found.mode() & FORBIDDEN_RIGHTS != 0 {
            return Err(SnapshotError::OpenFolder(folder.to_owned()));
        }
        Ok(found.gid())
    }
}

/// Returns the command that makes a folder one for snapshots.
fn folder_command(folder: &Path) -> String {
    let own = rustix::process::geteuid().as_raw();
    let folder = quote(&folder.to_string_lossy());
    format!("chown {own} {folder} && chmod 0750 {folder}")
}

/// Creates an empty file that only its owner can read, in place of what an interrupted
/// attempt left. SQLite writes into an empty file.
fn create_empty(path: &Path) -> Result<File, SnapshotError> {
    let failed = |error: io::Error| io_error(path, &error);
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(failed)
}

fn io_error(path: &Path, error: &io::Error) -> SnapshotError {
    SnapshotError::Io {
        path: path.to_owned(),
        reason: os_error::describe(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of one table, its snapshot, and the folder of both.
    struct World {
        dir: tempfile::TempDir,
        connection: Connection,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let connection = Connection::open(dir.path().join("ledger.db")).unwrap();
            connection
                .pragma_update(None, "journal_mode", "WAL")
                .unwrap();
            connection.execute_batch("CREATE TABLE a (b)").unwrap();
            Self { dir, connection }
        }

        fn target(&self, makes_folder: bool) -> SnapshotTarget {
            SnapshotTarget {
                path: self.dir.path().join("shown/ledger.db"),
                makes_folder,
                close_timeout: Duration::from_secs(30),
                now: || Timestamp::UNIX_EPOCH,
                find_weakness: |_| Ok(None),
            }
        }

        fn start(&self, makes_folder: bool) -> SnapshotFile {
            let ledger = self.dir.path().join("ledger.db");
            let found = fs::metadata(&ledger).unwrap();
            let identity = (found.dev(), found.ino());
            SnapshotFile::start(&ledger, identity, self.target(makes_folder)).unwrap()
        }

        fn insert(&self) {
            self.connection
                .execute("INSERT INTO a VALUES (1)", [])
                .unwrap();
        }

        /// Returns the number of rows in the snapshot.
        fn rows_shown(&self) -> Option<u32> {
            let path = self.target(true).path;
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = Connection::open_with_flags(path, flags).ok()?;
            let sql = "SELECT count(*) FROM a";
            Some(connection.query_row(sql, [], |row| row.get(0)).unwrap())
        }
    }

    #[test]
    fn last_commit_is_shown_to_the_group_alone() {
        let world = World::new();
        let snapshot = world.start(true);
        world.insert();
        snapshot.note_change();
        snapshot.close();
        assert_eq!(world.rows_shown(), Some(1));
        let mode = |name: &str| {
            let found = fs::metadata(world.dir.path().join(name)).unwrap();
            (found.mode() & 0o7777, found.gid())
        };
        let (folder, group) = mode("shown");
        assert_eq!((folder, mode("shown/ledger.db")), (0o750, (0o640, group)));
        let taken_at = fs::metadata(world.target(true).path).unwrap().modified();
        assert_eq!(
            taken_at.unwrap(),
            SystemTime::UNIX_EPOCH,
            "when the copy began"
        );
        let entries = fs::read_dir(world.dir.path().join("shown")).unwrap();
        assert_eq!(entries.count(), 1, "one file without a log");
        // The first one of a process is always written.
        let before = fs::metadata(world.target(true).path).unwrap().ino();
        world.start(true).close();
        assert_ne!(
            fs::metadata(world.target(true).path).unwrap().ino(),
            before,
            "a start"
        );
    }

    /// A minute without a change, and a second change within a minute, write nothing.
    #[test]
    fn snapshot_is_taken_at_most_once_a_minute_and_only_after_a_change() {
        let world = World::new();
        let snapshot = world.start(true);
        while world.rows_shown().is_none() {
            std::thread::yield_now();
        }
        let inode = || fs::metadata(world.target(true).path).unwrap().ino();
        let first = inode();
        world.insert();
        snapshot.note_change();
        std::thread::yield_now();
        assert_eq!(
            (inode(), world.rows_shown()),
            (first, Some(0)),
            "within the minute"
        );
        snapshot.close();
        assert_eq!(world.rows_shown(), Some(1), "at the close");
        let second = inode();
        let snapshot = world.start(true);
        while inode() == second {
            std::thread::yield_now();
        }
        let third = inode();
        snapshot.close();
        assert_eq!(inode(), third, "nothing changed");
    }

    #[test]
    fn folder_that_others_can_use_gets_no_snapshot() {
        for mode in [0o755, 0o770, 0o751, 0o752] {
            let world = World::new();
            let folder = world.dir.path().join("shown");
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            world.start(true).close();
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{mode:o}");
        }
        // A folder that only its owner can read is as good as one with a group.
        let world = World::new();
        let folder = world.dir.path().join("shown");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        world.start(false).close();
        assert_eq!(world.rows_shown(), Some(0));
        // Without the default folder, there is none.
        let world = World::new();
        world.start(false).close();
        assert!(!world.dir.path().join("shown").exists());
    }

    #[test]
    fn ledger_that_was_replaced_is_not_shown() {
        let world = World::new();
        let snapshot = world.start(true);
        while world.rows_shown().is_none() {
            std::thread::yield_now();
        }
        world.insert();
        let ledger = world.dir.path().join("ledger.db");
        let other = world.dir.path().join("other.db");
        let connection = Connection::open(&other).unwrap();
        connection
            .execute_batch("CREATE TABLE a (b); INSERT INTO a VALUES (1), (2), (3)")
            .unwrap();
        drop(connection);
        fs::rename(&other, &ledger).unwrap();
        snapshot.note_change();
        snapshot.close();
        assert_eq!(world.rows_shown(), Some(0));
    }

    /// Where another user could put another folder, nothing is written.
    #[test]
    fn folder_that_could_be_exchanged_gets_no_snapshot() {
        let world = World::new();
        let ledger = world.dir.path().join("ledger.db");
        let found = fs::metadata(&ledger).unwrap();
        let target = SnapshotTarget {
            find_weakness: |_| Ok(Some("a folder is world-writable".to_owned())),
            ..world.target(true)
        };
        let identity = (found.dev(), found.ino());
        SnapshotFile::start(&ledger, identity, target)
            .unwrap()
            .close();
        assert_eq!(world.rows_shown(), None);
    }

    /// A copy that takes longer than a stop waits is given up, and leaves nothing.
    #[test]
    fn stop_does_not_wait_for_a_long_copy() {
        let world = World::new();
        let mut snapshot = world.start(true);
        while world.rows_shown().is_none() {
            std::thread::yield_now();
        }
        // No copy can begin: the thread is held up by its own state.
        let shared = Arc::clone(&snapshot.shared);
        let started = Instant::now();
        snapshot.close_timeout = Duration::ZERO;
        world.insert();
        shared.lock().is_due = true;
        snapshot.close();
        assert!(started.elapsed() < Duration::from_secs(20));
        let left = fs::read_dir(world.dir.path().join("shown")).unwrap();
        assert_eq!(left.count(), 1);
    }
}
