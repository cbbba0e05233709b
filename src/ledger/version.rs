//! The version of a ledger's schema, and the migrations to the newest one.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use crate::ledger::error::LedgerError;

/// The `application_id` in the header of a SQLite file that is a ledger: "rkyd". Ledgers
/// of 0.1.0 have none.
pub(super) const APPLICATION_ID: i64 = 0x726b_7964;

/// The `application_id` in the header of an archive of a ledger: "rkya".
pub(super) const ARCHIVE_APPLICATION_ID: i64 = 0x726b_7961;

/// The version of a ledger after the first migration. 0.1.0 counted from 1 to 5, and
/// rejects every greater number as newer.
pub(super) const FIRST_VERSION: i64 = 100;

/// The newest version of a ledger of 0.1.0.
const LAST_VERSION_OF_FIRST_RELEASE: i64 = 5;

/// The migrations from an empty file to the newest schema. Those of a published release
/// never change.
static MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/0001_ledger.sql"),
    include_str!("../../migrations/0002_file_access.sql"),
    include_str!("../../migrations/0003_ended_keys.sql"),
    include_str!("../../migrations/0004_notifications.sql"),
    include_str!("../../migrations/0005_pruned_rotations.sql"),
];

/// The migrations of 0.1.0, to each of its versions.
static FIRST_RELEASE_MIGRATIONS: [&str; LAST_VERSION_OF_FIRST_RELEASE as usize] = [
    include_str!("../../migrations/first_release/schema/0001.sql"),
    include_str!("../../migrations/first_release/schema/0002.sql"),
    include_str!("../../migrations/first_release/schema/0003.sql"),
    include_str!("../../migrations/first_release/schema/0004.sql"),
    include_str!("../../migrations/first_release/schema/0005.sql"),
];

/// The version that this rekeyd writes.
pub const SCHEMA_VERSION: i64 = FIRST_VERSION - 1 + MIGRATIONS.len() as i64;

/// The reason why a database of another program cannot be opened.
const NOT_A_LEDGER_REASON: &str =
    "it is the database of another program; hint: give the ledger its own file";

/// The reason why a database with a ledger's tables and another header cannot be opened.
const WRONG_HEADER_REASON: &str = "it has rekeyd's tables, but the user_version or application_id in its header is not \
     rekeyd's, as after .dump of sqlite3; hint: stop rekeyd and restore the newest backup, \
     which keeps this file under another name: rekeyd restore BACKUP";

/// The reason why an archive cannot be opened as a ledger: every live credential would be
/// unknown.
const ARCHIVE_REASON: &str =
    "it is an archive, and no ledger; hint: `rekeyd history --archive FILE` shows it";

/// Counts the tables of a ledger, which no other program has by these names.
const LEDGER_TABLES: &str = "SELECT count(*) FROM sqlite_schema
     WHERE type = 'table' AND name IN ('rotation', 'key_state', 'delivery')";

/// The version of a file that this rekeyd can write or migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerVersion {
    /// A file without tables.
    Empty,
    /// A ledger of 0.1.0, with its version from 1 to 5.
    FirstRelease(i64),
    /// A ledger of a later release, not newer than [`SCHEMA_VERSION`].
    Supported(i64),
}

impl LedgerVersion {
    /// The version that this rekeyd writes.
    pub(super) const CURRENT: Self = Self::Supported(SCHEMA_VERSION);

