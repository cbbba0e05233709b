//! When a key is due: from the configuration, the ledger and the time, and
//! from nothing else.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::names::SinkId;
use crate::core::policy::{Held, KeyPolicy, held};
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
    let found = match (state.current(), state.newest) {
        (None, None) => (Trigger::First, None),
        (None, Some(Phase::Failed | Phase::Orphaned)) => (Trigger::Retry, None),
        (None, Some(_)) => (Trigger::Repair, None),
        (Some(current), newest) => {
            // A row from a wrong future is kept and ignored.
            let ahead = current.started_at > time::after(now, CLOCK_TOLERANCE);
            let since = if ahead { now } else { current.started_at };
            if needs_repair(current, required, state, policy.overlap) {
                (Trigger::Repair, None)
            } else if failed_since(current, newest, state) {
                (Trigger::Retry, None)
            } else {
                match policy.schedule.last_between(since, now) {
                    Some(firing) if firing >= watching_since => (Trigger::Schedule, Some(firing)),
                    Some(firing) => (Trigger::CatchUp, Some(firing)),
                    None => return not_yet(policy, state, since.max(now)),
                }
            }
        }
    };
    let (trigger, scheduled_for) = found;
    match state.retry_at {
        Some(at) if at > now => Due::No { next: Some(at) },
        retry_at => {
            let at = scheduled_for
                .max(retry_at)
                .unwrap_or(watching_since.min(now));
            Due::Since {
                at,
                scheduled_for,
                trigger,
            }
        }
    }
}

fn not_yet(policy: &KeyPolicy, state: &KeyState, after: Timestamp) -> Due {
    let next = policy.schedule.next_after(after);
    Due::No {
        next: next.map(|next| state.retry_at.map_or(next, |retry| retry.max(next))),
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
    (!adopted && !required.iter().all(accepted))
        || state.live.iter().any(|rotation| {
            rotation.phase == Phase::Stranded
                && (rotation.sequence > current.sequence
                    || held(rotation, state, overlap) == Held::Open)
        })
}

/// Whether the newest rotation came after the current one and came to nothing.
fn failed_since(current: &Rotation, newest: Option<Phase>, state: &KeyState) -> bool {
    state.sequence > current.sequence
        && matches!(
            newest,
            Some(Phase::Failed | Phase::Orphaned | Phase::Revoked)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::{KeyName, RotationId};
    use crate::core::schedule::Schedule;
    use jiff::tz::TimeZone;

    fn policy() -> KeyPolicy {
        let hour = Duration::from_secs(3_600);
        KeyPolicy {
            overlap: hour,
            verify_for: hour,
            settle: Duration::ZERO,
            deliver_for: hour,
            ..KeyPolicy::new(Schedule::parse("0 3 * * *", TimeZone::UTC).unwrap())
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rotation(sequence: u64, phase: Phase, started: &str) -> Rotation {
        Rotation {
            id: RotationId::new(sequence.to_be_bytes()),
            sequence,
            trigger: Trigger::Schedule,
            scheduled_for: None,
            started_at: at(started),
            label: None,
            credential: None,
            phase,
            current_at: None,
            retired_at: None,
            revoke_after: None,
            revoked_at: None,
            error: None,
            attempt: 0,
            retry_at: None,
            stranded_at: None,
            missing: None,
            hold_until: None,
            revoke_now: false,
            deliveries: Vec::new(),
        }
    }

    fn state(newest: Phase, live: Vec<Rotation>) -> KeyState {
        let mut state = KeyState::unknown(KeyName::new("k").unwrap());
        state.sequence = live.last().map_or(1, |rotation| rotation.sequence);
        state.newest = Some(newest);
        state.live = live;
        state
    }

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn asked(state: &KeyState) -> Due {
        due(&policy(), &[], state, at("2026-11-24T00:00:00Z"), at(NOW))
    }

    fn trigger(state: &KeyState) -> Option<Trigger> {
        match asked(state) {
            Due::Since { trigger, .. } => Some(trigger),
            Due::No { .. } => None,
        }
    }

    #[test]
    fn every_reason_has_its_trigger() {
        let started = "2026-11-24T03:00:05Z";
        let never = KeyState::unknown(KeyName::new("k").unwrap());
        assert_eq!(trigger(&never), Some(Trigger::First));
        for (newest, wanted) in [
            (Phase::Failed, Trigger::Retry),
            (Phase::Orphaned, Trigger::Retry),
            (Phase::Revoked, Trigger::Repair),
        ] {
            assert_eq!(trigger(&state(newest, vec![])), Some(wanted), "{newest}");
        }
        let stranded = rotation(1, Phase::Stranded, started);
        assert_eq!(
            trigger(&state(Phase::Stranded, vec![stranded])),
            Some(Trigger::Repair)
        );
        let open = rotation(1, Phase::Verified, started);
        assert_eq!(
            asked(&state(Phase::Verified, vec![open])),
            Due::No { next: None }
        );
        let current = rotation(1, Phase::Current, started);
        let fine = state(Phase::Current, vec![current.clone()]);
        assert_eq!(
            asked(&fine),
            Due::No {
                next: Some(at("2026-11-25T03:00:00Z"))
            }
        );
        let mut failed = state(Phase::Failed, vec![current.clone()]);
        failed.sequence = 2;
        assert_eq!(trigger(&failed), Some(Trigger::Retry));
        let stranded = rotation(2, Phase::Stranded, started);
        let both = state(Phase::Stranded, vec![current, stranded]);
        assert_eq!(trigger(&both), Some(Trigger::Repair));
    }

    #[test]
    fn a_firing_that_nobody_saw_is_caught_up_once() {
        let old = rotation(1, Phase::Current, "2026-11-01T03:00:00Z");
        let found = due(
            &policy(),
            &[],
            &state(Phase::Current, vec![old.clone()]),
            at(NOW),
            at(NOW),
        );
        let firing = at("2026-11-24T03:00:00Z");
        let since = Due::Since {
            at: firing,
            scheduled_for: Some(firing),
            trigger: Trigger::CatchUp,
        };
        assert_eq!(found, since);
        assert_eq!(
            trigger(&state(Phase::Current, vec![old])),
            Some(Trigger::Schedule)
        );
    }

    #[test]
    fn a_back_off_is_kept() {
        let mut failed = state(Phase::Failed, vec![]);
        failed.retry_at = Some(at("2026-11-24T12:00:01Z"));
        assert_eq!(
            asked(&failed),
            Due::No {
                next: failed.retry_at
            }
        );
        failed.retry_at = Some(at(NOW));
        assert_eq!(trigger(&failed), Some(Trigger::Retry));
    }

    #[test]
    fn a_row_from_a_wrong_future_makes_no_storm() {
        let ahead = rotation(1, Phase::Current, "2031-01-01T00:00:00Z");
        let found = asked(&state(Phase::Current, vec![ahead]));
        assert_eq!(
            found,
            Due::No {
                next: Some(at("2026-11-25T03:00:00Z"))
            }
        );
    }

    #[test]
    fn a_new_sink_makes_the_key_due() {
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let current = rotation(1, Phase::Current, "2026-11-24T03:00:05Z");
        let state = state(Phase::Current, vec![current]);
        let found = due(&policy(), &[sink], &state, at(NOW), at(NOW));
        assert!(matches!(
            found,
            Due::Since {
                trigger: Trigger::Repair,
                ..
            }
        ));
    }
}
