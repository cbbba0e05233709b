//! Which of several things that are wrong is told.

use super::*;
use crate::core::names::{CredentialId, KeyName, RotationId, SinkId};
use crate::core::record::{CredentialFacts, Delivery, Trigger};

fn rotation(sequence: u64, phase: Phase) -> Rotation {
    let started = "2026-11-24T03:00:00Z".parse().unwrap();
    Rotation {
        id: RotationId::new(sequence.to_be_bytes()),
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: None,
        started_at: started,
        label: None,
        credential: Some(CredentialFacts {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(started),
            expires_at: None,
        }),
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

/// One whose present step has failed.
fn failing(sequence: u64, phase: Phase, error: &str) -> Rotation {
    Rotation {
        attempt: 1,
        error: Some(error.to_owned()),
        ..rotation(sequence, phase)
    }
}

fn undelivered(state: DeliveryState) -> Rotation {
    let delivery = Delivery {
        sink: SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        },
        required: true,
        state,
        maybe_taken: false,
        attempts: 1,
        last_attempt_at: None,
        accepted_at: None,
        written_at: None,
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
    state.problem = problem.map(str::to_owned);
    state.live = live;
    state
}

const LOST: &str = "the secret of its credential was lost; a new one follows";

#[test]
fn the_most_pressing_comes_first() {
    let current = || rotation(1, Phase::Current);
    let stranded = || rotation(2, Phase::Stranded);
    let fresh = || failing(3, Phase::Created, "refused");
    let retired = || failing(1, Phase::Retired, "a server error");
    let refused = undelivered(DeliveryState::Refused);
    let not_delivered = Some("not delivered to file (file:/x): full");
    // What status tells, and what counts as trouble.
    for (problem, live, told, trouble) in [
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
        (None, vec![stranded()], Some(LOST), Some(LOST)),
        (
            None,
            vec![stranded(), rotation(3, Phase::Created)],
            Some(LOST),
            None,
        ),
        (None, vec![current(), stranded()], None, None),
    ] {
        let state = state(problem, live);
        assert_eq!(problem_of(&state).as_deref(), told, "{state:?}");
        assert_eq!(trouble_of(&state, true).as_deref(), trouble, "{state:?}");
    }
}

#[test]
fn what_failed_before_and_has_worked_since_is_no_problem() {
    let mut worked = failing(1, Phase::Retired, "a server error");
    worked.attempt = 0;
    assert_eq!(problem_of(&state(None, vec![worked])), None);
    let mut accepted = undelivered(DeliveryState::Accepted);
    accepted.attempt = 0;
    assert_eq!(problem_of(&state(None, vec![accepted])), None);
}

#[test]
fn of_a_removed_key_only_what_is_to_be_done_with_its_credentials_counts() {
    let retired = failing(1, Phase::Retired, "a server error");
    let state = state(
        Some("not begun"),
        vec![retired, rotation(2, Phase::Stranded)],
    );
    let trouble = trouble_of(&state, false);
    assert_eq!(trouble.as_deref(), Some("a server error"));
    let mut state = state;
    state.live.remove(0);
    assert_eq!(trouble_of(&state, false), None);
}