    /// Reads the version of the ledger at `path`.
    ///
    /// # Errors
    /// The ledger is newer, the database is another program's, or SQLite failed.
    pub(super) fn read(connection: &Connection, path: &Path) -> Result<Self, LedgerError> {
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let version = number("PRAGMA user_version")?;
        let application_id = number("PRAGMA application_id")?;
        if application_id == APPLICATION_ID {
            return if version > SCHEMA_VERSION {
                Err(LedgerError::NewerVersion {
                    path: path.to_owned(),
                    found_version: version,
                    supported_version: SCHEMA_VERSION,
                })
            } else if version >= FIRST_VERSION {
                Ok(Self::Supported(version))
            } else {
                Err(wrong_header(path))
            };
        }
        let tables = "SELECT count(*) FROM sqlite_schema";
        let first_release_tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'
             AND name IN ('identity', 'key_state', 'rotation', 'delivery', 'journal_entry')";
        match (application_id, version) {
            (0, 0) if number(tables)? == 0 => Ok(Self::Empty),
            (0, 1..=LAST_VERSION_OF_FIRST_RELEASE) if number(first_release_tables)? == 5 => {
                Ok(Self::FirstRelease(version))
            }
            (ARCHIVE_APPLICATION_ID, _) => Err(LedgerError::Open {
                path: path.to_owned(),
                reason: ARCHIVE_REASON.to_owned(),
            }),
            _ if number(LEDGER_TABLES)? == 3 => Err(wrong_header(path)),
            _ => Err(not_a_ledger(path)),
        }
    }
}

/// Returns the error for a ledger whose header is not rekeyd's: a copy by `.dump`, or an
/// overwritten one. Without a version nothing says what its tables mean, and in another
/// ledger every live credential would be unknown.
fn wrong_header(path: &Path) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        reason: WRONG_HEADER_REASON.to_owned(),
    }
}

fn not_a_ledger(path: &Path) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        reason: NOT_A_LEDGER_REASON.to_owned(),
    }
}

/// Returns the migrations that made a ledger of this version.
pub(super) fn migrations_to(version: LedgerVersion) -> &'static [&'static str] {
    let (migrations, count): (&[&str], i64) = match version {
        LedgerVersion::Empty => (&[], 0),
        LedgerVersion::FirstRelease(version) => (&FIRST_RELEASE_MIGRATIONS, version),
        LedgerVersion::Supported(version) => (&MIGRATIONS, version - FIRST_VERSION + 1),
    };
    let count = usize::try_from(count).unwrap_or_default();
    &migrations[..count.min(migrations.len())]
}

