//! Queries that the writer and the read side share: the states of keys, and the facts
//! that the engine needs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::{
    CredentialMetadata, FileAccess, KeyState, LastCurrent, Rotation, Trigger, phase_as_newest,
};
use crate::ledger::error::LedgerError;
use crate::ledger::key_names::{self, NAMES_OF_KEY, PRESENT_NAME};
use crate::ledger::prune::WITH_PRUNED;
use crate::ledger::rows::{
    self, DELIVERY_COLUMNS, KEY_STATE_COLUMNS, ROTATION_COLUMNS, RowReader, SqlTimestamp,
};

/// Returns the state of one key.
pub(super) fn key_state(connection: &Connection, key: &KeyName) -> Result<KeyState, LedgerError> {
    let mut states = key_states(connection, Some(key))?;
    let unknown = || KeyState::unknown(key.clone());
    Ok(states.pop().unwrap_or_else(unknown))
}

/// Returns the state of every key, or of one, by name.
pub(super) fn key_states(
    connection: &Connection,
    only: Option<&KeyName>,
) -> Result<Vec<KeyState>, LedgerError> {
    let former = key_names::former_names(connection)?;
    let mut live = live_rotations(connection, only, &former)?;
    let mut states = Vec::new();
    let filter = only.map_or("", |_| "AND k.key = ?1");
    let sql =
        format!("SELECT {KEY_STATE_COLUMNS} FROM key_state k WHERE k.renamed_to IS NULL {filter}");
    for_each_row(connection, &sql, only, |row| {
        let mut state = rows::read_key_state(&mut RowReader::new(row))?;
        state.live = live.remove(&state.key).unwrap_or_default();
        let of_key = former.iter().filter(|(_, present)| **present == state.key);
        state.former_names = of_key.map(|(former, _)| former.clone()).collect();
        states.push(state);
        Ok(())
    })?;
    for state in &mut states {
        state.live.sort_by_key(|rotation| rotation.sequence);
        state.newest_phase = newest_phase(connection, state)?;
        state.last_current = last_current(connection, state)?;
    }
    states.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok(states)
}

/// Returns the live rotations of every key, or of one, with their deliveries.
fn live_rotations(
    connection: &Connection,
    only: Option<&KeyName>,
    former: &BTreeMap<KeyName, KeyName>,
) -> Result<BTreeMap<KeyName, Vec<Rotation>>, LedgerError> {
    let mut live = BTreeMap::new();
    let mut last = None;
    let filter = only.map_or_else(String::new, |_| format!("AND r.key IN {NAMES_OF_KEY}"));
    let sql = live_rotations_sql(&filter);
    for_each_row(connection, &sql, only, |row| {
        let mut cells = RowReader::new(row);
        let (id, key) = (cells.get::<i64>()?, cells.key_name()?);
        let key = former.get(&key).cloned().unwrap_or(key);
        // One is the usual number. An empty list would grow to four, which is half of the
        // memory that the daemon needs for a key.
        let of_key = live.entry(key).or_insert_with(|| Vec::with_capacity(1));
        if last != Some(id) {
            last = Some(id);
            of_key.push(rows::read_rotation(&mut cells)?);
        }
        let mut cells = cells.skip_to(2 + const { rows::column_count(ROTATION_COLUMNS) });
        let ordinal: Option<i64> = cells.get()?;
        if let (Some(_), Some(rotation)) = (ordinal, of_key.last_mut()) {
            rotation.deliveries.push(rows::read_delivery(&mut cells)?);
        }
        Ok(())
    })?;
    Ok(live)
}

/// Returns the query of [`live_rotations`].
fn live_rotations_sql(filter: &str) -> String {
    // Without the index, SQLite reads every row of the key, or every delivery ever: the
    // cost of this query must not grow with the history. The order of the index makes
    // sorting unnecessary.
    format!(
        "SELECT r.id, r.key, {ROTATION_COLUMNS}, d.ordinal, {DELIVERY_COLUMNS}
         FROM rotation r INDEXED BY rotation_live LEFT JOIN delivery d ON d.rotation_row = r.id
         WHERE r.phase NOT IN ('revoked', 'failed') {filter}
         ORDER BY r.key, r.exclusive_state, r.id, d.ordinal"
    )
}

