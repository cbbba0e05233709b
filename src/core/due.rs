//! Whether a key is due now, and why: computed from the configuration, the
//! ledger and the wall clock each time it is asked, and remembered nowhere.
//!
//! Deliberately not here: what may hold a due key back besides its own
//! `retry_at` (a pause, a problem of the daemon).

use std::time::Duration;

use jiff::Timestamp;

use crate::core::names::SinkId;
use crate::core::policy::{self, KeyPolicy};
use crate::core::record::{DeliveryState, KeyState, Rotation, Trigger};
use crate::core::rotation::Phase;
use crate::core::time;

/// Rows that are further ahead than this were written by a wrong clock. The
/// same measure as for the provider's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// No back-off is this long: a `retry_at` further ahead was written by a wrong
/// clock, and would silence the key until that time came.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3_600);

/// Whether a key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is not.
    No {
        /// When it will be, as far as is known now.
        next: Option<Timestamp>,
    },
    /// It is.
    Since {
        /// Since when, its back-off included.
        at: Timestamp,
        /// The firing that it is due for.
        scheduled_for: Option<Timestamp>,
        /// Why.
        trigger: Trigger,
    },
}

/// Whether a key is due at `now`.
///
/// `required_sinks` are the configured ones; `watching_since` is when this
/// process began to look after the key: an earlier firing was missed.
#[must_use]
pub fn due(
    policy: &KeyPolicy,
    required_sinks: &[SinkId],
    state: &KeyState,
    watching_since: Timestamp,
    now: Timestamp,
) -> Due {
    let by_schedule = || Due::No {
        next: policy.schedule.next_after(now),
    };
    if state.open().is_some() {
        return by_schedule();
    }
    let watching_since = watching_since.min(now);
    let reason = match (state.newest, state.current()) {
        (None, _) => Some((Trigger::First, watching_since, None)),
        (Some(newest), None) => Some((without_current(newest), watching_since, None)),
        (Some(newest), Some(current)) => {
            let view = View {
                policy,
                required_sinks,
                state,
                watching_since,
                now,
            };
            view.reason(newest, current)
        }
    };
    match reason {
        None => by_schedule(),
        Some((trigger, natural, scheduled_for)) => {
            let at = natural.max(retry_at(state, now).unwrap_or(natural));
            if at > now {
                Due::No { next: Some(at) }
            } else {
                Due::Since {
                    at,
                    scheduled_for,
                    trigger,
                }
            }
        }
    }
}

/// Why it is due, since when by itself, and for which firing.
type Reason = (Trigger, Timestamp, Option<Timestamp>);

/// What is known of a key that has a current credential.
struct View<'k> {
    policy: &'k KeyPolicy,
    required_sinks: &'k [SinkId],
    state: &'k KeyState,
    watching_since: Timestamp,
    now: Timestamp,
}

impl View<'_> {
    fn reason(&self, newest: Phase, current: &Rotation) -> Option<Reason> {
        let since = self.anchor(current);
        if self.lacks_a_sink(current) || self.has_stranded(current) {
            let seen = since.max(self.watching_since);
            return Some((Trigger::Repair, seen, None));
        }
        let firing = self.policy.schedule.last_between(since, self.now);
        if self.state.sequence > current.sequence && came_to_nothing(newest) {
            let natural = firing.unwrap_or(since);
            return Some((Trigger::Retry, natural, firing));
        }
        firing.map(|firing| {
            let trigger = if firing >= self.watching_since {
                Trigger::Schedule
            } else {
                Trigger::CatchUp
            };
            (trigger, firing, Some(firing))
        })
    }

    /// After which moment firings count. A row from a wrong future counts for
    /// nothing: firings count from when this process began, and the next
    /// rotation puts it right.
    fn anchor(&self, current: &Rotation) -> Timestamp {
        if current.started_at > time::after(self.now, CLOCK_TOLERANCE) {
            self.watching_since
        } else {
            current.started_at.min(self.now)
        }
    }

    fn lacks_a_sink(&self, current: &Rotation) -> bool {
        self.required_sinks.iter().any(|sink| {
            !current
                .deliveries
                .iter()
                .any(|delivery| delivery.sink == *sink && delivery.state == DeliveryState::Accepted)
        })
    }

    /// Whether a stranded credential needs a successor. One older than the
    /// current one does only while a sink that a successor would reach still
    /// holds it; a sink that is not configured any more would never let go,
    /// and the key would be rotated again and again.
    fn has_stranded(&self, current: &Rotation) -> bool {
        self.state
            .live
            .iter()
            .filter(|rotation| rotation.phase == Phase::Stranded)
            .any(|stranded| {
                stranded.sequence > current.sequence || self.is_held_within_reach(stranded)
            })
    }

    fn is_held_within_reach(&self, stranded: &Rotation) -> bool {
        let mut reached = stranded.clone();
        reached
            .deliveries
            .retain(|delivery| self.required_sinks.contains(&delivery.sink));
        policy::held(&reached, self.state, self.policy.overlap) == policy::Held::Open
    }
}

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

fn retry_at(state: &KeyState, now: Timestamp) -> Option<Timestamp> {
    state
        .retry_at
        .filter(|at| *at <= time::after(now, LONGEST_RETRY))
}

#[cfg(test)]
mod tests;
