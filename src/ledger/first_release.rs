//! Migrates a ledger of rekeyd 0.1.0 to the first version of the present schema.
//!
//! Numbers, names and event words differ, so every row is copied. A copy of the ledger is
//! kept first. Then one transaction drops the former tables, creates the new ones and
//! fills them from the former ledger, which is attached a second time and shows the
//! committed data. Until that transaction is on disk, the file is a ledger of 0.1.0;
//! afterwards it is one of this release, and never anything in between.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::core::plural::counted;
use crate::core::secret::shorten_redacted;
use crate::ledger::error::LedgerError;
use crate::ledger::kept_file::{self, KeptFile};
use crate::ledger::paths::sqlite_url;
use crate::ledger::version;

/// The release that wrote such a ledger.
pub(super) const RELEASE: &str = "0.1.0";

const ROWS: &str = include_str!("../../migrations/first_release/rows.sql");
const NOTIFICATIONS: &str = include_str!("../../migrations/first_release/notifications.sql");

/// The first version of such a ledger that has notifications.
const NOTIFICATIONS_VERSION: i64 = 4;

const FORMER_VIEWS: [&str; 3] = ["history", "deliveries", "journal"];

/// The former tables, in an order that drops no table before one that refers to it, each
/// with the new table that must have as many rows.
const TABLES: [(&str, Option<&str>); 10] = [
    ("telling", Some("outbox_entry")),
    ("notice", Some("notification")),
    ("cause", Some("alert")),
    ("condition", None),
    ("stranger", Some("unknown_credential")),
    ("journal_entry", Some("event_log")),
    ("delivery", Some("delivery")),
    ("rotation", Some("rotation")),
    ("key_state", Some("key_state")),
    ("identity", Some("ledger_identity")),
];

/// Migrates the ledger at `path`, whose version is `former_version`. Foreign keys are not
/// enforced meanwhile, and checked at the end.
///
/// # Errors
/// The ledger is unchanged, unless the commit itself failed: then the next start finds
/// either the former or the migrated ledger.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    former_version: i64,
) -> Result<(), LedgerError> {
    tracing::info!(
        "migrating the ledger {} of rekeyd {RELEASE} (about 2 min per million rotations)",
        path.display()
    );
    let kept = kept_file::keep(connection, path, RELEASE)
        .and_then(|kept| {
            attach_and_convert(connection, path, former_version, &kept)?;
            Ok(kept)
        })
        .map_err(|error| into_migration_error(path, &error))?;
    tracing::info!(
        "migrated the ledger {} from version {former_version} of rekeyd {RELEASE} to version {}; \
         kept the old ledger as {}",
        path.display(),
        version::FIRST_VERSION,
        kept.path().display()
    );
    Ok(())
}

fn attach_and_convert(
    connection: &mut Connection,
    path: &Path,
    former_version: i64,
    kept: &KeptFile,
) -> Result<(), LedgerError> {
    connection.execute("ATTACH ?1 AS former", [sqlite_url(path, "mode=ro")?])?;
    let converted = convert(connection, former_version, kept);
    let detached = connection.execute("DETACH former", []);
    converted?;
    detached?;
    Ok(())
}

fn convert(
    connection: &mut Connection,
    former_version: i64,
    kept: &KeptFile,
) -> Result<(), LedgerError> {
    // The write lock is held from the beginning, so that `former` shows exactly the data
    // that this transaction replaces.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let filled = replace_tables(&transaction, former_version);
    if let Err(error) = filled {
        drop(transaction);
        kept.discard_if_new();
        return Err(error);
    }
    Ok(transaction.commit()?)
}

fn replace_tables(transaction: &Transaction<'_>, former_version: i64) -> Result<(), LedgerError> {
    for view in FORMER_VIEWS {
        transaction.execute_batch(&format!("DROP VIEW main.{view}"))?;
    }
    for (table, _) in TABLES {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS main.{table}"))?;
    }
    version::create_first_schema(transaction)?;
    let postponed = postpone_triggers_and_indexes(transaction)?;
    copy_rows(transaction, former_version)?;
    shorten_redacted_values(transaction)?;
    for sql in postponed {
        transaction.execute_batch(&sql)?;
    }
    check_copy(transaction)
}

