//! Writes the difference of a key's state, in the caller's transaction.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use crate::core::apply::LedgerEvent;
use crate::core::ids::{KeyName, RotationId};
use crate::core::scope::Scope;
use crate::ledger::difference::{Column, DeliveryWrite, Difference, KeyWrite, RotationWrite};
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::key_names::NAMES_OF_KEY;
use crate::ledger::prune;
use crate::ledger::rows::{self, SqlTimestamp};
use crate::ledger::version::LedgerVersion;

/// Writes a difference. Each statement names the values that its row must have, and
/// changes exactly one row.
pub(crate) fn write_difference(
    connection: &Connection,
    difference: &Difference,
) -> Result<(), LedgerError> {
    let mut writer = Writer {
        connection,
        key: &difference.key,
        at: difference.at,
        row_ids: Vec::new(),
    };
    if let Some(key) = &difference.key_state {
        writer.write_key_state(key)?;
    }
    for write in &difference.rotations {
        match write {
            RotationWrite::Insert {
                rotation,
                columns,
                deliveries,
            } => {
                writer.insert_rotation(rotation, columns)?;
                writer.write_deliveries(rotation, deliveries)?;
            }
            RotationWrite::Update {
                rotation,
                from,
                columns,
                deliveries,
            } => {
                writer.update_rotation(rotation, from, columns)?;
                writer.write_deliveries(rotation, deliveries)?;
            }
        }
    }
    for event in &difference.events {
        writer.append_event(difference.at, event)?;
    }
    Ok(())
}

/// Records the problem of a condition of a scope or of the daemon, or with none its end.
pub(crate) fn set_condition(
    connection: &Connection,
    scope: Option<&Scope>,
    condition: &str,
    at: Timestamp,
    problem: Option<&str>,
) -> Result<(), LedgerError> {
    let scope = rows::scope_text(scope);
    match problem {
        Some(problem) => connection.execute(
            "INSERT INTO condition (scope, name, since, reason) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (scope, name) DO UPDATE SET reason = ?4",
            params![scope, condition, SqlTimestamp(at), problem],
        )?,
        None => connection.execute(
            "DELETE FROM condition WHERE scope = ?1 AND name = ?2",
            params![scope, condition],
        )?,
    };
    Ok(())
}

/// Checks that the ledger can be written, by writing a value that it has already.
pub(crate) fn check_writable(connection: &Connection) -> Result<(), LedgerError> {
    // The value may be written although SQL of another program refuses others.
    let path = connection.path().map(Path::new).unwrap_or(Path::new(""));
    foreign_schema::check(connection, path, LedgerVersion::CURRENT)?;
    connection.execute("UPDATE ledger_identity SET created_at = created_at", [])?;
    Ok(())
}

struct Writer<'a> {
    connection: &'a Connection,
    key: &'a KeyName,
    at: Timestamp,
    /// The row ids of the rotations that were written or found.
    row_ids: Vec<(RotationId, i64)>,
}

