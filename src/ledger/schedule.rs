//! Records what concerns a key's firings: its timetable, those that nobody was
//! there for, a person's pause.

use jiff::Timestamp;
use rusqlite::params;
use serde_json::json;

use crate::core::change::{DowntimeReason, OperatorNote};
use crate::core::state::Pause;
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::write::{ChangeWriter, operator_name, operator_reason};

impl ChangeWriter<'_> {
    pub(super) fn set_timetable(
        &self,
        timetable: &str,
        counts_from: Option<Timestamp>,
        owed: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, timetable, counts_from, owed) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET timetable = ?2, counts_from = ?3, owed = ?4",
            )?
            .execute(params![
                self.key.as_str(),
                timetable,
                counts_from.map(SqlTimestamp),
                owed.map(SqlTimestamp)
            ])?;
        let detail = json!({
            "timetable": timetable, "counts_from": counts_from.map(time::to_text),
            "owed": owed.map(time::to_text),
        });
        self.append_event(None, "timetable", detail)
    }

    /// What is dropped is settled, and so is what was owed before it.
    pub(super) fn record_missed_run(
        &self,
        firing: Timestamp,
        why: DowntimeReason,
        dropped: bool,
    ) -> Result<(), LedgerError> {
        if dropped {
            self.connection
                .prepare_cached(
                    "INSERT INTO key_state (key, counts_from) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET
                         counts_from = max(coalesce(counts_from, ?2), ?2), owed = NULL",
                )?
                .execute(params![self.key.as_str(), SqlTimestamp(firing)])?;
        }
        let then = if dropped { "dropped" } else { "made up for" };
        let detail = json!({"firing": time::to_text(firing), "reason": why.as_str(), "then": then});
        self.append_event(None, "firing-missed", detail)
    }

    pub(super) fn set_pause(
        &self,
        pause: Pause,
        operator: Option<&OperatorNote>,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, paused_from, paused_until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET paused_from = ?2, paused_until = ?3",
            )?
            .execute(params![
                self.key.as_str(),
                SqlTimestamp(pause.from),
                pause.until.map(SqlTimestamp)
            ])?;
        let event = if pause.is_active(self.at) {
            "pause"
        } else {
            "resume"
        };
        let detail = json!({
            "until": pause.until.map(time::to_text), "reason": operator_reason(operator), "by": operator_name(operator),
        });
        self.append_event(None, event, detail)
    }
}
