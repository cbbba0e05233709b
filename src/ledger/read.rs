//! Queries that the writer and the read side share: the state of keys, and what
//! the engine asks for.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use crate::core::ids::{CredentialId, KeyName};
use crate::core::lifecycle::Phase;
use crate::core::state::KeyState;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{
    self, DELIVERY_COLUMNS, KEY_STATE_COLUMNS, ROTATION_COLUMNS, RowReader, SqlTimestamp,
};

/// Returns the state of one key.
pub(super) fn key_state(connection: &Connection, key: &KeyName) -> Result<KeyState, LedgerError> {
    let mut states = key_states(connection, Some(key))?;
    let unknown = || KeyState::unknown(key.clone());
    Ok(states.pop().unwrap_or_else(unknown))
}

/// Returns the state of every key, or of one, in the order of their names.
pub(super) fn key_states(
    connection: &Connection,
    only: Option<&KeyName>,
) -> Result<Vec<KeyState>, LedgerError> {
    let filter = |column: &str| only.map_or(String::new(), |_| format!("AND {column} = ?1"));
    let mut states = Vec::new();
    let sql = format!(
        "SELECT {KEY_STATE_COLUMNS}
         FROM key_state k WHERE true {}",
        filter("k.key")
    );
    for_each_row(connection, &sql, only, |row| {
        states.push(rows::read_key_state(&mut RowReader::new(row))?);
        Ok(())
    })?;
    states.sort_unstable_by(|one, other| one.key.cmp(&other.key));

    let sql = live_rotations_sql(&filter("r.key"));
    // The rotation of the row before, and its key's place.
    let (mut last, mut at) = (None, Some(0));
    for_each_row(connection, &sql, only, |row| {
        let mut cells = RowReader::new(row);
        let id: i64 = cells.get()?;
        if last != Some(id) {
            last = Some(id);
            at = find_key_index(&states, &cells.key_name()?, at.unwrap_or_default());
            if let Some(at) = at {
                push_exact(&mut states[at].live, rows::read_rotation(&mut cells)?);
            }
        }
        let mut cells = cells.skip_to(2 + const { rows::column_count(ROTATION_COLUMNS) });
        let delivered: Option<i64> = cells.get()?;
        let rotation = at.and_then(|at| states[at].live.last_mut());
        if let (Some(_), Some(rotation)) = (delivered, rotation) {
            push_exact(&mut rotation.deliveries, rows::read_delivery(&mut cells)?);
        }
        Ok(())
    })?;
    for state in &mut states {
        state.live.sort_by_key(|rotation| rotation.sequence);
        state.newest_phase = newest_phase(connection, state)?;
        state.has_lost_credential = has_lost_credential(connection, state)?;
    }
    Ok(states)
}

/// What asks for the live rotations and their deliveries.
fn live_rotations_sql(filter: &str) -> String {
    // By itself SQLite goes through every row of the key, or every delivery
    // ever: what is read after each commit must not grow with the history. In
    // the order of the index nothing has to be sorted.
    format!(
        "SELECT r.id, r.key, {ROTATION_COLUMNS}, d.place, {DELIVERY_COLUMNS}
         FROM rotation r INDEXED BY rotation_live LEFT JOIN delivery d ON d.rotation = r.id
         WHERE r.phase NOT IN ('revoked', 'failed') {filter}
         ORDER BY r.key, r.slot, r.id, d.place"
    )
}

/// The phase of a key's newest rotation. It is mostly live and known: to look
/// for each among all would read a page of its index for every key.
fn newest_phase(connection: &Connection, state: &KeyState) -> Result<Option<Phase>, LedgerError> {
    let mut live = state.live.iter().rev();
    if let Some(newest) = live.find(|rotation| rotation.sequence == state.sequence) {
        return Ok(Some(newest.phase));
    }
    let found = connection
        .prepare_cached("SELECT phase FROM rotation WHERE key = ?1 AND sequence = ?2")?
        .query_row(params![state.key.as_str(), state.sequence], |row| {
            rows::phase_column(row, "phase")
        })
        .optional()?;
    Ok(found.flatten())
}

