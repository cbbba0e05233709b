//! Moves the rows of rotations that ended long ago out of the ledger, after an archive has
//! them.
//!
//! What recognizes a credential stays in `pruned_rotation`, where the reconciliation, `audit`,
//! `adopt` and the checks of a create's answer look as well. A rotation whose credential is
//! seen alive gets its row back.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use crate::core::change::OperatorNote;
use crate::core::duration;
use crate::core::ids::RotationId;
use crate::core::ledger_event::LedgerEventKind;
use crate::core::time;
use crate::ledger::archive_stamp::{ArchiveStamp, ledger_number};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;

/// The age at which a rotation may be pruned at the earliest. The budgets of creates and the
/// checks of late creates read rows of the last days; this is far beyond.
pub const MIN_PRUNABLE_AGE: Duration = Duration::from_secs(30 * 86_400);

/// The rows of `rotation` and of `pruned_rotation`, as a table with the name `rotation`: what
/// recognizes a credential reads both.
pub(super) const WITH_PRUNED: &str = "(SELECT id, rotation, key, label, credential_id, phase,
         expires_at, revoked_at FROM rotation
     UNION ALL SELECT id, rotation, key, label, credential_id, phase,
         NULL, revoked_at FROM pruned_rotation) AS rotation";

/// What stays of a pruned rotation.
const KEPT_COLUMNS: &str = "id, rotation, key, scope, sequence, \"trigger\", started_at,
    not_created_before, label, credential_id, name, redacted_value, wrong_redaction,
    maybe_created, phase, revoked_at";

/// Every name of the key of `r`.
const NAMES: &str = "(SELECT n.key FROM key_state k JOIN key_state n
    ON n.key = coalesce(k.renamed_to, k.key) OR n.renamed_to = coalesce(k.renamed_to, k.key)
    WHERE k.key = r.key)";

/// An archived rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRotation {
    /// Its id.
    pub rotation: RotationId,
    /// The number of its newest event in the archive, zero without any: one with a newer event
    /// has changed since.
    pub last_event: i64,
}

/// Archived rotations that leave the ledger together.
#[derive(Debug, Clone)]
pub struct PruneBatch {
    /// The archive that has them.
    pub archive: ArchiveStamp,
    /// The rotations.
    pub rotations: Vec<ArchivedRotation>,
    /// The operator of the request, and the reason.
    pub operator: OperatorNote,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedRows {
    /// The rotations that left the ledger now.
    pub rotations: usize,
    /// Their events.
    pub events: usize,
    /// The rotations that stay: they have changed since the archive was made, or may not be
    /// pruned any more.
    pub remaining: Vec<RotationId>,
}

/// A rotation that may be pruned.
pub(super) struct PrunableRow {
    pub(super) id: i64,
    pub(super) archived: ArchivedRotation,
}

/// Returns the query of the rotations that may be pruned: ?1 is the time before which they
/// ended, and ?2 that for those that certainly made nothing.
///
/// Neither a key's newest rotation nor its newest that was ever current is among them, nor one
/// whose credential a sink may hold because no newer one was accepted at the same target. What
/// an unclear create made may be at a sink as well: commits may have been lost with a restore.
fn prunable_sql(filter: &str) -> String {
    let newer = format!("n.sequence > r.sequence AND n.key IN {NAMES}");
    let limit = "CASE WHEN r.phase = 'failed' AND r.maybe_created = 0 THEN ?2 ELSE ?1 END";
    format!(
        "SELECT r.id, r.rotation, coalesce((SELECT max(e.seq) FROM event_log e
             WHERE e.rotation_row = r.id), 0)
         FROM rotation r
         WHERE (r.phase = 'revoked' OR r.phase = 'failed')
           AND r.started_at < {limit} AND coalesce(r.revoked_at, r.started_at) < {limit}
           AND r.id < (SELECT max(id) FROM rotation)
           AND NOT EXISTS (SELECT 1 FROM event_log e
               WHERE e.rotation_row = r.id AND e.at >= {limit})
           AND EXISTS (SELECT 1 FROM rotation n WHERE {newer})
           AND ((r.current_at IS NULL AND r.answer_rejected = 0)
               OR EXISTS (SELECT 1 FROM rotation n WHERE {newer} AND n.current_at IS NOT NULL))
           AND NOT EXISTS (SELECT 1 FROM rotation other
               WHERE other.credential_id = r.credential_id
                 AND other.phase NOT IN ('revoked', 'failed'))
           AND NOT EXISTS (SELECT 1 FROM delivery d
               WHERE d.rotation_row = r.id
                 AND (d.accepted_at IS NOT NULL OR d.maybe_accepted = 1
                     OR d.state IN ('uncertain', 'accepted', 'removed')
                     OR (r.\"trigger\" = 'adopted' AND d.state = 'missed')
                     OR (r.phase = 'failed' AND r.maybe_created = 1))
                 AND NOT EXISTS (SELECT 1 FROM rotation n
                     JOIN delivery later ON later.rotation_row = n.id
                     WHERE {newer} AND later.target = d.target AND later.accepted_at < ?1))
           {filter}"
    )
}

