//! The rotations that operators requested without waiting for them: a restart keeps them
//! until they start.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde_json::{Map, Value};

use crate::core::change::{Change, OperatorNote, RotationChange};
use crate::core::ids::KeyName;
use crate::core::ledger_event::LedgerEventKind;
use crate::core::state::Trigger;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};

/// A requested rotation that has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The key.
    pub key: KeyName,
    /// When it was requested first.
    pub at: Timestamp,
    /// Whether every older credential is revoked as soon as the new one is current.
    pub revoke_previous: bool,
    /// The targets whose keys the rotation may replace, although this ledger did not write
    /// them.
    pub replace_targets: Vec<String>,
    /// The operator of the latest request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// Returns whether changes start a rotation on request, which ends the request.
pub(super) fn starts_on_request(changes: &[Change]) -> bool {
    changes.iter().any(|change| {
        matches!(
            change,
            Change::Rotation(RotationChange::Started(intent)) if intent.trigger == Trigger::Manual
        )
    })
}

/// Records a request. It is merged with an earlier one of the same key.
pub(super) fn insert(
    connection: &Connection,
    request: &RecordedRequest,
) -> Result<(), LedgerError> {
    let note = request.operator.as_ref();
    let by = note.map(|note| note.by.as_str());
    let reason = note.and_then(|note| note.reason.as_deref());
    connection
        .prepare_cached(
            "INSERT INTO rotation_request
                 (key, requested_at, revoke_previous, replace_targets, requested_by, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (key) DO UPDATE SET
                 revoke_previous = max(revoke_previous, excluded.revoke_previous),
                 replace_targets = coalesce(excluded.replace_targets, replace_targets),
                 requested_by = excluded.requested_by, reason = excluded.reason",
        )?
        .execute(params![
            request.key.as_str(),
            SqlTimestamp(request.at),
            request.revoke_previous,
            rows::targets_text(&request.replace_targets),
            by,
            reason
        ])?;
    let detail = [("by", by), ("reason", reason)].into_iter();
    let detail = detail.filter_map(|(name, text)| Some((name.to_owned(), text?.into())));
    let detail = Value::Object(detail.collect::<Map<_, _>>());
    connection
        .prepare_cached(
            "INSERT INTO event_log (at, rotation_row, key, event, detail)
             VALUES (?1, NULL, ?2, ?3, ?4)",
        )?
        .execute(params![
            SqlTimestamp(request.at),
            request.key.as_str(),
            LedgerEventKind::RotationRequested.as_str(),
            detail.to_string()
        ])?;
    Ok(())
}

/// Removes the request of a key.
pub(super) fn remove(connection: &Connection, key: &KeyName) -> Result<(), LedgerError> {
    connection
        .prepare_cached("DELETE FROM rotation_request WHERE key = ?1")?
        .execute([key.as_str()])?;
    Ok(())
}

/// Removes all requests, and returns their keys. A restored ledger holds requests that were
/// carried out since.
pub(super) fn remove_all(connection: &Connection) -> Result<Vec<KeyName>, LedgerError> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'rotation_request'";
    let tables: usize = connection.query_row(table, [], |row| row.get(0))?;
    if tables == 0 {
        // A ledger of the first release.
        return Ok(Vec::new());
    }
    let requests = read(connection)?;
    if !requests.is_empty() {
        connection.execute("DELETE FROM rotation_request WHERE true", [])?;
    }
    Ok(requests.into_iter().map(|request| request.key).collect())
}

/// Returns the requests that have not started, by key.
pub(super) fn read(connection: &Connection) -> Result<Vec<RecordedRequest>, LedgerError> {
    let mut query = connection.prepare(
        "SELECT key, requested_at, revoke_previous, replace_targets, requested_by, reason
         FROM rotation_request ORDER BY key",
    )?;
    let requests = query.query_map([], |row| {
        let reason = row.get("reason")?;
        let by: Option<String> = row.get("requested_by")?;
        Ok(RecordedRequest {
            key: rows::key_column(row)?,
            at: row.get::<_, SqlTimestamp>("requested_at")?.0,
            revoke_previous: row.get("revoke_previous")?,
            replace_targets: rows::parse_targets(row.get("replace_targets")?),
            operator: by.map(|by| OperatorNote { by, reason }),
        })
    })?;
    Ok(requests.collect::<rusqlite::Result<_>>()?)
}