/// Drops the triggers, which refuse rows in a later phase, and the indexes,
/// which are built faster afterwards. Returns the statements that create them.
fn postpone_triggers_and_indexes(
    transaction: &Transaction<'_>,
) -> Result<Vec<String>, LedgerError> {
    let mut query = transaction.prepare(
        "SELECT type, name, sql FROM main.sqlite_schema
         WHERE type IN ('trigger', 'index') AND sql IS NOT NULL ORDER BY rowid",
    )?;
    let objects = query.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
    })?;
    let objects = objects.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
    let mut statements = Vec::new();
    for (kind, name, sql) in objects {
        transaction.execute_batch(&format!("DROP {kind} main.{name}"))?;
        statements.push(sql);
    }
    Ok(statements)
}

fn copy_rows(transaction: &Transaction<'_>, former_version: i64) -> Result<(), LedgerError> {
    transaction.execute_batch(&former_views(former_version))?;
    transaction.execute_batch(ROWS)?;
    if former_version >= NOTIFICATIONS_VERSION {
        transaction.execute_batch(NOTIFICATIONS)?;
    }
    transaction.execute_batch("DROP VIEW temp.former_key_state; DROP VIEW temp.former_delivery")?;
    Ok(())
}

/// Shortens what the provider showed of secrets: 0.1.0 recorded it as it came, which may
/// be most of a secret.
fn shorten_redacted_values(transaction: &Transaction<'_>) -> Result<(), LedgerError> {
    let mut query = transaction
        .prepare("SELECT id, redacted_value FROM main.rotation WHERE redacted_value IS NOT NULL")?;
    let shown = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let shown = shown.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    let mut update =
        transaction.prepare("UPDATE main.rotation SET redacted_value = ?2 WHERE id = ?1")?;
    for (id, value) in shown {
        let short = shorten_redacted(&value);
        if short.as_ref() != Some(&value) {
            update.execute(params![id, short])?;
        }
    }
    Ok(())
}

/// Returns views of the tables to which later versions of 0.1.0 added columns, with all
/// of them.
fn former_views(former_version: i64) -> String {
    let timetable = if former_version < 2 {
        ", NULL AS timetable, NULL AS counts_from, NULL AS owed,
         NULL AS paused_from, NULL AS paused_until"
    } else {
        ""
    };
    let written_at = if former_version < 3 {
        ", NULL AS written_at"
    } else {
        ""
    };
    format!(
        "CREATE TEMP VIEW former_key_state AS SELECT *{timetable} FROM former.key_state;
         CREATE TEMP VIEW former_delivery AS SELECT *{written_at} FROM former.delivery"
    )
}

/// Checks the new tables before the commit: their numbers of rows, their references, and
/// their pages.
fn check_copy(transaction: &Transaction<'_>) -> Result<(), LedgerError> {
    for (former, table) in TABLES {
        let Some(table) = table else { continue };
        let exists = "SELECT EXISTS (SELECT 1 FROM former.sqlite_schema WHERE name = ?1)";
        if !transaction.query_row(exists, [former], |row| row.get(0))? {
            continue;
        }
        let sql = format!(
            "SELECT (SELECT count(*) FROM former.{former}), (SELECT count(*) FROM main.{table})"
        );
        let (expected, copied): (i64, i64) =
            transaction.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if expected != copied {
            return Err(LedgerError::Corrupt(format!(
                "{former} has {}, but {table} has {copied}",
                counted(expected, "row")
            )));
        }
    }
    version::check_references(transaction)?;
    kept_file::check_pages(transaction)
}

fn into_migration_error(path: &Path, error: &LedgerError) -> LedgerError {
    let is_full = matches!(error, LedgerError::Database(error) if error.is_disk_full());
    let reason = if is_full {
        "the disk is full; a migration needs room for two more ledgers in its folder, and for one \
         in /var/tmp"
            .to_owned()
    } else {
        error.to_string()
    };
    LedgerError::Migration {
        path: path.to_owned(),
        release: RELEASE,
        reason,
    }
}