/// Returns the phase of a key's newest rotation, which is mostly among the live ones: a
/// query for each key would read a page of the index for each.
fn newest_phase(connection: &Connection, state: &KeyState) -> Result<Option<Phase>, LedgerError> {
    let mut live = state.live.iter().rev();
    if let Some(newest) = live.find(|rotation| rotation.sequence == state.sequence) {
        return Ok(Some(newest.phase_as_newest()));
    }
    let found = connection
        .prepare_cached(&format!(
            "SELECT phase, \"trigger\" FROM rotation WHERE key IN {NAMES_OF_KEY} AND sequence = ?2"
        ))?
        .query_row(params![state.key.as_str(), state.sequence], |row| {
            let trigger = rows::parsed_column(row, "trigger", Trigger::from_text)?;
            let phase = rows::phase_column(row, "phase")?;
            Ok(phase.map(|phase| phase_as_newest(trigger, phase)))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Returns the newest rotation that is or was current. If one is current, nothing is
/// read.
fn last_current(
    connection: &Connection,
    state: &KeyState,
) -> Result<Option<LastCurrent>, LedgerError> {
    if state.sequence == 0 {
        return Ok(None);
    }
    if let Some(current) = state.current() {
        return Ok(Some(LastCurrent {
            sequence: current.sequence,
            is_revoked: false,
        }));
    }
    let found = connection
        .prepare_cached(&format!(
            "SELECT sequence, phase FROM rotation
             WHERE key IN {NAMES_OF_KEY} AND current_at IS NOT NULL
             ORDER BY sequence DESC LIMIT 1"
        ))?
        .query_row([state.key.as_str()], |row| {
            let phase = rows::phase_column(row, "phase")?;
            Ok(LastCurrent {
                sequence: row.get("sequence")?,
                is_revoked: phase == Some(Phase::Revoked),
            })
        })
        .optional()?;
    Ok(found)
}

/// Returns one rotation of a key, live or ended, if there is one.
///
/// # Errors
/// As [`all_key_states`].
pub(super) fn rotation(
    connection: &Connection,
    key: &KeyName,
    rotation: &RotationId,
) -> Result<Option<Rotation>, LedgerError> {
    let sql = format!(
        "SELECT {ROTATION_COLUMNS}, r.id FROM rotation r
         WHERE r.rotation = ?2 AND r.key IN {NAMES_OF_KEY}"
    );
    let found = connection
        .prepare_cached(&sql)?
        .query_row([key.as_str(), rotation.as_str()], |row| {
            let mut cells = RowReader::new(row);
            Ok((rows::read_rotation(&mut cells)?, cells.get::<i64>()?))
        })
        .optional()?;
    let Some((mut found, row)) = found else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS} FROM delivery d WHERE d.rotation_row = ?1 ORDER BY d.ordinal"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let deliveries =
        statement.query_map([row], |row| rows::read_delivery(&mut RowReader::new(row)))?;
    found.deliveries = deliveries.collect::<rusqlite::Result<_>>()?;
    Ok(Some(found))
}

fn for_each_row(
    connection: &Connection,
    sql: &str,
    only: Option<&KeyName>,
    mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(only.map(KeyName::as_str)))?;
    while let Some(row) = rows.next()? {
        visit(row)?;
    }
    Ok(())
}

/// Returns who could get the file that the newest recorded delivery of `key` to `target` left.
pub(super) fn recorded_access(
    connection: &Connection,
    key: &KeyName,
    target: &str,
) -> Result<Option<FileAccess>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT d.file_owner, d.file_group, d.file_mode
         FROM rotation r JOIN delivery d ON d.rotation_row = r.id
         WHERE r.key IN {NAMES_OF_KEY} AND d.target = ?2 AND d.file_owner IS NOT NULL
         ORDER BY r.sequence DESC LIMIT 1"
    ))?;
    let found = statement
        .query_row(params![key.as_str(), target], |row| {
            rows::read_file_access(&mut RowReader::new(row))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Returns the number of creates of `key`, certain or possible, between two times, and
/// the time of the oldest.
pub(super) fn creates_between(
    connection: &Connection,
    key: &KeyName,
    from: Timestamp,
    to: Timestamp,
) -> Result<(u32, Option<Timestamp>), LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT count(*) AS count, min(started_at) AS oldest FROM rotation
         WHERE key IN {NAMES_OF_KEY} AND started_at > ?2 AND started_at <= ?3
             AND maybe_created = 1"
    ))?;
    let found = statement.query_row(
        params![key.as_str(), SqlTimestamp(from), SqlTimestamp(to)],
        |row| Ok((row.get("count")?, rows::timestamp_column(row, "oldest")?)),
    )?;
    Ok(found)
}

