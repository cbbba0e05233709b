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
    due_since(policy, required, state, failing_since, now)
        .is_some_and(|since| time::until(since, now) > overdue_threshold(policy))
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
