//! Opens the ledger for writing: settings, migrations, whose it is.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use crate::ledger::error::LedgerError;
use crate::ledger::first_release;
use crate::ledger::identity::{self, HostIdentity, LedgerIdentity};
use crate::ledger::version::{self, FIRST_VERSION, LedgerVersion};

/// Readers hold the file for moments only; more than this is a fault.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The length of a short log, in pages. A rotation writes fifty.
pub const SHORT_WAL_PAGES: u32 = 200;

/// What is wrong with a file that may only be read.
pub(super) const READ_ONLY_REASON: &str =
    "it or its folder is read-only; rekeyd must be able to write both";

/// What is wrong with a path at which a folder stands.
pub(super) const IS_DIRECTORY_REASON: &str = "it is a folder; give the path of a file";

/// How a ledger is opened for writing.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Whose credentials it holds.
    pub identity: LedgerIdentity,
    /// The machine that opens it.
    pub host: HostIdentity,
    /// The length of the log, in pages, at which SQLite copies it into the
    /// ledger; SQLite's own limit if not given. A process that lives for one
    /// run sets [`SHORT_WAL_PAGES`]: whoever opens a ledger alone reads all of
    /// its log. For a process that lives long a longer log is cheaper.
    pub wal_pages: Option<u32>,
    /// Whether each commit is synced to the disk. Only simulations and
    /// benchmarks turn this off: their ledgers outlive no power failure.
    pub is_synced: bool,
}

impl LedgerOptions {
    /// The options of a long-lived writer that compares no machine.
    #[must_use]
    pub fn new(identity: LedgerIdentity) -> Self {
        Self {
            identity,
            host: HostIdentity::default(),
            wal_pages: None,
            is_synced: true,
        }
    }
}

/// Creates the ledger at `path` if there is none, migrates an older one and
/// records that it is this machine's. Take the [`crate::ledger::WriterLock`]
/// first.
///
/// # Errors
/// As [`crate::ledger::Ledger::open`].
pub fn prepare(path: &Path, options: &LedgerOptions, now: Timestamp) -> Result<(), LedgerError> {
    open(path, options, now).map(drop)
}

/// Opens or creates the ledger at `path` for its one writer, and records that
/// it is this machine's. One that was last written on another is refused unless
/// it is taken over; then nothing in it is changed.
pub(super) fn open(
    path: &Path,
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<Connection, LedgerError> {
    create_file(path)?;
    let mut connection =
        Connection::open(path).map_err(|error| classify_open_error(path, &error))?;
    let prepared = configure_and_migrate(&mut connection, path, now, options);
    prepared.map_err(|error| into_open_error(path, error))?;
    Ok(connection)
}

/// Opens an empty ledger in memory, for tests.
pub(super) fn open_in_memory(
    options: &LedgerOptions,
    now: Timestamp,
) -> Result<Connection, LedgerError> {
    let mut connection = Connection::open_in_memory()?;
    configure_and_migrate(&mut connection, Path::new(":memory:"), now, options)?;
    Ok(connection)
}

/// SQLite makes files by the umask alone; the contract says 0640.
fn create_file(path: &Path) -> Result<(), LedgerError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(LedgerError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
    }
}

fn configure_and_migrate(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
    options: &LedgerOptions,
) -> Result<(), LedgerError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite opens such a file all the same, and refuses the first write.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(LedgerError::Open {
            path: path.to_owned(),
            reason: READ_ONLY_REASON.to_owned(),
        });
    }
    let version = LedgerVersion::read(connection, path)?;
    let host = options.host.id.as_deref();
    // Before it is migrated: the rekeyd that it belongs to may be an older one,
    // which could not read it afterwards.
    identity::check_identity(connection, path, version, &options.identity)?;
    if !options.host.can_take_over {
        identity::check_host(connection, path, version, host)?;
    }
    configure(connection, options)?;
    migrate(connection, path, version)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What undoes one job of a batch is small, and no file is made for it. What
    // a migration holds in temporary files is as large as the ledger.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    identity::bind(connection, now, &options.identity, host)?;
    // Conditions of an earlier process say nothing about this one. A failure is
    // not worth an error: where this cannot be written, nothing can, and the
    // next commit says so. Without the WHERE SQLite writes and syncs an empty
    // table, too.
    let _ = connection.execute("DELETE FROM condition WHERE true", []);
    Ok(())
}

fn configure(connection: &Connection, options: &LedgerOptions) -> Result<(), LedgerError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if options.is_synced { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    if let Some(pages) = options.wal_pages {
        connection.pragma_update(None, "wal_autocheckpoint", pages)?;
    }
    // A migration drops tables that others refer to, and checks the references
    // at its end.
    connection.pragma_update(None, "foreign_keys", false)?;
    // Readers of another user could not open a ledger whose -wal and -shm are
    // gone, since they may not make them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Otherwise SQLite plans a statement anew with each value that is compared
    // with a column of a partial index; the plans would be the same.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    version: LedgerVersion,
) -> Result<(), LedgerError> {
    match version {
        LedgerVersion::Empty => version::migrate(connection, None),
        LedgerVersion::FirstRelease(former) => {
            first_release::migrate(connection, path, former)?;
            version::migrate(connection, Some(FIRST_VERSION))
        }
        LedgerVersion::Supported(done) => version::migrate(connection, Some(done)),
    }
}

/// Why the ledger cannot be opened: what SQLite says is put in words that say
/// what to do.
pub(super) fn into_open_error(path: &Path, error: LedgerError) -> LedgerError {
    if let LedgerError::Database(error) = &error {
        classify_open_error(path, error.inner())
    } else {
        error
    }
}

/// SQLite's error on opening, in words that say what to do.
fn classify_open_error(path: &Path, error: &rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if path.is_dir() => LedgerError::Open {
            path,
            reason: IS_DIRECTORY_REASON.to_owned(),
        },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            LedgerError::NotADatabase { path }
        }
        Some(ErrorCode::ReadOnly) => LedgerError::Open {
            path,
            reason: READ_ONLY_REASON.to_owned(),
        },
        Some(ErrorCode::CannotOpen) => LedgerError::Open {
            path,
            reason: "SQLite cannot open the file; rekeyd must be able to write it and its folder"
                .to_owned(),
        },
        Some(_) | None => LedgerError::Open {
            path,
            reason: error.to_string(),
        },
    }
}
