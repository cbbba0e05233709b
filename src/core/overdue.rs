//! How long a key has been due for a rotation, and whether that is too long: for
//! the status, the metrics and the alerts.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::due::{Downtime, Due, check_due, first_firing};
use crate::core::ids::SinkId;
use crate::core::policy::KeyPolicy;
use crate::core::state::KeyState;
use crate::core::time;

/// Returns whether a key has been due for longer than its jitter and
/// `delivery-deadline` together. `failing_since` is the first of its latest
/// consecutive failures.
#[must_use]
pub fn is_overdue(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    failing_since: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    overdue_from(policy, required, state, failing_since, None, now).is_some_and(|from| from < now)
}

/// Returns the time after which a key is overdue, if it stays as it is: of a key that is due,
/// and of one whose next rotation is `planned` at a later time. None if it is neither.
#[must_use]
pub fn overdue_from(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    failing_since: Option<Timestamp>,
    planned: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    if drops_runs(state) {
        return Some(Timestamp::MIN);
    }
    let since = due_since(policy, required, state, failing_since, now);
    let since = since.or(planned.filter(|at| *at > now))?;
    Some(time::after(since, overdue_threshold(policy)))
}

/// The number of runs that are dropped one after another from which on a key is overdue: a
/// single one is what `catch-up-window` is for.
const DROPPED_RUNS_UNTIL_OVERDUE: u32 = 2;

/// Returns whether a key drops its scheduled runs, so that it is not rotated.
#[must_use]
pub fn drops_runs(state: &KeyState) -> bool {
    state.dropped_runs >= DROPPED_RUNS_UNTIL_OVERDUE
}

/// Describes the scheduled runs that were dropped since a key was last rotated.
#[must_use]
pub fn dropped_runs_text(state: &KeyState) -> Option<String> {
    let last = time::to_text(state.dropped_run?);
    let dropped = match state.dropped_runs {
        0 | 1 => format!("the run of {last} was missed and dropped"),
        count => format!("{count} runs were missed and dropped, the last one that of {last}"),
    };
    Some(format!(
        "{dropped}, because it was older than catch-up-window; hint: lengthen catch-up-window, or \
         run `rekeyd rotate {}`",
        state.key
    ))
}

/// Returns how long a key may be due before it is overdue.
pub(crate) fn overdue_threshold(policy: &KeyPolicy) -> Duration {
    policy.timetable.jitter() + policy.delivery_deadline
}

/// Returns when a key became due: at its first missed firing, at the start of its
/// open rotation, or at the first of its latest consecutive failures. A delayed
/// retry does not move that time.
pub(crate) fn due_since(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    failing_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let since = match state.open_rotation() {
        Some(open) => open.scheduled_for.unwrap_or(open.started_at),
        None => {
            let without_backoff = KeyState {
                retry_at: None,
                ..state.clone()
            };
            let downtime = Downtime::none(now);
            match check_due(policy, required, &without_backoff, downtime, now) {
                // An earlier failure no longer counts once nothing is due.
                Due::NotDue { .. } | Due::MissedRunSkipped { .. } => return None,
                Due::Now {
                    scheduled_for: None,
                    since,
                    ..
                } => since,
                // `scheduled_for` is the last of several missed firings.
                Due::Now {
                    scheduled_for: Some(last),
                    ..
                } => {
                    let first = first_firing(policy, state, now);
                    let first = first.map_or(last, |first| first.min(last));
                    // A paused key is not due.
                    let resumed = state.pause.and_then(|pause| pause.until);
                    first.max(resumed.unwrap_or(first))
                }
            }
        }
    };
    Some(since).into_iter().chain(failing_since).min()
}

#[cfg(test)]
mod tests;