/// Whether what was current last is revoked. Only where nothing is current is
/// anything asked, and then no more rows are passed over than have failed in a
/// row.
fn has_lost_credential(connection: &Connection, state: &KeyState) -> Result<bool, LedgerError> {
    let all_live = u64::try_from(state.live.len()).is_ok_and(|live| live == state.sequence);
    if all_live || state.current().is_some() {
        return Ok(false);
    }
    let found = connection
        .prepare_cached(
            "SELECT phase FROM rotation WHERE key = ?1 AND current_at IS NOT NULL
             ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row([state.key.as_str()], |row| rows::phase_column(row, "phase"))
        .optional()?;
    Ok(found.flatten() == Some(Phase::Revoked))
}

/// Where a key stands in the order of names. The index gives one after another,
/// so that it is mostly where the last was, or next to it.
fn find_key_index(states: &[KeyState], key: &KeyName, last: usize) -> Option<usize> {
    let mut near = (last..states.len()).take(2);
    near.find(|at| states[*at].key == *key)
        .or_else(|| states.binary_search_by(|state| state.key.cmp(key)).ok())
}

/// One in a list is the rule, and one that grows by itself has room for four.
fn push_exact<T>(list: &mut Vec<T>, one: T) {
    list.reserve_exact(1);
    list.push(one);
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

/// Returns how many creates of `key` took place, or may have, between two
/// times, and when the oldest of them was.
pub(super) fn creates_between(
    connection: &Connection,
    key: &KeyName,
    from: Timestamp,
    to: Timestamp,
) -> Result<(u32, Option<Timestamp>), LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) AS count, min(started_at) AS oldest FROM rotation
         WHERE key = ?1 AND started_at > ?2 AND started_at <= ?3 AND maybe_made = 1",
    )?;
    let found = statement.query_row(
        params![key.as_str(), SqlTimestamp(from), SqlTimestamp(to)],
        |row| Ok((row.get("count")?, rows::timestamp_column(row, "oldest")?)),
    )?;
    Ok(found)
}

/// Returns when the present series of failures of a key began: the event of
/// each failure holds its number in the series.
pub(super) fn failing_since(
    connection: &Connection,
    key: &KeyName,
) -> Result<Option<Timestamp>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT at FROM journal
             WHERE key = ?1 AND event = 'deferred' AND detail ->> 'attempt' = 1
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([key.as_str()], |row| rows::timestamp_column(row, "at"))
        .optional()?;
    Ok(found.flatten())
}

/// Returns the key that a credential belongs to, if it has a row.
pub(super) fn key_for_credential(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Option<KeyName>, LedgerError> {
    let found = connection
        .prepare_cached("SELECT key FROM rotation WHERE credential_id = ?1")?
        .query_row([credential.as_str()], rows::key_column)
        .optional()?;
    Ok(found)
}

/// Returns when the ledger was last reconciled with the provider, and whether a
/// create that was sent since `since` failed and may still take effect.
pub(super) fn last_reconciliation(
    connection: &Connection,
    since: Timestamp,
) -> Result<(Option<Timestamp>, bool), LedgerError> {
    let found = connection.query_row(
        "SELECT swept_at, EXISTS (SELECT 1 FROM rotation WHERE phase = 'failed'
             AND started_at > ?1 AND maybe_made = 1) AS unclear FROM identity",
        [SqlTimestamp(since)],
        |row| {
            Ok((
                rows::timestamp_column(row, "swept_at")?,
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
    fn live_rotations_are_read_by_index_without_sorting() {
        let ours = LedgerIdentity {
            provider: String::new(),
            organization: String::new(),
        };
        let options = LedgerOptions::new(ours);
        let ledger = open_in_memory(&options, Timestamp::UNIX_EPOCH).unwrap();
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
