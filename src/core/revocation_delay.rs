//! Revocations that should have happened, and those that fail: for the metrics.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::revocation::{DueTime, due_time, leak_due_at};
use crate::core::lifecycle::Phase;
use crate::core::policy::KeyPolicy;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;

/// How long a revocation may be due: a deletion that fails is retried within this time.
const REVOCATION_GRACE_PERIOD: Duration = time::HOUR;

/// Returns the times from which the revocations of a key's credentials are overdue: an hour
/// after they are due. One that is deferred is not due: the deferral has an alert of its own
/// where a person has to act.
pub fn overdue_times(
    state: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> impl Iterator<Item = Timestamp> {
    let due = move |rotation| revocation_due(rotation, state, policy, now);
    let due = state.live.iter().filter_map(due);
    due.map(|at| time::after(at, REVOCATION_GRACE_PERIOD))
}

/// Returns the number of a key's credentials whose revocation failed at the last attempt.
#[must_use]
pub fn count_failing_revocations(state: &KeyState) -> usize {
    let live = state.live.iter();
    live.filter(|rotation| {
        let is_ending = matches!(rotation.phase, Phase::Retired | Phase::Orphaned)
            || rotation.deadline.is_some();
        is_ending && rotation.attempt > 0 && rotation.error.is_some()
    })
    .count()
}

/// Returns since when, or from when, a credential is to be revoked.
fn revocation_due(
    rotation: &Rotation,
    state: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Option<Timestamp> {
    let without_retry = Rotation {
        retry_at: None,
        ..rotation.clone()
    };
    if let Some(at) = leak_due_at(&without_retry, state, now) {
        return Some(at);
    }
    if rotation.deferral.is_some() {
        return None;
    }
    match due_time(rotation, state, policy) {
        DueTime::Never => None,
        DueTime::From(Some(at)) => Some(at),
        DueTime::From(None) => Some(rotation.retired_at.unwrap_or(rotation.started_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{CredentialId, KeyName, RotationId};
    use crate::core::scope::Scope;
    use crate::core::state::{CredentialMetadata, DeferralKind, Trigger};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Returns a key whose older credential is to be revoked from 03:00 on.
    fn state() -> KeyState {
        let rotation = |sequence, phase| {
            let id = RotationId::from_recorded(format!("{sequence:016x}"));
            let started_at = at("2026-11-24T01:00:00Z");
            let trigger = Trigger::Schedule;
            let credential = CredentialId::new(format!("key_{sequence}"));
            Rotation {
                credential: Some(CredentialMetadata {
                    id: credential,
                    redacted_value: None,
                    created_at: None,
                    expires_at: None,
                }),
                current_at: Some(started_at),
                ..Rotation::new(id, Scope::AdminKeys, sequence, trigger, phase, started_at)
            }
        };
        let retired = Rotation {
            retired_at: Some(at("2026-11-24T02:00:00Z")),
            revoke_after: Some(at("2026-11-24T03:00:00Z")),
            ..rotation(1, Phase::Retired)
        };
        KeyState {
            live: vec![retired, rotation(2, Phase::Current)],
            ..KeyState::unknown(KeyName::new("k").unwrap())
        }
    }

    fn count_overdue(state: &KeyState, now: Timestamp) -> usize {
        let times = overdue_times(state, None, now);
        times.filter(|at| *at <= now).count()
    }

    #[test]
    fn a_revocation_is_overdue_an_hour_after_it_is_due() {
        let state = state();
        for (now, expected) in [
            ("2026-11-24T02:30:00Z", 0),
            ("2026-11-24T03:59:59Z", 0),
            ("2026-11-24T04:00:00Z", 1),
        ] {
            assert_eq!(count_overdue(&state, at(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_deferred_or_held_revocation_is_not_overdue() {
        let now = at("2026-11-25T04:00:00Z");
        let mut deferred = state();
        deferred.live[0].deferral = Some(DeferralKind::RecentlyUsed);
        assert_eq!(count_overdue(&deferred, now), 0);
        let mut held = state();
        held.live[0].hold_until = Some(at("2026-11-26T00:00:00Z"));
        assert_eq!(count_overdue(&held, now), 0);
    }

    #[test]
    fn a_revocation_fails_from_its_first_failed_attempt_on() {
        let mut state = state();
        assert_eq!(count_failing_revocations(&state), 0);
        state.live[0].attempt = 1;
        state.live[0].error = Some("a server error".to_owned());
        assert_eq!(count_failing_revocations(&state), 1);
    }
}
