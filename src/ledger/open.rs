//! Opens the ledger for writing: settings, migrations, whose it is.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;

/// The steps from an empty file to the newest ledger. Shipped ones never
/// change.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../migrations/0001_ledger.sql"),
    include_str!("../../migrations/0002_timetable.sql"),
    include_str!("../../migrations/0003_after.sql"),
    include_str!("../../migrations/0004_notify.sql"),
    include_str!("../../migrations/0005_steps.sql"),
    include_str!("../../migrations/0006_final_warning.sql"),
];

/// The version that this rekeyd writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Readers hold the file for moments only; more than this is a fault.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The length of a short log, in pages. A rotation writes fifty.
pub const SHORT_WAL_PAGES: u32 = 200;

/// What is wrong with a file that may only be read.
pub(super) const READ_ONLY_REASON: &str =
    "it or its folder is read-only; rekeyd must be able to write both";

/// What is wrong with a path at which a folder stands.
pub(super) const IS_DIRECTORY_REASON: &str = "it is a folder; give the path of a file";

/// What is wrong with a database that rekeyd did not make.
const NOT_A_LEDGER_REASON: &str =
    "it is a database of something else; give the ledger a file of its own";

/// Whose credentials a ledger tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The provider's base URL.
    pub provider: String,
    /// The organization, empty where none is configured.
    pub organization: String,
}

impl std::fmt::Display for LedgerIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.organization.as_str() {
            "" => write!(formatter, "{} without an organization", self.provider),
            organization => write!(
                formatter,
                "{} with the organization {organization}",
                self.provider
            ),
        }
    }
}

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

/// The machine that a ledger is opened on.
#[derive(Debug, Clone, Default)]
pub struct HostIdentity {
    /// Its id, if it has one: without one there is nothing to compare.
    pub id: Option<String>,
    /// Whether a ledger that was last written on another becomes this one's.
    pub can_take_over: bool,
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
    let (identity, machine) = (&options.identity, &options.host);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite opens such a file all the same, and refuses the first write.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(LedgerError::Open {
            path: path.to_owned(),
            reason: READ_ONLY_REASON.to_owned(),
        });
    }
    let done = schema_version(connection, path)?;
    let ours = machine.id.as_deref();
    let mut theirs = None;
    if done > 0 {
        // An older rekeyd that this ledger belongs to could not read it any more
        // once it is brought up to date.
        check_identity(connection, path, identity)?;
        if !machine.can_take_over {
            theirs = check_host(connection, path, ours)?;
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if options.is_synced { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    if let Some(pages) = options.wal_pages {
        connection.pragma_update(None, "wal_autocheckpoint", pages)?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    // What undoes one job of a batch is small, and no file is made for it.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Readers of another user could not open a ledger whose -wal and -shm are
    // gone, since they may not make them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Otherwise SQLite plans a statement anew with each value that is compared
    // with a column of a partial index; the plans would be the same.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(128);
    migrate(connection, done)?;
    bind_identity(connection, now, identity)?;
    if let Some(ours) = ours
        && theirs.as_deref() != Some(ours)
    {
        connection.execute("UPDATE identity SET machine = ?1", [ours])?;
    }
    // What was wrong with an earlier process says nothing of this one. Where
    // this cannot be written, nothing can, and that is told by others.
    // Without the WHERE an empty table is written anew too, and synced.
    let _ = connection.execute("DELETE FROM condition WHERE true", []);
    Ok(())
}

/// The version of a ledger that this rekeyd can write or bring up to date; 0 if
/// it is still empty.
pub(super) fn schema_version(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > SCHEMA_VERSION {
        return Err(LedgerError::NewerVersion {
            path: path.to_owned(),
            found_version: found,
            supported_version: SCHEMA_VERSION,
        });
    }
    if found == 0 {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema)";
        if connection.query_row(sql, [], |row| row.get(0))? {
            return Err(LedgerError::Open {
                path: path.to_owned(),
                reason: NOT_A_LEDGER_REASON.to_owned(),
            });
        }
    }
    Ok(found)
}

/// Takes the steps that come after version `done`.
fn migrate(connection: &mut Connection, done: i64) -> Result<(), LedgerError> {
    let done = usize::try_from(done).unwrap_or_default();
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Notes whose ledger it is, where that is not told yet; another's is refused
/// before.
fn bind_identity(
    connection: &Connection,
    now: Timestamp,
    ours: &LedgerIdentity,
) -> Result<(), LedgerError> {
    match read_identity(connection)? {
        Some(theirs) if theirs == *ours => Ok(()),
        // Of a ledger that tells of nothing yet, nothing can go wrong: a service
        // that was started before it was configured.
        Some(_) => {
            connection.execute(
                "UPDATE identity SET provider = ?1, organization = ?2",
                rusqlite::params![ours.provider, ours.organization],
            )?;
            Ok(())
        }
        None => {
            connection.execute(
                "INSERT INTO identity (id, provider, organization, made_at) VALUES (1, ?1, ?2, ?3)",
                rusqlite::params![ours.provider, ours.organization, SqlTimestamp(now)],
            )?;
            Ok(())
        }
    }
}

fn read_identity(connection: &Connection) -> Result<Option<LedgerIdentity>, LedgerError> {
    let sql = "SELECT provider, organization FROM identity";
    let found = connection.query_row(sql, [], |row| {
        Ok(LedgerIdentity {
            provider: row.get(0)?,
            organization: row.get(1)?,
        })
    });
    Ok(found.optional()?)
}

fn identity_mismatch(path: &Path, theirs: &LedgerIdentity, ours: &LedgerIdentity) -> LedgerError {
    LedgerError::IdentityMismatch {
        path: path.to_owned(),
        recorded: theirs.to_string(),
        configured: ours.to_string(),
    }
}

/// Refuses a ledger that holds other credentials than `ours`.
pub(super) fn check_identity(
    connection: &Connection,
    path: &Path,
    ours: &LedgerIdentity,
) -> Result<(), LedgerError> {
    match read_identity(connection)? {
        Some(theirs) if theirs != *ours && !has_no_rotations(connection)? => {
            Err(identity_mismatch(path, &theirs, ours))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether no rotation was ever begun.
fn has_no_rotations(connection: &Connection) -> Result<bool, LedgerError> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM rotation)";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Refuses a ledger that was last written on another machine than `ours`. Gives
/// the one that it was written on. Where a machine has no id there is nothing to
/// compare.
///
/// # Errors
/// [`LedgerError::OtherHost`], or SQLite's.
pub(super) fn check_host(
    connection: &Connection,
    path: &Path,
    ours: Option<&str>,
) -> Result<Option<String>, LedgerError> {
    let sql = "SELECT machine FROM identity";
    let found = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    let theirs: Option<String> = found.flatten();
    match (theirs.as_deref(), ours) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(LedgerError::OtherHost {
            path: path.to_owned(),
        }),
        _ => Ok(theirs),
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
