//! Records that a rotation moved to another phase.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use crate::core::change::Transition;
use crate::core::lifecycle::{LifecycleEvent, Phase, apply};
use crate::core::state::CredentialMetadata;
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::write::{ChangeWriter, operator_name, operator_reason};

impl ChangeWriter<'_> {
    pub(super) fn apply_transition(&self, moved: &Transition) -> Result<(), LedgerError> {
        let (row, from) = self.find_rotation(&moved.rotation)?;
        let to = apply(Some(from), moved.event)?;
        let credential = moved.credential.as_ref();
        let mut columns = ColumnUpdates::default();
        columns.set("phase", to.as_str().to_owned());
        columns.set("attempt", 0);
        columns.set("retry_at", Value::Null);
        columns.set("missing_since", Value::Null);
        columns.set("missing_looks", 0);
        columns.set("final_warning", 0);
        if moved.event == LifecycleEvent::NotCreated {
            columns.set("maybe_made", 0);
        }
        if let Some(facts) = credential {
            columns.set_metadata(facts);
        }
        columns.set_phase_timestamp(to, self.at);
        columns.set_if_some("revoke_after", moved.revoke_after.map(time::to_text));
        match (&moved.error, to) {
            (None, Phase::Created | Phase::Verified | Phase::Current) => {
                columns.set("error", Value::Null);
            }
            (error, _) => columns.set_if_some("error", error.clone()),
        }
        columns.execute(self.connection, row)?;
        let detail = json!({
            "from": from.as_str(), "to": to.as_str(),
            "credential_id": credential.map(|facts| &facts.id),
            "revoke_after": moved.revoke_after.map(time::to_text),
            "reason": operator_reason(moved.operator.as_ref()).or(moved.error.as_deref()),
            "by": operator_name(moved.operator.as_ref()),
        });
        self.append_event(Some(row), moved.event.as_str(), detail)
    }
}

/// What is set in a row. A column of an index is named only if it changes: SQLite
/// writes what is named to its indices anew, and that of all credentials is
/// large.
#[derive(Default)]
struct ColumnUpdates {
    names: Vec<&'static str>,
    values: Vec<Value>,
}

impl ColumnUpdates {
    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.names.push(name);
        self.values.push(value.into());
    }

    /// What is not known stays as it was.
    fn set_if_some(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn set_metadata(&mut self, facts: &CredentialMetadata) {
        self.set("credential_id", facts.id.as_str().to_owned());
        self.set_if_some("redacted_value", facts.redacted_value.clone());
        self.set_if_some("created_at", facts.created_at.map(time::to_text));
        self.set_if_some("expires_at", facts.expires_at.map(time::to_text));
    }

    /// Since when it is in this phase, where a column tells.
    fn set_phase_timestamp(&mut self, phase: Phase, at: Timestamp) {
        let at = time::to_text(at);
        match phase {
            Phase::Current => self.set("current_at", at),
            Phase::Retired => self.set("retired_at", at),
            Phase::Stranded => self.set("stranded_at", at),
            Phase::Revoked => self.set("revoked_at", at),
            // It may have been taken for revoked.
            Phase::Orphaned => self.set("revoked_at", Value::Null),
            Phase::Intended | Phase::Created | Phase::Verified | Phase::Failed => {}
        }
    }

    fn execute(self, connection: &Connection, row: i64) -> Result<(), LedgerError> {
        let set = self.names.join(" = ?, ");
        let sql = format!("UPDATE rotation SET {set} = ? WHERE id = ?");
        let values = self.values.into_iter().chain([row.into()]);
        connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        Ok(())
    }
}
