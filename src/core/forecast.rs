//! When a key rotates next, as far as the ledger and the configuration show.

use jiff::Timestamp;

use crate::core::decide::due::{Downtime, Due, age_origin, check_due};
use crate::core::ids::SinkId;
use crate::core::policy::KeyPolicy;
use crate::core::state::KeyState;

/// Returns when a key rotates next: a time that is not after `now` means that it is due. None
/// if never, as during a pause without an end, or if a rotation is open.
#[must_use]
pub fn next_rotation(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    now: Timestamp,
) -> Option<Timestamp> {
    match check_due(policy, required, state, Downtime::none(now), now) {
        Due::NotDue { next } => {
            let end = state.pause.filter(|pause| pause.is_active(now));
            let end = end.and_then(|pause| pause.until);
            match end {
                // The engine looks again at the end of a pause, which is no rotation yet. A
                // credential that expires earlier does not wait for it.
                Some(end)
                    if next.is_none_or(|next| next >= end) && state.open_rotation().is_none() =>
                {
                    next_after_pause(policy, required, state, end)
                }
                Some(_) | None => next,
            }
        }
        Due::Now { since: at, .. } | Due::MissedRunSkipped { firing: at, .. } => Some(at),
    }
}

/// Returns when a key rotates that is paused until `end`. What fell due during the pause runs
/// at its end, unless it is too old by then.
fn next_after_pause(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    end: Timestamp,
) -> Option<Timestamp> {
    match check_due(policy, required, state, Downtime::none(end), end) {
        Due::NotDue { next } => next,
        Due::Now { .. } => Some(end),
        Due::MissedRunSkipped { .. } => {
            let firings = policy
                .timetable
                .firings_from(age_origin(policy, state, end));
            firings.next_after(end)
        }
    }
}
