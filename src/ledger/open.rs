//! Opens the ledger for writing: settings, migrations and identity.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use crate::core::first_few::join_few;
use crate::core::os_error;
use crate::ledger::checkpoint::{Checkpoints, check_integrity};
use crate::ledger::checkpoint_note::{
    CheckpointNote, FileStamp, LogOrigin, check_note, foreign_log, log_origin, log_that_damages,
};
use crate::ledger::copy_in_memory::{LastCopy, LedgerCopy};
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::first_release;
use crate::ledger::foreign_schema;
use crate::ledger::free_space::{FreeSpace, disk_advice};
use crate::ledger::group_commit::{WriteOperation, run_transaction};
use crate::ledger::identity::{self, ConfigurationIdentity, HostIdentity, LedgerIdentity};
use crate::ledger::ledger_file::{
    IS_DIRECTORY_REASON, READ_ONLY_REASON, cannot_open, check_regular, create_if_missing,
    narrow_modes,
};
use crate::ledger::lock::WriterLock;
use crate::ledger::page_check::PageCheck;
use crate::ledger::paths::files_to_check;
use crate::ledger::rotation_request;
use crate::ledger::snapshot_file::{SnapshotFile, SnapshotTarget};
use crate::ledger::version::{self, FIRST_VERSION, LedgerVersion};
use crate::ledger::watch::{FileActivity, FileWatch};

/// How long SQLite waits for a lock. Readers hold theirs only for moments.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The length of a short write-ahead log, in pages. A rotation writes 50.
pub const SHORT_WAL_PAGES: u32 = 200;

/// How a ledger is opened for writing.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// The provider and organization whose credentials it records.
    pub identity: LedgerIdentity,
    /// The host that opens it.
    pub host: HostIdentity,
    /// The configuration that it is opened with.
    pub configuration: ConfigurationIdentity,
    /// The length of the write-ahead log, in pages, at which it is copied into the
    /// ledger; 1000 if not given. A short-lived process sets
    /// [`SHORT_WAL_PAGES`], because the only process that opens a ledger reads the whole
    /// log. A longer log is cheaper for a long-lived process.
    pub wal_pages: Option<u32>,
    /// Whether the pages are checked beside the work, after reconciliations and reloads.
    pub checks_pages: bool,
    /// Where users who may not open the ledger read it while no daemon runs, if anywhere.
    pub snapshot: Option<SnapshotTarget>,
    /// Whether each commit is synced to the disk. Only simulations and benchmarks turn
    /// this off, whose ledgers need not survive a power failure.
    pub is_synced: bool,
}

impl LedgerOptions {
    /// Returns the options of a long-lived writer that does not check the host.
    #[must_use]
    pub fn new(identity: LedgerIdentity) -> Self {
        Self {
            identity,
            host: HostIdentity::default(),
            configuration: ConfigurationIdentity::default(),
            wal_pages: None,
            checks_pages: false,
            snapshot: None,
            is_synced: true,
        }
    }
}

/// The writer's connection to a ledger.
pub(super) struct OpenLedger {
    // Its connection is closed first.
    snapshot: Option<SnapshotFile>,
    /// The number of rows that were changed when a snapshot became due last.
    changes: u64,
    // Closed before the lock's descriptors are.
    pub(super) connection: Connection,
    checkpoints: Checkpoints,
    /// None without a lock, in tests and simulations.
    watch: Option<FileWatch>,
    space: Option<FreeSpace>,
    pages: Option<PageCheck>,
    last_copy: LastCopy,
    lock: Option<WriterLock>,
}

impl OpenLedger {
    /// Returns a ledger in memory, for tests.
    pub(super) fn in_memory(connection: Connection) -> Self {
        Self {
            snapshot: None,
            changes: 0,
            connection,
            checkpoints: Checkpoints::new(None, None, None),
            watch: None,
            space: None,
            pages: None,
            last_copy: LastCopy::default(),
            lock: None,
        }
    }

    /// Has `pages` check the ledger when another process writes it.
    pub(super) fn check_pages_with(&mut self, pages: PageCheck) {
        self.pages = Some(pages);
    }

