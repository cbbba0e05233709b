//! Applies changes to when a key is rotated.

use serde_json::json;

use crate::core::apply::update::KeyUpdate;
use crate::core::change::{DueRun, KeyBackoff, MissedRun, ScheduleChange, TimetableChange};
use crate::core::ledger_event::LedgerEventKind;
use crate::core::time;

pub(super) fn apply_change(update: &mut KeyUpdate, change: &ScheduleChange) {
    match change {
        ScheduleChange::BackedOff(backoff) => back_off(update, backoff),
        ScheduleChange::Recovered => {
            let state = &mut update.state;
            (state.attempt, state.retry_at, state.last_error) = (0, None, None);
            state.failed_before_create = false;
        }
        ScheduleChange::TimetableChanged(change) => change_timetable(update, change),
        ScheduleChange::RunDue(due) => record_due_run(update, due),
        ScheduleChange::RunMissed(missed) => miss_run(update, missed),
    }
}

fn back_off(update: &mut KeyUpdate, backoff: &KeyBackoff) {
    let state = &mut update.state;
    state.attempt = backoff.attempt;
    state.retry_at = Some(time::whole_seconds(backoff.retry_at));
    state.last_error = Some(backoff.problem.clone());
    state.failed_before_create = backoff.is_before_create;
    let mut detail = json!({"reason": backoff.problem, "attempt": backoff.attempt});
    if backoff.is_extra {
        // The failure did not begin with it: see `failing_since` in the ledger.
        detail["extra"] = json!(true);
    }
    update.append_event(None, LedgerEventKind::KeyBackedOff, detail);
}

fn change_timetable(update: &mut KeyUpdate, change: &TimetableChange) {
    let state = &mut update.state;
    state.timetable = Some(change.timetable.clone());
    state.counts_from = change.counts_from.map(time::whole_seconds);
    state.pending_run = change.pending_run.map(time::whole_seconds);
    let detail = json!({
        "timetable": change.timetable, "counts_from": change.counts_from.map(time::to_text),
        "pending_run": change.pending_run.map(time::to_text),
    });
    update.append_event(None, LedgerEventKind::TimetableChanged, detail);
}

fn record_due_run(update: &mut KeyUpdate, due: &DueRun) {
    let firing = time::whole_seconds(due.firing);
    update.state.due_run = Some(firing);
    let detail = json!({"firing": time::to_text(firing)});
    update.append_event(None, LedgerEventKind::RunDue, detail);
}

/// A skipped run is settled, and so is every run before it.
fn miss_run(update: &mut KeyUpdate, missed: &MissedRun) {
    if missed.is_skipped {
        let state = &mut update.state;
        state.counts_from = state
            .counts_from
            .max(Some(time::whole_seconds(missed.firing)));
        state.pending_run = None;
        state.dropped_run = Some(time::whole_seconds(missed.firing));
        state.dropped_runs = state.dropped_runs.saturating_add(1);
    }
    let outcome = if missed.is_skipped {
        "dropped"
    } else {
        "catch-up"
    };
    let detail = json!({
        "firing": time::to_text(missed.firing), "reason": missed.reason.as_str(), "outcome": outcome,
    });
    update.append_event(None, LedgerEventKind::RunMissed, detail);
}
