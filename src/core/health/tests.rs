//! Which of several errors of a key is reported.

use super::*;
use crate::core::ids::{CredentialId, KeyName, RotationId, SinkId};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, Delivery, Trigger};

fn rotation(sequence: u64, phase: Phase) -> Rotation {
    let started = "2026-11-24T03:00:00Z".parse().unwrap();
    Rotation {
        credential: Some(CredentialMetadata {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(started),
            expires_at: None,
        }),
        maybe_created: true,
        ..Rotation::new(
            RotationId::new(sequence.to_be_bytes()),
            Scope::AdminKeys,
            sequence,
            Trigger::Schedule,
            phase,
            started,
        )
    }
}

/// Returns a rotation whose current step failed.
fn failing(sequence: u64, phase: Phase, error: &str) -> Rotation {
    Rotation {
        attempt: 1,
        error: Some(error.to_owned()),
        ..rotation(sequence, phase)
    }
}

fn rotation_with_delivery(state: DeliveryState) -> Rotation {
    let delivery = Delivery {
        sink: SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        },
        required: true,
        state,
        maybe_accepted: false,
        attempts: 1,
        last_attempt_at: None,
        accepted_at: None,
        written_at: None,
        sighting: None,
        file: None,
        file_access: None,
        removed_at: None,
        retry_at: None,
        error: Some("full".to_owned()),
    };
    Rotation {
        deliveries: vec![delivery],
        ..failing(2, Phase::Verified, "it waits")
    }
}

fn state(problem: Option<&str>, live: Vec<Rotation>) -> KeyState {
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    state.last_error = problem.map(str::to_owned);
    state.live = live;
    state
}

const LOST_SECRET_ERROR: &str = "the secret of its credential was lost; another rotation is due";

/// The file holds the secret already: only the program that tells its readers failed.
#[test]
fn failed_on_change_program_is_not_an_undelivered_secret() {
    let mut open = rotation_with_delivery(DeliveryState::Uncertain);
    open.deliveries[0].written_at = Some(Timestamp::UNIX_EPOCH);
    let state = state(None, vec![open]);
    assert_eq!(
        most_urgent_error(&state).as_deref(),
        Some("wrote file (file:/x), but its on-change program failed: full")
    );
}

/// A key whose rotation failed earlier has the time of that failure's retry.
#[test]
fn next_attempt_is_that_of_the_error_which_is_shown() {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let mut refused = rotation_with_delivery(DeliveryState::Refused);
    refused.deliveries[0].retry_at = Some(at(20));
    let mut retired = failing(1, Phase::Retired, "a server error");
    retired.retry_at = Some(at(30));
    for (problem, live, expected) in [
        (Some("full"), vec![retired.clone(), refused.clone()], at(20)),
        (None, vec![refused], at(20)),
        (Some("full"), vec![retired.clone()], at(10)),
        (None, vec![retired], at(30)),
        (None, vec![rotation(2, Phase::Stranded)], at(10)),
    ] {
        let mut state = state(problem, live);
        state.retry_at = Some(at(10));
        assert_eq!(next_attempt(&state), Some(expected), "{state:?}");
    }
}

#[test]
fn most_urgent_error_is_reported_first() {
    let current = || rotation(1, Phase::Current);
    let stranded = || rotation(2, Phase::Stranded);
    let fresh = || failing(3, Phase::Created, "refused");
    let retired = || failing(1, Phase::Retired, "a server error");
    let refused = rotation_with_delivery(DeliveryState::Refused);
    let not_delivered = Some("not delivered to file (file:/x): full");
    // The error in the status, and the error of an alert.
    for (problem, live, reported, alertable) in [
        (None, vec![current()], None, None),
        (
            Some("full"),
            vec![retired(), refused],
            not_delivered,
            not_delivered,
        ),
        (
            Some("not begun"),
            vec![retired()],
            Some("not begun"),
            Some("not begun"),
        ),
        (
            None,
            vec![retired()],
            Some("a server error"),
            Some("a server error"),
        ),
        (None, vec![current(), fresh()], Some("refused"), None),
        (
            None,
            vec![stranded()],
            Some(LOST_SECRET_ERROR),
            Some(LOST_SECRET_ERROR),
        ),
        (
            None,
            vec![stranded(), rotation(3, Phase::Created)],
            Some(LOST_SECRET_ERROR),
            None,
        ),
        (None, vec![current(), stranded()], None, None),
    ] {
        let state = state(problem, live);
        assert_eq!(most_urgent_error(&state).as_deref(), reported, "{state:?}");
        assert_eq!(
            alertable_error(&state, true).as_deref(),
            alertable,
            "{state:?}"
        );
    }
}

#[test]
fn error_of_an_earlier_attempt_is_ignored() {
    let mut worked = failing(1, Phase::Retired, "a server error");
    worked.attempt = 0;
    assert_eq!(most_urgent_error(&state(None, vec![worked])), None);
    let mut accepted = rotation_with_delivery(DeliveryState::Accepted);
    accepted.attempt = 0;
    assert_eq!(most_urgent_error(&state(None, vec![accepted])), None);
}

#[test]
fn removed_key_reports_only_revocation_errors() {
    let retired = failing(1, Phase::Retired, "a server error");
    let state = state(
        Some("not begun"),
        vec![retired, rotation(2, Phase::Stranded)],
    );
    let alertable = alertable_error(&state, false);
    assert_eq!(alertable.as_deref(), Some("a server error"));
    let mut state = state;
    state.live.remove(0);
    assert_eq!(alertable_error(&state, false), None);
}

/// A pause keeps a target without its secret, and says so until the repair begins.
#[test]
fn repair_that_waits_for_a_pause_is_reported() {
    let now: Timestamp = "2026-11-24T04:00:00Z".parse().unwrap();
    let from: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
    let later: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    let accepted = Some(from);
    let state_with = |pause, state, accepted_at, required| {
        let mut current = rotation_with_delivery(state);
        current.phase = Phase::Current;
        current.deliveries[0].accepted_at = accepted_at;
        current.deliveries[0].required = required;
        current.deliveries[0].error = Some("the file is gone".to_owned());
        KeyState {
            pause,
            live: vec![current],
            ..KeyState::unknown(KeyName::new("billing").unwrap())
        }
    };
    let endless = Some(Pause { from, until: None });
    let until = |until| {
        Some(Pause {
            from,
            until: Some(until),
        })
    };
    use DeliveryState::{Accepted, Uncertain};
    for (state, expected) in [
        (
            state_with(endless, Uncertain, accepted, true),
            Some("the pause ends (`rekeyd resume billing`)"),
        ),
        (
            state_with(until(later), Uncertain, accepted, true),
            Some("the pause ends at 2026-11-25T00:00:00Z"),
        ),
        (state_with(until(now), Uncertain, accepted, true), None),
        (state_with(None, Uncertain, accepted, true), None),
        (state_with(endless, Accepted, accepted, true), None),
        (state_with(endless, Uncertain, None, true), None),
        (state_with(endless, Uncertain, accepted, false), None),
    ] {
        let found = paused_repair(&state, now);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        let found = found.unwrap_or_default();
        assert!(found.ends_with(expected.unwrap_or_default()), "{found}");
    }
    let mut repaired = state_with(endless, Uncertain, accepted, true);
    repaired.live.push(rotation(3, Phase::Intended));
    assert_eq!(paused_repair(&repaired, now), None);
}