    /// Checks that the ledger is still this process's, and that its files are undamaged.
    /// Returns their size in bytes, as far as they are watched.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], or [`LedgerError::Locked`]: another process took one of
    /// its locks.
    pub(super) fn check(&mut self) -> Result<u64, LedgerError> {
        let watched = self.check_watched();
        // A removed lock file is created again even beside damaged files: no second writer
        // may start while this process runs.
        let locked = self.lock.as_mut().map_or(Ok(()), WriterLock::check);
        let size = watched?;
        locked.map(|()| size)
    }

    fn check_watched(&mut self) -> Result<u64, LedgerError> {
        let Some(watch) = &mut self.watch else {
            return Ok(0);
        };
        if watch.check(&self.connection)? == FileActivity::Foreign
            && let Some(pages) = &self.pages
            && let Some(written) = watch.ledger_stamp()
        {
            pages.start_soon(written);
        }
        Ok(watch.total_size())
    }

    /// Runs operations in one transaction, see [`run_transaction`].
    ///
    /// # Errors
    /// That of the transaction.
    pub(super) fn run_transaction(
        &mut self,
        operations: &mut [Box<dyn WriteOperation>],
    ) -> Result<(), LedgerError> {
        let content = self.watch.as_mut().map(FileWatch::content);
        run_transaction(&self.connection, operations, content)
    }

    /// Returns the outcome of a transaction with this result: a damaged file makes it fail.
    pub(super) fn finish_commit(
        &mut self,
        committed: Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let Some(watch) = &mut self.watch else {
            return committed;
        };
        if let Some(space) = &mut self.space {
            match &committed {
                Ok(()) => space.note_commit(self.checkpoints.size_of_last_commit()),
                Err(error) if error.is_content_error() => {}
                Err(_) => space.note_failure(),
            }
        }
        let space = self.space.as_ref();
        committed.map_err(|error| {
            let error = watch.mark_if_damaged(error);
            space
                .map(|space| space.explain(error.clone()))
                .unwrap_or(error)
        })?;
        watch.note_commit();
        self.check_watched()?;
        Ok(())
    }

    /// Checks that the disk has room for what the ledger writes.
    ///
    /// # Errors
    /// [`LedgerError::NoRoom`].
    pub(super) fn check_room(&mut self) -> Result<(), LedgerError> {
        self.space.as_mut().map_or(Ok(()), FreeSpace::check)
    }

    /// Returns a copy of the ledger, as long as its files are those that were opened. Those who
    /// ask between two commits share one.
    ///
    /// # Errors
    /// As [`OpenLedger::check`], or the ledger cannot be read or is too large.
    pub(super) fn copy(&mut self) -> Result<Arc<LedgerCopy>, LedgerError> {
        self.check()?;
        let copied = self.last_copy.renew(&mut self.connection);
        let copied = copied.map_err(|error| match &mut self.watch {
            Some(watch) => watch.mark_if_damaged(error),
            None => error,
        })?;
        self.check()?;
        Ok(copied)
    }

    /// Notes that a snapshot is due, if the last transaction changed anything.
    pub(super) fn note_change(&mut self) {
        let changes = self.connection.total_changes();
        if let Some(snapshot) = &self.snapshot
            && changes != self.changes
        {
            snapshot.note_change();
        }
        self.changes = changes;
    }

    /// Copies the log into the ledger if it has become long. The next check reports damage.
    pub(super) fn checkpoint_if_long(&mut self) {
        let copied = self.checkpoints.after_commit(&self.connection);
        let Some(watch) = &mut self.watch else { return };
        match copied {
            Ok(Some(is_complete)) => watch.note_own_checkpoint(&self.connection, is_complete),
            Ok(None) => {}
            Err(error) => {
                watch.note_failed_checkpoint();
                drop(watch.mark_if_damaged(error));
            }
        }
    }

    /// Notes that the content is damaged, which the next check reports.
    pub(super) fn mark_damaged(&mut self, damage: LedgerDamage) {
        if let Some(watch) = &mut self.watch {
            drop(watch.mark(damage));
        }
    }