/// Runs the migrations after `version`, or all of them without one, in one transaction
/// each. Foreign keys are not enforced meanwhile, so that a migration can replace a
/// table, and checked at the end of each.
pub(super) fn migrate(
    connection: &mut Connection,
    version: Option<i64>,
) -> Result<(), LedgerError> {
    let next = version.map_or(FIRST_VERSION, |version| version + 1);
    for version in next..=SCHEMA_VERSION {
        let transaction = connection.transaction()?;
        run_migration(&transaction, version)?;
        check_references(&transaction)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Migrates a ledger of the previous version to `version`.
fn run_migration(transaction: &Transaction<'_>, version: i64) -> Result<(), LedgerError> {
    let step = usize::try_from(version - FIRST_VERSION).unwrap_or_default();
    transaction.execute_batch(MIGRATIONS[step])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version)?;
    Ok(())
}

/// Creates the tables of the first version in a file that has none.
pub(super) fn create_first_schema(transaction: &Transaction<'_>) -> Result<(), LedgerError> {
    run_migration(transaction, FIRST_VERSION)
}

/// Checks that every reference between rows has its target.
pub(super) fn check_references(transaction: &Transaction<'_>) -> Result<(), LedgerError> {
    let broken = transaction
        .query_row("PRAGMA main.foreign_key_check", [], |row| row.get(0))
        .optional()?;
    match broken {
        None => Ok(()),
        Some(table) => {
            let table: String = table;
            Err(LedgerError::Corrupt(format!(
                "a row of {table} refers to a missing row"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// The ledger that a child process migrates, and the step at which it is killed.
    const CHILD_LEDGER: &str = "REKEYD_TEST_STEPPED_MIGRATION";
    const CHILD_LAST_STEP: &str = "REKEYD_TEST_LAST_STEP";

    /// Makes a ledger of the version before the newest one.
    fn former_ledger() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ledger-103.db");
        std::fs::copy(fixture, &path).unwrap();
        (dir, path)
    }

    /// Runs the migrations, and calls `at_step` before each step of SQLite, which ends them if
    /// it returns true. Steps are much shorter than the statements of a migration.
    fn migrate_in_steps(
        path: &Path,
        at_step: impl FnMut() -> bool + Send + 'static,
    ) -> Result<(), LedgerError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", false)?;
        let LedgerVersion::Supported(version) = LedgerVersion::read(&connection, path)? else {
            panic!("no ledger");
        };
        connection.progress_handler(1, Some(at_step))?;
        migrate(&mut connection, Some(version))
    }

    /// Returns the version, and the rows of tables whose columns no migration changes.
    fn read(path: &Path) -> (i64, Vec<String>) {
        let connection = Connection::open(path).unwrap();
        let check: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let sql = "SELECT 'event ' || seq || ' ' || detail FROM events
             UNION ALL SELECT 'rotation ' || id || ' ' || phase FROM rotation
             UNION ALL SELECT 'delivery ' || rotation_row || ' ' || sink || ' ' || state FROM delivery
             ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        let rows = rows.collect::<Result<_, _>>().unwrap();
        let LedgerVersion::Supported(version) = LedgerVersion::read(&connection, path).unwrap()
        else {
            panic!("no ledger");
        };
        (version, rows)
    }

    fn count_steps() -> u64 {
        let (_dir, path) = former_ledger();
        let steps = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&steps);
        migrate_in_steps(&path, move || {
            counter.fetch_add(1, Ordering::Relaxed);
            false
        })
        .unwrap();
        steps.load(Ordering::Relaxed)
    }

    /// Returns steps from the first one to the last one but one: in the last one, the change is
    /// committed.
    fn chosen(count: u64, tries: u64) -> impl Iterator<Item = u64> {
        (0..tries).map(move |number| 1 + number * (count - 2) / (tries - 1))
    }

    /// As on a full disk, or in a process that is killed.
    #[test]
    fn migration_that_ends_between_two_statements_leaves_the_former_ledger() {
        let (_dir, path) = former_ledger();
        let before = read(&path);
        assert_eq!(before.0, SCHEMA_VERSION - 1);
        assert!(!before.1.is_empty());
        let migrated = (SCHEMA_VERSION, before.1.clone());
        let count = count_steps();
        for last in chosen(count, 60) {
            let (_dir, path) = former_ledger();
            let mut step = 0;
            let failed = migrate_in_steps(&path, move || {
                step += 1;
                step >= last
            });
            assert!(failed.is_err(), "{last} of {count}");
            assert!(read(&path) == before, "{last} of {count}");
            migrate_in_steps(&path, || false).unwrap();
            assert!(read(&path) == migrated, "{last} of {count}");
        }
        for last in chosen(count, 6) {
            let (_dir, path) = former_ledger();
            let child = "ledger::version::tests::stepped_migration_child_process";
            let ended = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", child])
                .env(CHILD_LEDGER, &path)
                .env(CHILD_LAST_STEP, last.to_string())
                .output()
                .unwrap();
            assert_eq!(ended.status.code(), None, "{last} of {count}");
            assert!(read(&path) == before, "{last} of {count}");
            migrate_in_steps(&path, || false).unwrap();
            assert!(read(&path) == migrated, "{last} of {count}");
        }
    }

    /// The child of the test above; does nothing by itself.
    #[test]
    fn stepped_migration_child_process() {
        let Some(path) = std::env::var_os(CHILD_LEDGER).map(PathBuf::from) else {
            return;
        };
        let last: u64 = std::env::var(CHILD_LAST_STEP).unwrap().parse().unwrap();
        let mut step = 0;
        let ended = migrate_in_steps(&path, move || {
            step += 1;
            if step >= last {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            false
        });
        panic!("it was not killed: {ended:?}");
    }
}
