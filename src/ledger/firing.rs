//! Records what concerns a key's firings: its timetable, those that nobody was
//! there for, a person's pause.

use jiff::Timestamp;
use rusqlite::params;
use serde_json::json;

use crate::core::change::{ByHand, Why};
use crate::core::record::Pause;
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::row::Text;
use crate::ledger::write::{Writer, by, reason};

impl Writer<'_> {
    pub(super) fn count_by(
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
                counts_from.map(Text),
                owed.map(Text)
            ])?;
        let detail = json!({
            "timetable": timetable, "counts_from": counts_from.map(time::to_text),
            "owed": owed.map(time::to_text),
        });
        self.tell(None, "timetable", detail)
    }

    /// What is dropped is settled, and so is what was owed before it.
    pub(super) fn miss_firing(
        &self,
        firing: Timestamp,
        why: Why,
        dropped: bool,
    ) -> Result<(), LedgerError> {
        if dropped {
            self.connection
                .prepare_cached(
                    "INSERT INTO key_state (key, counts_from) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET
                         counts_from = max(coalesce(counts_from, ?2), ?2), owed = NULL",
                )?
                .execute(params![self.key.as_str(), Text(firing)])?;
        }
        let then = if dropped { "dropped" } else { "made up for" };
        let detail = json!({"firing": time::to_text(firing), "reason": why.as_str(), "then": then});
        self.tell(None, "firing-missed", detail)
    }

    pub(super) fn pause(&self, pause: Pause, by_hand: Option<&ByHand>) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO key_state (key, paused_from, paused_until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET paused_from = ?2, paused_until = ?3",
            )?
            .execute(params![
                self.key.as_str(),
                Text(pause.from),
                pause.until.map(Text)
            ])?;
        let event = if pause.holds(self.at) {
            "pause"
        } else {
            "resume"
        };
        let detail = json!({
            "until": pause.until.map(time::to_text), "reason": reason(by_hand), "by": by(by_hand),
        });
        self.tell(None, event, detail)
    }
}