    /// Handles the result of a check of the pages. A ledger that another process wrote and
    /// that is undamaged is noted, so that its log counts after a kill.
    pub(super) fn finish_page_check(&mut self, found: Result<Option<FileStamp>, String>) {
        let Some(watch) = &mut self.watch else { return };
        match found {
            Ok(Some(written)) if watch.ledger_stamp() == Some(written) => {
                watch.note_checkpoint();
                if let Err(error) = self.checkpoints.note_opened() {
                    tracing::debug!(%error, "cannot record what another process wrote");
                }
            }
            Ok(_) => {}
            // The next check reports it.
            Err(found) => drop(watch.mark(LedgerDamage::Malformed(found))),
        }
    }

    /// Records in the lock file at which socket this process answers.
    pub(super) fn record_socket(&mut self, socket: Option<PathBuf>) {
        if let Some(lock) = &mut self.lock {
            lock.record_socket(socket);
        }
    }

    /// Leaves the ledger as one file at an orderly stop. Damaged files stay as they are.
    pub(super) fn close(mut self, ended_at: Option<Timestamp>) {
        if let (Some(lock), Some(at)) = (&mut self.lock, ended_at) {
            lock.record_end(at);
        }
        if let Some(pages) = &self.pages {
            pages.stop();
        }
        let snapshot = self.snapshot.take();
        if self.check_watched().is_ok() {
            if let Some(snapshot) = snapshot {
                snapshot.close();
            }
            self.checkpoints.close(&self.connection);
        }
    }
}