/// Returns the time of the first of a key's latest consecutive failures: the event of
/// each failure has its number in the series.
pub(super) fn failing_since(
    connection: &Connection,
    key: &KeyName,
) -> Result<Option<Timestamp>, LedgerError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT at FROM events
             WHERE key IN {NAMES_OF_KEY} AND event = 'key-backed-off'
                 AND detail ->> 'attempt' = 1 AND detail ->> 'extra' IS NULL
             ORDER BY seq DESC LIMIT 1"
        ))?
        .query_row([key.as_str()], |row| rows::timestamp_column(row, "at"))
        .optional()?;
    Ok(found.flatten())
}

/// Returns the rotations whose latest deadline of a leak was set at a time after `now`, with
/// their keys and that time.
pub(super) fn deadlines_set_after(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<(KeyName, RotationId, Timestamp)>, LedgerError> {
    let mut query = connection.prepare(
        "SELECT coalesce((SELECT n.renamed_to FROM key_state n WHERE n.key = e.key), e.key) AS key,
             r.rotation, e.at
         FROM event_log e JOIN rotation r ON r.id = e.rotation_row
         WHERE e.at > ?1 AND e.event = 'revocation-deadline-set' AND r.revoke_by IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM event_log later
                 WHERE later.rotation_row = e.rotation_row AND later.seq > e.seq
                     AND later.event = 'revocation-deadline-set')",
    )?;
    let rows = query.query_map([SqlTimestamp(now)], |row| {
        let rotation: std::sync::Arc<str> = row.get(1)?;
        let set_at = row.get::<_, SqlTimestamp>(2)?.0;
        let rotation = RotationId::from_recorded(rotation);
        Ok((rows::key_column(row)?, rotation, set_at))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the time of a key's latest failure to start or to finish a rotation.
pub(super) fn failed_at(
    connection: &Connection,
    key: &KeyName,
) -> Result<Option<Timestamp>, LedgerError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT at FROM events WHERE key IN {NAMES_OF_KEY} AND event = 'key-backed-off'
             ORDER BY seq DESC LIMIT 1"
        ))?
        .query_row([key.as_str()], |row| rows::timestamp_column(row, "at"))
        .optional()?;
    Ok(found.flatten())
}

/// Returns the keys that have or had a row of a credential, pruned ones included.
pub(super) fn keys_of_credential(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Vec<KeyName>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {PRESENT_NAME} FROM {WITH_PRUNED} WHERE credential_id = ?1 ORDER BY id"
    ))?;
    let found = statement.query_map([credential.as_str()], rows::key_column)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Returns the key that a credential belongs to, if it has or had a row: of several, the first
/// with a live one.
pub(super) fn key_for_credential(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Option<KeyName>, LedgerError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {PRESENT_NAME} FROM {WITH_PRUNED} WHERE credential_id = ?1
             ORDER BY phase IN ('revoked', 'failed'), id LIMIT 1"
        ))?
        .query_row([credential.as_str()], rows::key_column)
        .optional()?;
    Ok(found)
}

