//! Records that a rotation moved to another phase.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use crate::core::change::Moved;
use crate::core::record::CredentialFacts;
use crate::core::rotation::{Event, Phase, apply};
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::write::{Writer, by, reason};

impl Writer<'_> {
    pub(super) fn move_on(&self, moved: &Moved) -> Result<(), LedgerError> {
        let (row, from) = self.find(&moved.rotation)?;
        let to = apply(Some(from), moved.event)?;
        let credential = moved.credential.as_ref();
        let mut columns = Columns::default();
        columns.set("phase", to.as_str().to_owned());
        columns.set("attempt", 0);
        columns.set("retry_at", Value::Null);
        columns.set("missing_since", Value::Null);
        columns.set("missing_looks", 0);
        if moved.event == Event::NotDone {
            columns.set("maybe_made", 0);
        }
        if let Some(facts) = credential {
            columns.set_facts(facts);
        }
        columns.set_times(to, self.at);
        columns.set_known("revoke_after", moved.revoke_after.map(time::to_text));
        match (&moved.error, to) {
            (None, Phase::Created | Phase::Verified | Phase::Current) => {
                columns.set("error", Value::Null);
            }
            (error, _) => columns.set_known("error", error.clone()),
        }
        columns.update(self.connection, row)?;
        let detail = json!({
            "from": from.as_str(), "to": to.as_str(),
            "credential_id": credential.map(|facts| &facts.id),
            "revoke_after": moved.revoke_after.map(time::to_text),
            "reason": reason(moved.by_hand.as_ref()).or(moved.error.as_deref()),
            "by": by(moved.by_hand.as_ref()),
        });
        self.tell(Some(row), moved.event.as_str(), detail)
    }
}

/// What is set in a row. A column of an index is named only if it changes: SQLite
/// writes what is named to its indices anew, and that of all credentials is
/// large.
#[derive(Default)]
struct Columns {
    names: Vec<&'static str>,
    values: Vec<Value>,
}

impl Columns {
    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.names.push(name);
        self.values.push(value.into());
    }

    /// What is not known stays as it was.
    fn set_known(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn set_facts(&mut self, facts: &CredentialFacts) {
        self.set("credential_id", facts.id.as_str().to_owned());
        self.set_known("redacted_value", facts.redacted_value.clone());
        self.set_known("created_at", facts.created_at.map(time::to_text));
        self.set_known("expires_at", facts.expires_at.map(time::to_text));
    }

    /// Since when it is in this phase, where a column tells.
    fn set_times(&mut self, phase: Phase, at: Timestamp) {
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

    fn update(self, connection: &Connection, row: i64) -> Result<(), LedgerError> {
        let set = self.names.join(" = ?, ");
        let sql = format!("UPDATE rotation SET {set} = ? WHERE id = ?");
        let values = self.values.into_iter().chain([row.into()]);
        connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        Ok(())
    }
}