/// Creates the ledger of `lock` if there is none, migrates an older one, and records the
/// host.
///
/// # Errors
/// As [`crate::ledger::Ledger::open`].
pub fn prepare(
    lock: WriterLock,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<(), LedgerError> {
    open_locked(lock, options, now).map(drop)
}

/// As [`prepare`], without a lock, for tests.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_unlocked(
    path: &Path,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<(), LedgerError> {
    open(path, None, options, now).map(drop)
}

/// Opens or creates the ledger of `lock`, and records the host. A ledger that another host
/// wrote last is rejected unchanged, unless it is taken over.
pub(super) fn open_locked(
    lock: WriterLock,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<OpenLedger, LedgerError> {
    let path = lock.ledger().to_owned();
    open(&path, Some(lock), options, now)
}

/// As [`open_locked`], without a lock in tests and simulations.
pub(super) fn open(
    path: &Path,
    lock: Option<WriterLock>,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<OpenLedger, LedgerError> {
    if lock.is_none() {
        create_if_missing(path)?;
        // Readers do not miss the note of a ledger that has none in tests and simulations.
        CheckpointNote::open(path, options.is_synced)?;
    }
    for file in files_to_check(path) {
        check_regular(&file).map_err(|error| cannot_open(&file, &error))?;
    }
    if lock.is_some() {
        narrow_modes(path);
    }
    let origin = match &lock {
        Some(_) => {
            check_note(path)?;
            log_origin(path).map_err(|error| cannot_open(path, &error))?
        }
        None => LogOrigin::Own,
    };
    if let LogOrigin::Foreign(reason) = origin {
        return Err(foreign_log(path, reason));
    }
    let mut connection =
        Connection::open(path).map_err(|error| classify_open_error(path, &error))?;
    let prepared = prepare_connection(&mut connection, path, origin, lock.as_ref(), now, options);
    let checkpoints = prepared.map_err(|error| into_open_error(path, error))?;
    let watch = lock
        .as_ref()
        .map(|lock| FileWatch::new(path, &connection, lock.clone_descriptor()?));
    let snapshot = lock.as_ref().zip(options.snapshot.clone());
    Ok(OpenLedger {
        snapshot: snapshot.and_then(|(lock, target)| start_snapshots(lock, target)),
        changes: connection.total_changes(),
        watch: watch.transpose()?,
        space: lock.as_ref().map(|_| FreeSpace::new(path)),
        pages: None,
        last_copy: LastCopy::default(),
        connection,
        checkpoints,
        lock,
    })
}

/// Starts to write snapshots. Keys rotate without them.
fn start_snapshots(lock: &WriterLock, target: SnapshotTarget) -> Option<SnapshotFile> {
    let identity = lock.identity();
    let started = identity.and_then(|of| SnapshotFile::start(lock.ledger(), of, target));
    started
        .inspect_err(|error| {
            let reason = os_error::describe(error);
            tracing::warn!("cannot write snapshots of the ledger: {reason}");
        })
        .ok()
}

/// Prepares the connection to the ledger of `lock`, whose log has this origin.
fn prepare_connection(
    connection: &mut Connection,
    path: &Path,
    origin: LogOrigin,
    lock: Option<&WriterLock>,
    now: Timestamp,
    options: &LedgerOptions,
) -> Result<Checkpoints, LedgerError> {
    // Before anything can be rejected: the files of a rejected ledger stay as they are. Nor
    // could readers of another user open a ledger without its -wal and -shm files, because
    // they may not create them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    foreign_schema::distrust(connection)?;
    // Before any check that runs SQL of the schema. If the file cannot be written, or its
    // version cannot be read, the steps below say why: SQLite would make the files beside a
    // read-only one read-only, too.
    if !connection.is_readonly(rusqlite::MAIN_DB)?
        && let Ok(version) = LedgerVersion::read(connection, path)
    {
        foreign_schema::check(connection, path, version)?;
        if lock.is_some() {
            report_further_objects(connection, path, version)?;
        }
    }
    if origin.is_uncertain()
        && let Err(error) = check_integrity(connection)
    {
        return Err(if origin == LogOrigin::Unclear {
            log_that_damages(path, &error)
        } else {
            error
        });
    }
    let note = lock.map(|_| CheckpointNote::open(path, options.is_synced));
    let ledger_file = lock.map(WriterLock::clone_descriptor).transpose()?;
    let mut checkpoints = Checkpoints::new(note.transpose()?, ledger_file, options.wal_pages);
    configure_and_migrate(connection, path, now, options, origin, &mut checkpoints)?;
    if lock.is_some() && origin.may_lack_commits() {
        identity::forget_reconciliations(connection)?;
    }
    if lock.is_some() && origin.is_of_other_time() {
        for key in rotation_request::remove_all(connection)? {
            tracing::warn!(
                %key,
                "{key}: dropped a requested rotation: the ledger is a copy from another time, \
                 and the rotation may have happened since; hint: if it is still needed, run \
                 `rekeyd rotate {key}`"
            );
        }
    }
    Ok(checkpoints)
}

/// Logs which tables and indexes other programs have added.
fn report_further_objects(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
) -> Result<(), LedgerError> {
    let names = foreign_schema::further_objects(connection, version)?;
    if !names.is_empty() {
        tracing::info!(
            "the ledger {} has tables or indexes that rekeyd did not create, and that it leaves \
             alone: {}",
            path.display(),
            join_few(&names)
        );
    }
    Ok(())
}

/// Opens an empty ledger in memory, for tests.
pub(super) fn open_in_memory(
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<Connection, LedgerError> {
    let mut connection = Connection::open_in_memory()?;
    let mut checkpoints = Checkpoints::new(None, None, None);
    let (path, origin) = (Path::new(":memory:"), LogOrigin::Own);
    configure_and_migrate(
        &mut connection,
        path,
        now,
        options,
        origin,
        &mut checkpoints,
    )?;
    Ok(connection)
}

fn configure_and_migrate(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
    options: &LedgerOptions,
    origin: LogOrigin,
    checkpoints: &mut Checkpoints,
) -> Result<(), LedgerError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite opens a read-only file without an error, and rejects the first write.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(LedgerError::Open {
            path: path.to_owned(),
            reason: READ_ONLY_REASON.to_owned(),
        });
    }
    let version = LedgerVersion::read(connection, path)?;
    let host = options.host.id.as_deref();
    // The check precedes the migration: the ledger may belong to an older rekeyd, which
    // could not read it afterwards.
    identity::check_configuration(connection, path, version, &options.configuration)?;
    identity::check_identity(connection, path, version, &options.identity)?;
    if !options.host.can_take_over {
        identity::check_host(connection, path, version, host)?;
    }
    configure(connection, options)?;
    checkpoints.install(connection)?;
    match origin {
        // The first change of the mode, or a journal, may have changed the file.
        LogOrigin::Empty { .. } | LogOrigin::Own => checkpoints.note_opened()?,
        LogOrigin::Unclear => {
            checkpoints.run(connection, "PASSIVE")?;
        }
        LogOrigin::Foreign(_) => {}
    }
    foreign_schema::make_missing(connection, path, version)?;
    migrate(connection, path, version, checkpoints)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The data that undoes one operation of a batch is small, and needs no file. The
    // temporary data of a migration, before this, is as large as the ledger.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    begin_process(connection, options, now)
}

/// Records who writes the ledger from now on.
pub(super) fn begin_process(
    connection: &Connection,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<(), LedgerError> {
    identity::bind(
        connection,
        now,
        &options.identity,
        options.host.id.as_deref(),
        &options.configuration,
    )?;
    // The conditions of an earlier process do not apply to this one. An error is ignored,
    // because the next commit reports a ledger that cannot be written. Without the WHERE,
    // SQLite would write and sync even an empty table.
    let _ = connection.execute("DELETE FROM condition WHERE true", []);
    Ok(())
}

fn configure(connection: &Connection, options: &LedgerOptions) -> Result<(), LedgerError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if options.is_synced { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // A migration drops tables that others refer to, and checks the references at its
    // end.
    connection.pragma_update(None, "foreign_keys", false)?;
    // Without this, SQLite plans a statement again for each value that is compared with a
    // column of a partial index, with the same result.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    version: LedgerVersion,
    checkpoints: &mut Checkpoints,
) -> Result<(), LedgerError> {
    match version {
        LedgerVersion::Empty => {
            version::migrate(connection, None)?;
            // A ledger without its log is then never taken for one that was not written yet.
            checkpoints.copy_first_commit(connection)
        }
        LedgerVersion::FirstRelease(previous) => {
            first_release::migrate(connection, path, previous)?;
            // The log holds the whole ledger now. If readers keep it from being truncated,
            // SQLite reuses it from its beginning later.
            checkpoints.run(connection, "TRUNCATE")?;
            version::migrate(connection, Some(FIRST_VERSION))
        }
        LedgerVersion::Supported(previous) => version::migrate(connection, Some(previous)),
    }
}

/// Returns the error of a ledger that cannot be opened. An error of SQLite is replaced by
/// one that states the remedy.
pub(super) fn into_open_error(path: &Path, error: LedgerError) -> LedgerError {
    if let LedgerError::Database(error) = &error {
        classify_open_error(path, error.inner())
    } else {
        error
    }
}

/// Returns the error for SQLite's error on opening, with the remedy.
fn classify_open_error(path: &Path, error: &rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if path.is_dir() => LedgerError::Open {
            path,
            reason: IS_DIRECTORY_REASON.to_owned(),
        },
        Some(ErrorCode::NotADatabase) => LedgerError::NotADatabase { path },
        Some(ErrorCode::DatabaseCorrupt) => LedgerError::Open {
            path,
            reason: format!(
                "it is damaged ({error}); hint: restore the newest backup with `rekeyd restore \
                 PATH`"
            ),
        },
        Some(ErrorCode::ReadOnly) => LedgerError::Open {
            path,
            reason: READ_ONLY_REASON.to_owned(),
        },
        Some(ErrorCode::CannotOpen) => LedgerError::Open {
            path,
            reason: "SQLite cannot open it; hint: let rekeyd write to it and its folder".to_owned(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Locked {
            path,
            holder: "another program that writes to it".to_owned(),
        },
        Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull) => LedgerError::Open {
            path,
            reason: format!("{error}; hint: {}", disk_advice()),
        },
        Some(_) | None => LedgerError::Open {
            path,
            reason: error.to_string(),
        },
    }
}
