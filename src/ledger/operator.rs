//! Records what a person decided, and what was found out beside a rotation's
//! own steps.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use serde_json::json;

use crate::core::change::{Adoption, OperatorNote, RevocationDeferral};
use crate::core::ids::{RotationId, SinkId};
use crate::core::lifecycle::{Phase, apply};
use crate::core::state::{DeliveryState, MissingSince, Trigger};
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::write::{ChangeWriter, operator_name, operator_reason, sink_detail};

impl ChangeWriter<'_> {
    pub(super) fn set_missing(
        &self,
        rotation: &RotationId,
        missing: Option<MissingSince>,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached(
                "UPDATE rotation SET missing_since = ?2, missing_looks = ?3 WHERE id = ?1",
            )?
            .execute(params![
                row,
                missing.map(|missing| SqlTimestamp(missing.since)),
                missing.map_or(0, |missing| missing.checks),
            ])?;
        let event = if missing.is_some() {
            "missing"
        } else {
            "found"
        };
        let detail = json!({"looks": missing.map(|missing| missing.checks)});
        self.append_event(Some(row), event, detail)
    }

    pub(super) fn request_retry(
        &self,
        rotation: &RotationId,
        operator: Option<&OperatorNote>,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached("UPDATE rotation SET retry_at = NULL WHERE id = ?1")?
            .execute([row])?;
        self.connection
            .prepare_cached("UPDATE delivery SET retry_at = NULL WHERE rotation = ?1")?
            .execute([row])?;
        let detail = json!({"reason": operator_reason(operator), "by": operator_name(operator)});
        self.append_event(Some(row), "try-now", detail)
    }

    /// The sink goes on holding the secret: its consumers may have read it.
    pub(super) fn record_sink_drift(
        &self,
        rotation: &RotationId,
        sink: &SinkId,
        problem: &str,
    ) -> Result<(), LedgerError> {
        let state = DeliveryState::Uncertain.as_str();
        self.update_delivery("state = ?1, maybe_taken = 1", state, rotation, sink)?;
        let row = self.update_delivery("error = ?1", problem, rotation, sink)?;
        self.append_event(Some(row), "target-lost", sink_detail(sink, Some(problem)))
    }

    pub(super) fn defer_revocation(
        &self,
        deferral: &RevocationDeferral,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(&deferral.rotation)?;
        let before: Option<bool> = self
            .connection
            .prepare_cached(
                "SELECT final_warning FROM rotation WHERE id = ?1 AND error IS NOT NULL",
            )?
            .query_row([row], |found| found.get(0))
            .optional()?;
        self.connection
            .prepare_cached(
                "UPDATE rotation SET attempt = 0, retry_at = ?2, error = ?3, final_warning = ?4
                 WHERE id = ?1",
            )?
            .execute(params![
                row,
                SqlTimestamp(deferral.retry_at),
                deferral.reason,
                deferral.final_warning
            ])?;
        // The revocation is decided every quarter of an hour: the repetition is
        // no event.
        if before == Some(deferral.final_warning) {
            return Ok(());
        }
        let detail = json!({
            "until": time::to_text(deferral.retry_at), "reason": deferral.reason,
        });
        self.append_event(Some(row), "held-back", detail)
    }

    pub(super) fn set_hold(
        &self,
        rotation: &RotationId,
        until: Option<Timestamp>,
        operator: Option<&OperatorNote>,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached("UPDATE rotation SET hold_until = ?2 WHERE id = ?1")?
            .execute(params![row, until.map(SqlTimestamp)])?;
        let event = if until.is_some() { "hold" } else { "release" };
        let detail = json!({"until": until.map(time::to_text), "reason": operator_reason(operator), "by": operator_name(operator)});
        self.append_event(Some(row), event, detail)
    }

    pub(super) fn set_revoke_previous(
        &self,
        wanted: bool,
        operator: Option<&OperatorNote>,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, revoke_previous) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET revoke_previous = ?2",
            )?
            .execute(params![self.key.as_str(), wanted])?;
        if wanted {
            self.append_event(
                None,
                "revoke-previous-now",
                json!({"reason": operator_reason(operator), "by": operator_name(operator)}),
            )?;
        }
        Ok(())
    }

    pub(super) fn set_immediate_revocation(
        &self,
        rotation: &RotationId,
    ) -> Result<(), LedgerError> {
        let (row, _) = self.find_rotation(rotation)?;
        self.connection
            .prepare_cached(
                "UPDATE rotation SET revoke_now = 1, attempt = 0, retry_at = NULL WHERE id = ?1",
            )?
            .execute([row])?;
        self.append_event(Some(row), "revoke-now", json!({}))
    }

    /// Its sinks may all hold it: nobody saw how it got to its consumers.
    pub(super) fn adopt_credential(&self, adoption: &Adoption) -> Result<(), LedgerError> {
        let phase = apply(None, adoption.event)?;
        let reached = |wanted: Phase| (phase == wanted).then_some(SqlTimestamp(self.at));
        self.advance_sequence()?;
        self.connection
            .prepare_cached(
                "INSERT INTO rotation
                     (rotation, key, sequence, \"trigger\", started_at, phase, maybe_made,
                      credential_id, redacted_value, created_at, expires_at,
                      current_at, stranded_at)
                 SELECT ?1, key, sequence, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10
                 FROM key_state WHERE key = ?11",
            )?
            .execute(params![
                adoption.rotation.as_str(),
                Trigger::Adopted.as_str(),
                SqlTimestamp(self.at),
                phase.as_str(),
                adoption.credential.id.as_str(),
                adoption.credential.redacted_value,
                adoption.credential.created_at.map(SqlTimestamp),
                adoption.credential.expires_at.map(SqlTimestamp),
                reached(Phase::Current),
                reached(Phase::Stranded),
                self.key.as_str(),
            ])?;
        let row = self.connection.last_insert_rowid();
        self.add_deliveries(row, &adoption.sinks, DeliveryState::Uncertain)?;
        let detail = json!({
            "to": phase.as_str(), "credential_id": adoption.credential.id,
            "reason": operator_reason(adoption.operator.as_ref()), "by": operator_name(adoption.operator.as_ref()),
        });
        self.append_event(Some(row), adoption.event.as_str(), detail)
    }
}
