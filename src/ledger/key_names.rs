//! The names of keys: a key that was renamed keeps its rows and events under the former
//! names.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde_json::json;

use crate::core::decide::key_names::{RecordedNames, Rename};
use crate::core::ids::KeyName;
use crate::core::ledger_event::LedgerEventKind;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};

/// Every name of the key whose present name is the first parameter.
pub(super) const NAMES_OF_KEY: &str =
    "(SELECT ?1 UNION ALL SELECT key FROM key_state WHERE renamed_to = ?1)";

/// The present name of the key of a row of `rotation`, as the column `key`.
pub(super) const PRESENT_NAME: &str = "coalesce((SELECT n.renamed_to FROM key_state n
     WHERE n.key = rotation.key), rotation.key) AS key";

/// The columns of a key that a rename moves to its row with the new name.
const MOVED_COLUMNS: &str = "sequence, attempt, retry_at, last_error, failed_before_create,
    revoke_previous, replace_targets, timetable, counts_from, pending_run, due_run, dropped_run,
    dropped_runs, paused_from, paused_until, retired_at, retired_now";

/// Returns each former name with the present one.
pub(super) fn former_names(
    connection: &Connection,
) -> Result<BTreeMap<KeyName, KeyName>, LedgerError> {
    let mut statement = connection
        .prepare_cached("SELECT key, renamed_to FROM key_state WHERE renamed_to IS NOT NULL")?;
    let rows = statement.query_map([], |row| {
        let mut cells = rows::RowReader::new(row);
        Ok((cells.key_name()?, cells.key_name()?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the names of all keys.
pub(super) fn recorded_names(connection: &Connection) -> Result<RecordedNames, LedgerError> {
    let mut statement = connection
        .prepare_cached("SELECT key, sequence FROM key_state WHERE renamed_to IS NULL")?;
    let rows = statement.query_map([], |row| {
        let mut cells = rows::RowReader::new(row);
        Ok((cells.key_name()?, cells.get::<i64>()? > 0))
    })?;
    let present = rows.collect::<rusqlite::Result<BTreeMap<_, _>>>()?;
    let used = present.iter().filter(|(_, is_used)| **is_used);
    let used: BTreeSet<_> = used.map(|(key, _)| key.clone()).collect();
    Ok(RecordedNames {
        present: present.into_keys().collect(),
        used,
        former_names: former_names(connection)?,
    })
}

/// Renames keys, in one transaction of the caller's.
pub(super) fn rename(
    connection: &Connection,
    renames: &[Rename],
    at: Timestamp,
) -> Result<(), LedgerError> {
    for Rename { from, to } in renames {
        let (from, to) = (from.as_str(), to.as_str());
        // A row of the new name is of a key without rotations, or of a former name.
        let moved = MOVED_COLUMNS
            .split(',')
            .map(|column| format!("{column} = excluded.{}", column.trim()));
        let moved = moved.collect::<Vec<_>>().join(", ");
        connection.execute(
            &format!(
                "INSERT INTO key_state (key, {MOVED_COLUMNS})
                 SELECT ?2, {MOVED_COLUMNS} FROM key_state WHERE key = ?1
                 ON CONFLICT (key) DO UPDATE SET renamed_to = NULL, {moved}"
            ),
            [from, to],
        )?;
        connection.execute(
            "UPDATE key_state SET renamed_to = ?2
             WHERE (key = ?1 OR renamed_to = ?1) AND key <> ?2",
            [from, to],
        )?;
        connection.execute(
            "UPDATE OR REPLACE rotation_request SET key = ?2 WHERE key = ?1",
            [from, to],
        )?;
        connection.execute(
            "UPDATE OR REPLACE alert SET key = ?2 WHERE key = ?1",
            [from, to],
        )?;
        // Who was told of a failure is told of its end.
        connection.execute(
            "UPDATE notification SET key = ?2 WHERE key = ?1",
            [from, to],
        )?;
        let detail = json!({"from": from, "to": to}).to_string();
        connection.execute(
            "INSERT INTO event_log (at, key, event, detail) VALUES (?1, ?2, ?3, ?4)",
            params![
                SqlTimestamp(at),
                to,
                LedgerEventKind::KeyRenamed.as_str(),
                detail
            ],
        )?;
    }
    Ok(())
}