/// Returns the credentials, of any key and also ended ones, that a target may hold because
/// of what this ledger recorded. A redacted value that misleads is left out.
pub(super) fn credentials_of_target(
    connection: &Connection,
    target: &str,
) -> Result<Vec<CredentialMetadata>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT r.credential_id, CASE WHEN r.wrong_redaction = 0 THEN r.redacted_value END
         FROM delivery d JOIN rotation r ON r.id = d.rotation_row
         WHERE d.target = ?1 AND r.credential_id IS NOT NULL
             AND (d.accepted_at IS NOT NULL OR d.maybe_accepted = 1 OR d.removed_at IS NOT NULL
                  OR d.state IN ('uncertain', 'accepted')
                  OR (r.\"trigger\" = 'adopted' AND d.state = 'missed'))",
    )?;
    let found = statement.query_map([target], shown_credential)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Returns the credentials that were revoked since a time. A redacted value that misleads is
/// left out.
pub(super) fn credentials_revoked_since(
    connection: &Connection,
    since: Timestamp,
) -> Result<Vec<CredentialMetadata>, LedgerError> {
    let mut statement = connection.prepare_cached(REVOKED_SINCE)?;
    let found = statement.query_map([SqlTimestamp(since)], shown_credential)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Read by the index of the events: revoked rotations stay for ever.
const REVOKED_SINCE: &str =
    "SELECT credential_id, CASE WHEN wrong_redaction = 0 THEN redacted_value END
     FROM rotation
     WHERE id IN (SELECT rotation_row FROM event_log WHERE at >= ?1)
         AND phase = 'revoked' AND revoked_at >= ?1 AND credential_id IS NOT NULL";

/// Reads the id of a credential and its redacted value.
fn shown_credential(row: &Row<'_>) -> rusqlite::Result<CredentialMetadata> {
    Ok(CredentialMetadata {
        id: CredentialId::new(row.get::<_, String>(0)?),
        redacted_value: row.get(1)?,
        created_at: None,
        expires_at: None,
    })
}

/// A create whose answer could not be true, and that no list explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCreate {
    /// The label that was sent.
    pub label: String,
    /// How its search ended.
    pub error: String,
}

/// Returns the labels of the last `limit` creates of a key whose answers were rejected
/// and whose credentials no list showed; fewer if another create came after one of them.
/// A create without an answer does not count.
pub(super) fn rejected_answers(
    connection: &Connection,
    key: &KeyName,
    limit: usize,
) -> Result<Vec<RejectedCreate>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT label, error, phase = 'failed' AND answer_rejected = 1 AS rejected FROM rotation
         WHERE key IN {NAMES_OF_KEY} AND \"trigger\" <> 'adopted'
             AND NOT (phase = 'failed' AND answer_rejected = 0)
         ORDER BY sequence DESC LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![key.as_str(), limit], |row| {
        let create = RejectedCreate {
            label: row.get("label")?,
            error: row.get::<_, Option<String>>("error")?.unwrap_or_default(),
        };
        Ok((create, row.get::<_, bool>("rejected")?))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let rejected = rows.into_iter().take_while(|(_, rejected)| *rejected);
    Ok(rejected.map(|(create, _)| create).collect())
}

/// Returns the live rotations of all keys whose credentials have a redacted value with this
/// end.
pub(super) fn rotations_with_end(
    connection: &Connection,
    end: &str,
) -> Result<Vec<(KeyName, Rotation)>, LedgerError> {
    let mut statement = connection.prepare_cached(ROTATIONS_WITH_END)?;
    let rows = statement.query_map([end], |row| {
        let rotation = RotationId::from_recorded(row.get::<_, std::sync::Arc<str>>("rotation")?);
        Ok((rows::key_column(row)?, rotation))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for (key, id) in rows {
        found.extend(rotation(connection, &key, &id)?.map(|rotation| (key, rotation)));
    }
    Ok(found)
}

/// Read by the index `rotation_by_end`: each create asks for it, beside 10,000 keys.
const ROTATIONS_WITH_END: &str = "SELECT
         coalesce((SELECT n.renamed_to FROM key_state n WHERE n.key = rotation.key), rotation.key)
         AS key, rotation
     FROM rotation
     WHERE lower(substr(rtrim(redacted_value, ' \"''`'), -3)) = ?1
         AND phase NOT IN ('revoked', 'failed') ORDER BY id";

/// Returns the number of live rotations whose credentials have a redacted value.
pub(super) fn count_shown_ends(connection: &Connection) -> Result<u64, LedgerError> {
    let count = connection
        .prepare_cached(
            "SELECT count(*) FROM rotation
             WHERE redacted_value IS NOT NULL AND phase NOT IN ('revoked', 'failed')",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(count)
}

/// Returns the name that a list last showed of a credential without a row; none if no
/// list of the scope showed it.
pub(super) fn name_without_row(
    connection: &Connection,
    scope: &Scope,
    credential: &CredentialId,
) -> Result<Option<Option<String>>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT name FROM unknown_credential WHERE scope = ?1 AND credential_id = ?2",
        )?
        .query_row(params![scope.to_string(), credential.as_str()], |row| {
            row.get("name")
        })
        .optional()?;
    Ok(found)
}

/// Returns the time of the last reconciliation of a scope, and whether a create in it that
/// was sent since `since` failed and may still be applied.
pub(super) fn last_reconciliation(
    connection: &Connection,
    scope: &Scope,
    since: Timestamp,
) -> Result<(Option<Timestamp>, bool), LedgerError> {
    let found = connection.query_row(
        "SELECT (SELECT reconciled_at FROM scope WHERE scope = ?1) AS reconciled_at,
             EXISTS (SELECT 1 FROM rotation WHERE phase = 'failed' AND started_at > ?2
                 AND maybe_created = 1 AND scope = ?1) AS unclear",
        params![scope.to_string(), SqlTimestamp(since)],
        |row| {
            Ok((
                rows::timestamp_column(row, "reconciled_at")?,
                row.get("unclear")?,
            ))
        },
    )?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::open::open_in_memory;
    use crate::ledger::{LedgerIdentity, LedgerOptions};

    #[test]
    fn live_rotations_are_read_by_index() {
        let configured = LedgerIdentity {
            provider: String::new(),
            organization: String::new(),
        };
        let options = LedgerOptions::new(configured);
        let ledger = open_in_memory(&options, Timestamp::UNIX_EPOCH).unwrap();
        let sql = format!("EXPLAIN QUERY PLAN {ROTATIONS_WITH_END}");
        let mut explained = ledger.prepare(&sql).unwrap();
        let plan = explained
            .query_map(["xyz"], |row| row.get("detail"))
            .unwrap();
        let plan: Vec<String> = plan.map(Result::unwrap).collect();
        let by_end = "SEARCH rotation USING INDEX rotation_by_end";
        assert!(plan[0].starts_with(by_end), "{plan:?}");
        let mut explained = ledger
            .prepare(&format!("EXPLAIN QUERY PLAN {REVOKED_SINCE}"))
            .unwrap();
        let plan = explained.query_map([""], |row| row.get("detail")).unwrap();
        let plan: Vec<String> = plan.map(Result::unwrap).collect();
        assert!(
            plan.iter().any(|step| step.contains("event_log_by_time")),
            "{plan:?}"
        );
        for (filter, by) in [("", "SCAN"), ("AND r.key = 'a'", "SEARCH")] {
            let sql = format!("EXPLAIN QUERY PLAN {}", live_rotations_sql(filter));
            let mut explained = ledger.prepare(&sql).unwrap();
            let plan = explained.query_map([], |row| row.get("detail")).unwrap();
            let plan: Vec<String> = plan.map(Result::unwrap).collect();
            assert_eq!(plan.len(), 2, "{plan:?}");
            let first = format!("{by} r USING INDEX rotation_live");
            assert!(plan[0].starts_with(&first), "{plan:?}");
            assert!(
                plan[1].starts_with("SEARCH d USING PRIMARY KEY"),
                "{plan:?}"
            );
        }
    }
}
