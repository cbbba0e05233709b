//! Since when a key has been waiting to be rotated, and whether that is too
//! long: for those who watch.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::due::{Downtime, Due, check_due, first_firing};
use crate::core::ids::SinkId;
use crate::core::policy::KeyPolicy;
use crate::core::state::KeyState;
use crate::core::time;

/// Whether a key has been due for longer than its jitter and `delivery-deadline`.
/// `failing_since` is when the present row of its failures began.
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

/// For how long a key may be due before it is overdue.
pub(crate) fn overdue_threshold(policy: &KeyPolicy) -> Duration {
    policy.timetable.jitter() + policy.delivery_deadline
}

/// Since when a key has been waiting to be rotated: the first firing that was
/// missed, the beginning of what is open, or the first failure of the present
/// row of them. A try that is put off does not begin the time anew.
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
            let without_back_off = KeyState {
                retry_at: None,
                ..state.clone()
            };
            let nobody = Downtime::none(now);
            match check_due(policy, required, &without_back_off, nobody, now) {
                // Not due at all: what failed before is over or not wanted.
                Due::NotDue { .. } | Due::MissedRunSkipped { .. } => return None,
                Due::Now {
                    scheduled_for: None,
                    since: at,
                    ..
                } => at,
                // Of several missed firings that is the last.
                Due::Now {
                    scheduled_for: Some(last),
                    ..
                } => {
                    let first = first_firing(policy, state, now);
                    let first = first.map_or(last, |first| first.min(last));
                    // While it was paused, nobody waited.
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