impl Writer<'_> {
    /// Writes the row of a key, which is missing while the key's state is that of a new
    /// key.
    fn write_key_state(&self, write: &KeyWrite) -> Result<(), LedgerError> {
        let names: Vec<_> = write.columns.iter().map(|(name, _)| *name).collect();
        let set = names.iter().map(|name| format!("{name} = excluded.{name}"));
        let sql = format!(
            "INSERT INTO key_state (key, {}) VALUES (?{})
             ON CONFLICT (key) DO UPDATE SET {} WHERE key_state.sequence = ?",
            names.join(", "),
            ", ?".repeat(names.len()),
            set.collect::<Vec<_>>().join(", "),
        );
        let values = write.columns.iter().map(|(_, value)| value.clone());
        let key = Value::Text(self.key.to_string());
        let values = std::iter::once(key).chain(values);
        let values = values.chain([write.expected_sequence.clone()]);
        let changed = self
            .connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        self.expect_one_row(changed, "key")
    }

    fn insert_rotation(
        &mut self,
        rotation: &RotationId,
        columns: &[Column],
    ) -> Result<(), LedgerError> {
        self.insert("rotation", columns)?;
        let row = self.connection.last_insert_rowid();
        self.row_ids.push((rotation.clone(), row));
        Ok(())
    }

    fn update_rotation(
        &mut self,
        rotation: &RotationId,
        from: &Value,
        columns: &[Column],
    ) -> Result<(), LedgerError> {
        let row = self.find_row(rotation)?;
        let expected = [("id", row.into()), ("phase", from.clone())];
        self.update("rotation", columns, &expected)
    }

    fn write_deliveries(
        &mut self,
        rotation: &RotationId,
        deliveries: &[DeliveryWrite],
    ) -> Result<(), LedgerError> {
        for write in deliveries {
            let row = self.find_row(rotation)?;
            match write {
                DeliveryWrite::Insert { columns } => {
                    let mut columns = columns.clone();
                    columns.push(("rotation_row", row.into()));
                    self.insert("delivery", &columns)?;
                }
                DeliveryWrite::Update { expected, columns } => {
                    let mut expected = expected.clone();
                    expected.push(("rotation_row", row.into()));
                    self.update("delivery", columns, &expected)?;
                }
            }
        }
        Ok(())
    }

    fn append_event(&mut self, at: Timestamp, event: &LedgerEvent) -> Result<(), LedgerError> {
        let rotation = event.rotation.as_ref();
        let row = rotation.map(|rotation| self.find_row(rotation));
        self.connection
            .prepare_cached(
                "INSERT INTO event_log (at, rotation_row, key, event, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                SqlTimestamp(at),
                row.transpose()?,
                self.key.as_str(),
                event.event.as_str(),
                event.detail.to_string()
            ])?;
        Ok(())
    }

    fn insert(&self, table: &str, columns: &[Column]) -> Result<(), LedgerError> {
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let (names, rest) = (names.join(", "), ", ?".repeat(columns.len() - 1));
        let sql = format!("INSERT INTO {table} ({names}) VALUES (?{rest})");
        let values = columns.iter().map(|(_, value)| value);
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Updates the changed columns of a row, if there are any. An unchanged column of an
    /// index is not named, because SQLite would write its index entry again.
    fn update(
        &self,
        table: &str,
        columns: &[Column],
        expected: &[Column],
    ) -> Result<(), LedgerError> {
        if columns.is_empty() {
            return Ok(());
        }
        let set: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let filter: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        let (set, filter) = (set.join(" = ?, "), filter.join(" = ? AND "));
        let sql = format!("UPDATE {table} SET {set} = ? WHERE {filter} = ?");
        let values = columns.iter().chain(expected).map(|(_, value)| value);
        let changed = self
            .connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        self.expect_one_row(changed, table)
    }

    /// Returns the row id of a rotation of this key. One that was pruned after it was read gets
    /// its row back.
    fn find_row(&mut self, rotation: &RotationId) -> Result<i64, LedgerError> {
        let mut known = self.row_ids.iter();
        if let Some((_, row)) = known.find(|(id, _)| id == rotation) {
            return Ok(*row);
        }
        let found = match self.query_row_id(rotation)? {
            None if prune::return_row(self.connection, rotation, self.at)? => {
                self.query_row_id(rotation)?
            }
            found => found,
        };
        let row = found.ok_or_else(|| {
            LedgerError::Corrupt(format!("no rotation {rotation} of key {}", self.key))
        })?;
        self.row_ids.push((rotation.clone(), row));
        Ok(row)
    }

    fn query_row_id(&self, rotation: &RotationId) -> Result<Option<i64>, LedgerError> {
        let sql = format!("SELECT id FROM rotation WHERE rotation = ?2 AND key IN {NAMES_OF_KEY}");
        let mut query = self.connection.prepare_cached(&sql)?;
        let found = query.query_row([self.key.as_str(), rotation.as_str()], |row| row.get(0));
        Ok(found.optional()?)
    }

    fn expect_one_row(&self, changed: usize, table: &str) -> Result<(), LedgerError> {
        if changed == 1 {
            return Ok(());
        }
        let key = self.key;
        Err(LedgerError::Corrupt(format!(
            "{changed} rows of {table} for the key {key} matched, not one"
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::apply::apply;
    use crate::core::apply::changes::{at, changes, current};
    use crate::core::change::{Change, RotationChange};
    use crate::core::lifecycle::LifecycleEvent;
    use crate::core::state::KeyState;
    use crate::ledger::open::open_in_memory;
    use crate::ledger::{LedgerIdentity, LedgerOptions, read};

    fn ledger() -> Connection {
        let identity = LedgerIdentity {
            provider: String::new(),
            organization: String::new(),
        };
        open_in_memory(&LedgerOptions::new(identity), at()).unwrap()
    }

    fn unknown() -> KeyState {
        KeyState::unknown(KeyName::new("billing").unwrap())
    }

    /// Records applicable changes, as the store does.
    fn record(
        connection: &Connection,
        state: &KeyState,
        changes: &[Change],
    ) -> Result<KeyState, LedgerError> {
        let applied = apply(state, changes, at())?;
        let transaction = connection.unchecked_transaction()?;
        let difference = Difference::new(state, &applied, at());
        write_difference(&transaction, &difference)?;
        transaction.commit()?;
        Ok(applied.state)
    }

    /// Adds the row of an ended rotation to a change that revives it.
    fn with_row(connection: &Connection, state: &KeyState, mut change: Change) -> Change {
        if let Change::Rotation(RotationChange::Transitioned(transition)) = &mut change
            && transition.event == LifecycleEvent::FoundAlive
        {
            let row = read::rotation(connection, &state.key, &transition.rotation).unwrap();
            transition.ended_row = row.map(Box::new);
        }
        change
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The schema has the same rules as the core, and the state that is read back is
        /// the computed one.
        #[test]
        fn every_applied_state_is_written_and_read_back(
            changes in changes(),
            batch_size in 1_usize..4,
        ) {
            let connection = ledger();
            let mut state = unknown();
            for batch in changes.chunks(batch_size) {
                let batch = batch.iter().cloned();
                let batch = batch.map(|change| with_row(&connection, &state, change));
                let batch: Vec<_> = batch.collect();
                match record(&connection, &state, &batch) {
                    Ok(after) => state = after,
                    Err(LedgerError::Rejected(_)) => {}
                    Err(error) => {
                        // Only an event of a rotation without a row may fail here.
                        let is_duplicate = |change: &Change| matches!(
                            change,
                            Change::Rotation(RotationChange::DuplicateRevoked(_))
                        );
                        prop_assert!(batch.iter().any(is_duplicate), "{error}");
                    }
                }
                let read = read::key_state(&connection, &state.key).unwrap();
                prop_assert_eq!(&read, &state);
            }
        }
    }

    #[test]
    fn a_row_that_is_not_as_expected_is_not_written() {
        let connection = ledger();
        let mut changes = current(1);
        let last = changes.pop().unwrap();
        let before = record(&connection, &unknown(), &changes).unwrap();
        record(&connection, &before, std::slice::from_ref(&last)).unwrap();
        let error = record(&connection, &before, &[last]).unwrap_err();
        assert!(
            error.to_string().contains("0 rows of rotation for"),
            "{error}"
        );
        assert!(error.is_content_error());

        let backoff = || {
            let problem = "no answer".to_owned();
            Change::from(crate::core::change::KeyBackoff {
                attempt: 1,
                retry_at: at(),
                problem,
                is_before_create: false,
                is_extra: false,
            })
        };
        let error = record(&connection, &unknown(), &[backoff()]).unwrap_err();
        assert!(error.to_string().contains("0 rows of key for"), "{error}");
        record(&connection, &before, &[backoff()]).unwrap();
    }

    #[test]
    fn columns_of_an_index_are_named_only_when_they_change() {
        let steps = current(1);
        let mut state = unknown();
        for (step, expected) in steps.into_iter().zip([
            None,
            Some(&["credential_id", "created_at", "phase"][..]),
            Some(&["phase"][..]),
            Some(&[][..]),
            Some(&[][..]),
            Some(&["phase", "current_at"][..]),
        ]) {
            let applied = apply(&state, &[step], at()).unwrap();
            let difference = Difference::new(&state, &applied, at());
            for write in difference.rotations {
                let RotationWrite::Update { columns, .. } = write else {
                    assert_eq!(expected, None);
                    continue;
                };
                let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
                assert_eq!(Some(&names[..]), expected);
            }
            state = applied.state;
        }
    }
}