/// Returns the oldest rotations, `limit` at most, that may be pruned because they ended before
/// a time.
pub(super) fn prunable(
    connection: &Connection,
    before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PrunableRow>, LedgerError> {
    let mut query = connection.prepare(&prunable_sql("ORDER BY r.id LIMIT ?3"))?;
    let settled = time::before(now, MIN_PRUNABLE_AGE);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters = params![SqlTimestamp(before), SqlTimestamp(settled), limit];
    let rows = query.query_map(parameters, read_prunable)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_prunable(row: &rusqlite::Row<'_>) -> rusqlite::Result<PrunableRow> {
    Ok(PrunableRow {
        id: row.get(0)?,
        archived: ArchivedRotation {
            rotation: RotationId::from_recorded(row.get::<_, String>(1)?),
            last_event: row.get(2)?,
        },
    })
}

/// Prunes the rotations of a batch that are as the archive has them and may still be pruned.
///
/// # Errors
/// [`LedgerError::Archive`] if the archive is another ledger's or names too late a time.
pub(super) fn prune(
    connection: &Connection,
    batch: &PruneBatch,
    at: Timestamp,
) -> Result<PrunedRows, LedgerError> {
    check_batch(connection, batch, at)?;
    let mut rows = Vec::new();
    let mut pruned = PrunedRows::default();
    for archived in &batch.rotations {
        match find_prunable(connection, batch, archived, at)? {
            Some(id) => rows.push(id),
            // A command that was repeated names those that are gone already.
            None if is_pruned(connection, &archived.rotation)? => {}
            None => pruned.remaining.push(archived.rotation.clone()),
        }
    }
    if rows.is_empty() {
        return Ok(pruned);
    }
    pruned.rotations = rows.len();
    // Before the rows go: the number of the newest event must not be given again.
    record_event(connection, batch, rows.len(), at)?;
    let last_event: i64 =
        connection.query_row("SELECT max(seq) FROM event_log", [], |row| row.get(0))?;
    for id in rows {
        pruned.events += move_out(connection, id)?;
    }
    record_checkpoint(connection, batch, &pruned, last_event, at)?;
    Ok(pruned)
}

fn check_batch(
    connection: &Connection,
    batch: &PruneBatch,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let refused = |reason: String| LedgerError::Archive {
        path: PathBuf::from(&batch.archive.name),
        reason,
    };
    if batch.archive.ledger != ledger_number(connection)? {
        return Err(refused(
            "it is the archive of another ledger; hint: name a new file".to_owned(),
        ));
    }
    if batch.archive.before > time::before(at, MIN_PRUNABLE_AGE) {
        return Err(refused(format!(
            "it has rotations that ended less than {} ago, which the ledger keeps; hint: compare \
             the clocks of this host",
            duration::to_text(MIN_PRUNABLE_AGE)
        )));
    }
    Ok(())
}

fn find_prunable(
    connection: &Connection,
    batch: &PruneBatch,
    archived: &ArchivedRotation,
    at: Timestamp,
) -> Result<Option<i64>, LedgerError> {
    let mut query = connection.prepare_cached(&prunable_sql("AND r.rotation = ?3"))?;
    let settled = time::before(at, MIN_PRUNABLE_AGE);
    let parameters = params![
        SqlTimestamp(batch.archive.before),
        SqlTimestamp(settled),
        archived.rotation.as_str()
    ];
    let found = query.query_row(parameters, read_prunable).optional()?;
    let unchanged = found.filter(|row| row.archived == *archived);
    Ok(unchanged.map(|row| row.id))
}

fn is_pruned(connection: &Connection, rotation: &RotationId) -> Result<bool, LedgerError> {
    let sql = "SELECT 1 FROM pruned_rotation WHERE rotation = ?1";
    Ok(connection
        .prepare_cached(sql)?
        .exists([rotation.as_str()])?)
}

/// Moves what recognizes a rotation, and deletes the rest. Returns the number of its events.
fn move_out(connection: &Connection, id: i64) -> Result<usize, LedgerError> {
    let run = |sql: &str| connection.prepare_cached(sql)?.execute([id]);
    run(&format!(
        "INSERT INTO pruned_rotation ({KEPT_COLUMNS})
         SELECT {KEPT_COLUMNS} FROM rotation WHERE id = ?1"
    ))?;
    let events = run("DELETE FROM event_log WHERE rotation_row = ?1")?;
    run("DELETE FROM delivery WHERE rotation_row = ?1")?;
    run("DELETE FROM rotation WHERE id = ?1")?;
    Ok(events)
}

fn record_event(
    connection: &Connection,
    batch: &PruneBatch,
    rotations: usize,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let mut detail = json!({
        "archive": batch.archive.name,
        "before": time::to_text(batch.archive.before),
        "by": batch.operator.by,
        "rotations": rotations,
    });
    if let Some(reason) = &batch.operator.reason {
        detail["reason"] = json!(reason);
    }
    let kind = LedgerEventKind::LedgerPruned.as_str();
    connection.execute(
        "INSERT INTO event_log (at, event, detail) VALUES (?1, ?2, ?3)",
        params![SqlTimestamp(at), kind, detail.to_string()],
    )?;
    Ok(())
}

fn record_checkpoint(
    connection: &Connection,
    batch: &PruneBatch,
    pruned: &PrunedRows,
    last_event: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    connection.execute(
        "INSERT INTO prune_checkpoint (archive_digest, archive, pruned_at, last_event, rotations,
                                       events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (archive_digest) DO UPDATE SET pruned_at = ?3, last_event = ?4,
             rotations = rotations + ?5, events = events + ?6",
        params![
            batch.archive.digest,
            batch.archive.name,
            SqlTimestamp(at),
            last_event,
            count(pruned.rotations),
            count(pruned.events)
        ],
    )?;
    Ok(())
}

/// Gives pruned rotations their rows back, without deliveries and events: their credentials
/// were seen. Others are left alone.
pub(super) fn return_rows(
    connection: &Connection,
    rotations: &[RotationId],
    at: Timestamp,
) -> Result<(), LedgerError> {
    for rotation in rotations {
        return_row(connection, rotation, at)?;
    }
    Ok(())
}

/// Gives a pruned rotation its row back. Returns whether it was pruned.
pub(super) fn return_row(
    connection: &Connection,
    rotation: &RotationId,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    let run = |sql: &str| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute([rotation.as_str()])
    };
    let returned = run(&format!(
        "INSERT INTO rotation ({KEPT_COLUMNS})
         SELECT {KEPT_COLUMNS} FROM pruned_rotation WHERE rotation = ?1"
    ))?;
    if returned == 0 {
        return Ok(false);
    }
    run("DELETE FROM pruned_rotation WHERE rotation = ?1")?;
    let kind = LedgerEventKind::RowReturned.as_str();
    connection.execute(
        "INSERT INTO event_log (at, rotation_row, key, event, detail)
         SELECT ?2, id, coalesce((SELECT n.renamed_to FROM key_state n WHERE n.key = r.key), r.key),
             ?3, json_object('phase', phase)
         FROM rotation r WHERE rotation = ?1",
        params![rotation.as_str(), SqlTimestamp(at), kind],
    )?;
    Ok(true)
}
