//! Records changes. Every change of phase passes the table of transitions
//! here, and is told in the journal in the same transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

use crate::core::change::{
    Change, DeliveryChange, DeliveryResult, OperatorChange, OperatorNote, RotationChange,
    RotationIntent, ScheduleChange,
};
use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::lifecycle::{LifecycleEvent, Phase, apply};
use crate::core::state::{DeliveryState, KeyState};
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::{read, reconciliation};

/// Records all of `changes` and tells how the key stands then.
pub(crate) fn record(
    connection: &Connection,
    key: &KeyName,
    at: Timestamp,
    changes: &[Change],
) -> Result<KeyState, LedgerError> {
    let writer = ChangeWriter {
        connection,
        key,
        at,
    };
    for change in changes {
        writer.write_change(change)?;
    }
    read::key_state(connection, key)
}

/// Records what is wrong with the daemon as a whole, or that nothing is.
pub(crate) fn set_condition(
    connection: &Connection,
    condition: &str,
    at: Timestamp,
    problem: Option<&str>,
) -> Result<(), LedgerError> {
    match problem {
        Some(problem) => connection.execute(
            "INSERT INTO condition (condition, since, problem) VALUES (?1, ?2, ?3)
             ON CONFLICT (condition) DO UPDATE SET problem = ?3",
            params![condition, SqlTimestamp(at), problem],
        )?,
        None => connection.execute("DELETE FROM condition WHERE condition = ?1", [condition])?,
    };
    Ok(())
}

/// Writes what is there already, to see whether anything can be written.
pub(crate) fn check_writable(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute("UPDATE identity SET made_at = made_at", [])?;
    Ok(())
}

pub(super) struct ChangeWriter<'a> {
    pub(super) connection: &'a Connection,
    pub(super) key: &'a KeyName,
    pub(super) at: Timestamp,
}

