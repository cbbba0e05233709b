//! When a key is due: from the configuration, the ledger and the time, and
//! from nothing else.
//!
//! Deliberately not here: what may hold a due key back besides its own
//! `retry_at`, such as a problem of the daemon.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::names::SinkId;
use crate::core::policy::{Held, KeyPolicy, believed, held};
use crate::core::record::{DeliveryState, KeyState, Rotation, Trigger};
use crate::core::rotation::Phase;
use crate::core::time;

/// A row from further ahead than this was written by a wrong clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Whether a rotation of a key is to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not now.
    No {
        /// When it will be; none if never, or if one is open.
        next: Option<Timestamp>,
    },
    /// Now.
    Since {
        /// Since when.
        at: Timestamp,
        /// For which firing of its schedule.
        scheduled_for: Option<Timestamp>,
        /// Why.
        trigger: Trigger,
    },
}

/// Whether a rotation of a key is to be begun at `now`. `required` are the
/// sinks that the configuration wants served, and `watching_since` is since
/// when somebody has been there to see a firing.
#[must_use]
pub fn due(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    watching_since: Timestamp,
    now: Timestamp,
) -> Due {
    if state.open().is_some() {
        return Due::No { next: None };
    }
    let watching_since = watching_since.min(now);
    let retry_at = believed(state.retry_at, now);
    let (trigger, scheduled_for) = match (state.current(), state.newest) {
        (None, None) => (Trigger::First, None),
        (None, Some(newest)) => (without_current(newest), None),
        (Some(current), newest) => {
            let since = counted_from(current, watching_since, now);
            let firing = policy.schedule.last_between(since, now);
            let ends = last_quarter(current);
            if ends.is_some_and(|at| at <= now)
                || needs_repair(current, required, state, policy.overlap)
            {
                (Trigger::Repair, None)
            } else if state.sequence > current.sequence && newest.is_some_and(came_to_nothing) {
                (Trigger::Retry, firing)
            } else {
                match firing {
                    Some(at) if at >= watching_since => (Trigger::Schedule, firing),
                    Some(_) => (Trigger::CatchUp, firing),
                    None => {
                        let next = policy.schedule.next_after(since.max(now));
                        let next = next.into_iter().chain(ends).min();
                        let next = next.map(|next| retry_at.map_or(next, |retry| retry.max(next)));
                        return Due::No { next };
                    }
                }
            }
        }
    };
    match retry_at {
        Some(at) if at > now => Due::No { next: Some(at) },
        Some(_) | None => Due::Since {
            at: scheduled_for.max(retry_at).unwrap_or(watching_since),
            scheduled_for,
            trigger,
        },
    }
}

/// After which moment firings count. A row from a wrong future is kept and
/// ignored: firings count from when somebody was there to see them, and the
/// next rotation puts it right. Were it believed, the key would not rotate
/// until that date.
fn counted_from(current: &Rotation, watching_since: Timestamp, now: Timestamp) -> Timestamp {
    if current.started_at > time::after(now, CLOCK_TOLERANCE) {
        watching_since
    } else {
        current.started_at
    }
}

/// When the current credential of a key ends by itself, if that is so soon
/// that its successor should be there: what keeps it from being made is
/// urgent.
#[must_use]
pub fn expiring(state: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let current = state.current()?;
    let near = last_quarter(current).is_some_and(|at| at <= now);
    current.credential.as_ref()?.expires_at.filter(|_| near)
}

/// When the last quarter of a credential's life begins, if it ends by itself:
/// its successor is made while there is time for failures.
fn last_quarter(current: &Rotation) -> Option<Timestamp> {
    let credential = current.credential.as_ref()?;
    let end = credential.expires_at?;
    let begin = credential.created_at.unwrap_or(current.started_at);
    Some(time::before(end, time::until(begin, end) / 4))
}

/// Why a key without a current credential is due, by how its newest rotation
/// ended.
fn without_current(newest: Phase) -> Trigger {
    match newest {
        Phase::Failed | Phase::Orphaned => Trigger::Retry,
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Current
        | Phase::Retired
        | Phase::Stranded
        | Phase::Revoked => Trigger::Repair,
    }
}

fn came_to_nothing(newest: Phase) -> bool {
    match newest {
        Phase::Failed | Phase::Orphaned | Phase::Revoked => true,
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Current
        | Phase::Retired
        | Phase::Stranded => false,
    }
}

/// Whether something is not as it should be for the current credential: a
/// required sink has not accepted it, or a stranded one waits for a newer.
fn needs_repair(
    current: &Rotation,
    required: &[SinkId],
    state: &KeyState,
    overlap: Duration,
) -> bool {
    let accepted = |sink: &SinkId| {
        current
            .deliveries
            .iter()
            .any(|delivery| delivery.sink == *sink && delivery.state == DeliveryState::Accepted)
    };
    let adopted = current.trigger == Trigger::Adopted;
    let mut stranded = state
        .live
        .iter()
        .filter(|rotation| rotation.phase == Phase::Stranded);
    (!adopted && !required.iter().all(accepted))
        || stranded.any(|stranded| {
            stranded.sequence > current.sequence
                || is_held_within_reach(stranded, required, state, overlap)
        })
}

/// Whether a sink that a successor would be delivered to may hold the secret
/// of `stranded` without end. One that is not configured any more would never
/// let go, and the key would be due for ever.
fn is_held_within_reach(
    stranded: &Rotation,
    required: &[SinkId],
    state: &KeyState,
    overlap: Duration,
) -> bool {
    let mut reached = stranded.clone();
    reached
        .deliveries
        .retain(|delivery| required.contains(&delivery.sink));
    held(&reached, state, overlap) == Held::Open
}

#[cfg(test)]
mod tests;