impl ChangeWriter<'_> {
    fn write_change(&self, change: &Change) -> Result<(), LedgerError> {
        match change {
            Change::Rotation(change) => self.write_rotation_change(change),
            Change::Delivery(change) => self.write_delivery_change(change),
            Change::Schedule(change) => self.write_schedule_change(change),
            Change::Operator(change) => self.write_operator_change(change),
        }
    }

    fn write_rotation_change(&self, change: &RotationChange) -> Result<(), LedgerError> {
        match change {
            RotationChange::Started(intent) => self.start_rotation(intent),
            RotationChange::Transitioned(moved) => self.apply_transition(moved),
            RotationChange::RetryScheduled(retry) => {
                self.schedule_retry(&retry.rotation, retry.attempt, retry.retry_at, &retry.error)
            }
            RotationChange::OverlapExtended(extension) => {
                self.extend_overlap(&extension.rotation, extension.revoke_after)
            }
            RotationChange::RevocationDeferred(deferral) => self.defer_revocation(deferral),
            RotationChange::CredentialMissing(missing) => {
                self.set_missing(&missing.rotation, Some(missing.missing))
            }
            RotationChange::CredentialFound(found) => self.set_missing(&found.rotation, None),
            RotationChange::DuplicateRevoked(duplicate) => {
                let (row, _) = self.find_rotation(&duplicate.rotation)?;
                let detail = json!({"credential_id": duplicate.credential});
                self.append_event(Some(row), "double-revoked", detail)
            }
        }
    }

    fn write_delivery_change(&self, change: &DeliveryChange) -> Result<(), LedgerError> {
        match change {
            DeliveryChange::Started(start) => self.start_delivery(&start.rotation, &start.sink),
            DeliveryChange::Finished(result) => self.finish_delivery(result),
            DeliveryChange::Skipped(skipped) => {
                self.skip_delivery(&skipped.rotation, &skipped.sink)
            }
            DeliveryChange::SinkAdded(added) => {
                self.add_sink(&added.rotation, &added.sink, added.required)
            }
            DeliveryChange::SinkRemoved(removed) => {
                self.remove_sink(&removed.rotation, &removed.sink, removed.removed_at)
            }
            DeliveryChange::SinkReturned(returned) => {
                self.return_sink(&returned.rotation, &returned.sink)
            }
            DeliveryChange::SinkRequirementChanged(change) => {
                self.set_sink_required(&change.rotation, &change.sink, change.required)
            }
            DeliveryChange::SinkDrifted(drift) => {
                self.record_sink_drift(&drift.rotation, &drift.sink, &drift.problem)
            }
        }
    }

    fn write_schedule_change(&self, change: &ScheduleChange) -> Result<(), LedgerError> {
        match change {
            ScheduleChange::BackedOff(backoff) => {
                self.back_off_key(backoff.attempt, backoff.retry_at, &backoff.problem)
            }
            ScheduleChange::Recovered => self.recover_key(),
            ScheduleChange::TimetableChanged(change) => {
                self.set_timetable(&change.timetable, change.counts_from, change.pending_run)
            }
            ScheduleChange::RunMissed(missed) => {
                self.record_missed_run(missed.firing, missed.reason, missed.is_skipped)
            }
        }
    }

    fn write_operator_change(&self, change: &OperatorChange) -> Result<(), LedgerError> {
        match change {
            OperatorChange::RetryRequested(request) => {
                self.request_retry(&request.rotation, request.operator.as_ref())
            }
            OperatorChange::HoldSet(hold) => {
                self.set_hold(&hold.rotation, hold.until, hold.operator.as_ref())
            }
            OperatorChange::RevokePreviousSet(previous) => {
                self.set_revoke_previous(previous.is_pending, previous.operator.as_ref())
            }
            OperatorChange::ImmediateRevocationSet(set) => {
                self.set_immediate_revocation(&set.rotation)
            }
            OperatorChange::CredentialAdopted(adoption) => self.adopt_credential(adoption),
            OperatorChange::PauseSet(update) => {
                self.set_pause(update.pause, update.operator.as_ref())
            }
        }
    }

    fn start_rotation(&self, intent: &RotationIntent) -> Result<(), LedgerError> {
        let phase = apply(None, LifecycleEvent::Started)?;
        self.advance_sequence()?;
        self.connection
            .prepare_cached(
                "INSERT INTO rotation
                     (rotation, key, sequence, \"trigger\", scheduled_for, started_at, label, phase)
                 SELECT ?1, key, sequence, ?2, ?3, ?4, ?5, ?6 FROM key_state WHERE key = ?7",
            )?
            .execute(params![
                intent.rotation.as_str(),
                intent.trigger.as_str(),
                intent.scheduled_for.map(SqlTimestamp),
                SqlTimestamp(self.at),
                intent.label.as_str(),
                phase.as_str(),
                self.key.as_str(),
            ])?;
        let row = self.connection.last_insert_rowid();
        self.add_deliveries(row, &intent.sinks, DeliveryState::Pending)?;
        self.connection
            .prepare_cached("UPDATE key_state SET timetable = ?2, owed = NULL WHERE key = ?1")?
            .execute([self.key.as_str(), &intent.timetable])?;
        let detail = json!({
            "to": phase.as_str(), "trigger": intent.trigger.as_str(), "label": intent.label,
            "scheduled_for": intent.scheduled_for.map(time::to_text),
            "reason": operator_reason(intent.operator.as_ref()), "by": operator_name(intent.operator.as_ref()),
        });
        self.append_event(Some(row), LifecycleEvent::Started.as_str(), detail)
    }

    /// A receiver ignores what is not greater than the last it applied. Where
    /// newer labels of this key are at the provider than here, this ledger is
    /// an older one or a new one, and nobody knows how far the other has
    /// counted: it goes on with the time, which no count of rotations reaches.
    pub(super) fn advance_sequence(&self) -> Result<(), LedgerError> {
        let beyond = if self.has_newer_lookalike()? {
            time::whole_seconds(self.at).as_second()
        } else {
            1
        };
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, sequence) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET sequence = max(sequence + 1, ?2)",
            )?
            .execute(params![self.key.as_str(), beyond])?;
        Ok(())
    }

    fn has_newer_lookalike(&self) -> Result<bool, LedgerError> {
        let key = self.key.as_str();
        let newest = "SELECT label FROM rotation
             WHERE key = ?1 AND label IS NOT NULL ORDER BY sequence DESC LIMIT 1";
        let mut newest = self.connection.prepare_cached(newest)?;
        let newest: Option<String> = newest.query_row([key], |row| row.get(0)).optional()?;
        let newest = newest.unwrap_or_default();
        // Labels of one key sort by their time.
        let lookalikes = reconciliation::lookalikes(self.connection, self.key)?;
        Ok(lookalikes.iter().any(|(_, name)| *name > newest))
    }

    pub(super) fn add_deliveries(
        &self,
        row: i64,
        sinks: &[(SinkId, bool)],
        state: DeliveryState,
    ) -> Result<(), LedgerError> {
        for (place, (sink, required)) in sinks.iter().enumerate() {
            self.connection
                .prepare_cached(
                    "INSERT INTO delivery (rotation, place, sink, target, required, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    row,
                    place,
                    sink.name,
                    sink.target,
                    required,
                    state.as_str()
                ])?;
        }
        Ok(())
    }

    fn schedule_retry(
        &self,
        rotation: &RotationId,
        attempt: u32,
        retry_at: Timestamp,
        error: &str,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached(
                "UPDATE rotation SET attempt = ?2, retry_at = ?3, error = ?4, final_warning = 0
                 WHERE id = ?1",
            )?
            .execute(params![row, attempt, SqlTimestamp(retry_at), error])?;
        Ok(())
    }

    fn start_delivery(&self, rotation: &RotationId, sink: &SinkId) -> Result<(), LedgerError> {
        let state = DeliveryState::Uncertain.as_str();
        let row = self.update_delivery("state = ?1", state, rotation, sink)?;
        self.append_event(Some(row), "delivery-begun", sink_detail(sink, None))
    }

    fn finish_delivery(&self, answered: &DeliveryResult) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(&answered.rotation)?;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE delivery SET state = ?4, maybe_taken = max(maybe_taken, ?4 = 'uncertain'),
                     attempts = attempts + 1, last_attempt_at = ?5,
                     accepted_at = coalesce(?6, accepted_at), retry_at = ?7, error = ?8,
                     written_at = CASE WHEN ?9 THEN coalesce(written_at, ?5) END
                 WHERE rotation = ?1 AND sink = ?2 AND target = ?3",
            )?
            .execute(params![
                row,
                answered.sink.name,
                answered.sink.target,
                answered.state.as_str(),
                SqlTimestamp(self.at),
                answered.accepted_at.map(SqlTimestamp),
                answered.retry_at.map(SqlTimestamp),
                answered.error,
                answered.is_written,
            ])?;
        check_one_row(changed, "delivery")?;
        let event = match (answered.is_written, &answered.error) {
            (true, None) => "delivery-written".to_owned(),
            (true, Some(_)) => "after-failed".to_owned(),
            (false, _) => format!("delivery-{}", answered.state.as_str()),
        };
        self.append_event(
            Some(row),
            &event,
            sink_detail(&answered.sink, answered.error.as_deref()),
        )
    }

    fn remove_sink(
        &self,
        rotation: &RotationId,
        sink: &SinkId,
        held_since: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        let state = DeliveryState::Removed.as_str();
        let set = "state = ?1, written_at = NULL, retry_at = NULL";
        self.update_delivery(set, state, rotation, sink)?;
        let row = self.update_delivery(
            "removed_at = ?1",
            held_since.map(SqlTimestamp),
            rotation,
            sink,
        )?;
        self.append_event(Some(row), "sink-removed", sink_detail(sink, None))
    }

    fn return_sink(&self, rotation: &RotationId, sink: &SinkId) -> Result<(), LedgerError> {
        let state = DeliveryState::Uncertain.as_str();
        let row = self.update_delivery("state = ?1, removed_at = NULL", state, rotation, sink)?;
        self.append_event(Some(row), "sink-returned", sink_detail(sink, None))
    }

    fn add_sink(
        &self,
        rotation: &RotationId,
        sink: &SinkId,
        required: bool,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        // Whoever did not hear that it was recorded records it again.
        self.connection
            .prepare_cached(
                "INSERT INTO delivery (rotation, place, sink, target, required)
                 SELECT ?1, coalesce(1 + max(place), 0), ?2, ?3, ?4
                 FROM delivery WHERE rotation = ?1
                 HAVING NOT EXISTS (SELECT 1 FROM delivery
                     WHERE rotation = ?1 AND sink = ?2 AND target = ?3)",
            )?
            .execute(params![row, sink.name, sink.target, required])?;
        self.append_event(Some(row), "sink-added", sink_detail(sink, None))
    }

    fn skip_delivery(&self, rotation: &RotationId, sink: &SinkId) -> Result<(), LedgerError> {
        let state = DeliveryState::Missed.as_str();
        let set = "state = ?1, written_at = NULL, retry_at = NULL";
        let row = self.update_delivery(set, state, rotation, sink)?;
        self.append_event(Some(row), "sink-missed", sink_detail(sink, None))
    }

    fn set_sink_required(
        &self,
        rotation: &RotationId,
        sink: &SinkId,
        required: bool,
    ) -> Result<(), LedgerError> {
        self.update_delivery("required = ?1", required, rotation, sink)?;
        Ok(())
    }

    fn extend_overlap(
        &self,
        rotation: &RotationId,
        revoke_after: Timestamp,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached(
                "UPDATE rotation SET revoke_after = max(revoke_after, ?2)
                 WHERE id = ?1 AND phase = 'retired'",
            )?
            .execute(params![row, SqlTimestamp(revoke_after)])?;
        self.append_event(
            Some(row),
            "extended",
            json!({"revoke_after": time::to_text(revoke_after)}),
        )
    }

    fn back_off_key(
        &self,
        attempt: u32,
        retry_at: Timestamp,
        problem: &str,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, attempt, retry_at, problem) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET attempt = ?2, retry_at = ?3, problem = ?4",
            )?
            .execute(params![
                self.key.as_str(),
                attempt,
                SqlTimestamp(retry_at),
                problem
            ])?;
        self.append_event(
            None,
            "deferred",
            json!({"reason": problem, "attempt": attempt}),
        )
    }

    fn recover_key(&self) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "UPDATE key_state SET attempt = 0, retry_at = NULL, problem = NULL WHERE key = ?1",
            )?
            .execute([self.key.as_str()])?;
        Ok(())
    }

    /// Changes one column or more of a delivery. Gives its rotation's row.
    pub(super) fn update_delivery(
        &self,
        set: &str,
        value: impl rusqlite::ToSql,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<i64, LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        let changed = self
            .connection
            .prepare_cached(&format!(
                "UPDATE delivery SET {set} WHERE rotation = ?2 AND sink = ?3 AND target = ?4"
            ))?
            .execute(params![value, row, sink.name, sink.target])?;
        check_one_row(changed, "delivery")?;
        Ok(row)
    }

    /// The row and phase of a rotation of this key.
    pub(super) fn find_rotation(&self, rotation: &RotationId) -> Result<(i64, Phase), LedgerError> {
        let found = self
            .connection
            .prepare_cached("SELECT id, phase FROM rotation WHERE rotation = ?1 AND key = ?2")?
            .query_row([rotation.as_str(), self.key.as_str()], |row| {
                Ok((
                    row.get::<_, i64>("id")?,
                    crate::ledger::rows::phase_column(row, "phase")?,
                ))
            })
            .optional()?;
        match found {
            Some((row, Some(phase))) => Ok((row, phase)),
            Some((_, None)) | None => Err(LedgerError::Corrupt(format!(
                "no rotation {rotation} of the key {}",
                self.key
            ))),
        }
    }

    pub(super) fn append_event(
        &self,
        rotation: Option<i64>,
        event: &str,
        mut detail: Value,
    ) -> Result<(), LedgerError> {
        if let Value::Object(members) = &mut detail {
            members.retain(|_, value| !value.is_null());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO journal_entry (at, rotation, key, event, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                SqlTimestamp(self.at),
                rotation,
                self.key.as_str(),
                event,
                detail.to_string()
            ])?;
        Ok(())
    }
}

/// Why a person decided so.
pub(super) fn operator_reason(operator: Option<&OperatorNote>) -> Option<&str> {
    operator?.reason.as_deref()
}

/// Who it was.
pub(super) fn operator_name(operator: Option<&OperatorNote>) -> Option<&str> {
    operator.map(|operator| operator.by.as_str())
}

pub(super) fn sink_detail(sink: &SinkId, reason: Option<&str>) -> Value {
    json!({"sink": sink.name, "target": sink.target, "reason": reason})
}

fn check_one_row(changed: usize, what: &str) -> Result<(), LedgerError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(LedgerError::Corrupt(format!(
            "{changed} rows for one {what}"
        )))
    }
}
