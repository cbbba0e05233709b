//! Back-offs, and how long sinks hold a secret.

use super::*;
use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::Trigger;

const OVERLAP: Duration = Duration::from_secs(600);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[test]
fn backoff_never_shrinks_and_ends_at_its_last_delay() {
    for (class, first, last) in [
        (RetryClass::NextRotation, 10, 7_200),
        (RetryClass::Provider, 1, 300),
        (RetryClass::Verification, 1, 30),
        (RetryClass::Sink, 1, 300),
        (RetryClass::FailingSink, 60, 1_800),
    ] {
        let delay = |attempt| backoff_delay(class, attempt).as_secs();
        assert_eq!((delay(0), delay(1)), (first, first), "{class:?}");
        assert!((1..20).all(|attempt| delay(attempt) <= delay(attempt + 1)));
        assert_eq!((delay(10), delay(u32::MAX)), (last, last), "{class:?}");
    }
}

#[test]
fn key_failing_all_day_stays_below_max_creates_per_day() {
    for budget in [24, 48, 1_000, 8_640] {
        let mut elapsed = Duration::ZERO;
        let mut creates = 0;
        while elapsed < HOUR * 24 {
            creates += 1;
            elapsed += key_backoff_delay(creates, budget);
        }
        assert!(creates < budget, "{creates} of {budget}");
    }
}

#[test]
fn key_with_large_create_budget_backs_off_briefly() {
    for (attempt, budget, seconds) in [
        (1, 24, 10),
        (6, 24, 7_200),
        (6, 48, 3_600),
        (3, 8_640, 20),
        (9, 8_640, 20),
        // Never more often than after the first failure.
        (9, 172_800, 10),
        // A small budget guards by itself.
        (9, 2, 7_200),
        (9, 0, 7_200),
    ] {
        let delay = key_backoff_delay(attempt, budget);
        assert_eq!(delay.as_secs(), seconds, "{attempt} {budget}");
    }
}

#[test]
fn implausible_retry_time_is_ignored() {
    let in_a_day = time::after(now(), HOUR * 24);
    assert_eq!(plausible_retry(Some(in_a_day), now()), Some(in_a_day));
    let later = time::after(in_a_day, Duration::from_secs(1));
    assert_eq!(plausible_retry(Some(later), now()), None);
    assert_eq!(plausible_retry(None, now()), None);
}

fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

fn delivery(name: &str, state: DeliveryState) -> Delivery {
    Delivery {
        written_at: None,
        sighting: None,
        file: None,
        file_access: None,
        sink: sink(name),
        required: true,
        state,
        maybe_accepted: false,
        attempts: 0,
        last_attempt_at: None,
        accepted_at: (state == DeliveryState::Accepted).then(now),
        removed_at: None,
        retry_at: None,
        error: None,
    }
}

fn rotation(sequence: u64, phase: Phase, deliveries: Vec<Delivery>) -> Rotation {
    Rotation {
        stranded_at: (phase == Phase::Stranded).then(now),
        maybe_created: true,
        deliveries,
        ..Rotation::new(
            RotationId::new(sequence.to_be_bytes()),
            Scope::AdminKeys,
            sequence,
            Trigger::Schedule,
            phase,
            now(),
        )
    }
}

/// Returns until when sinks hold the first of these rotations.
fn hold_of_first(live: Vec<Rotation>) -> SinkHold {
    let mut key = KeyState::unknown(KeyName::new("k").unwrap());
    let first = live[0].clone();
    key.live = live;
    sink_hold(&first, &key, OVERLAP)
}

#[test]
fn sink_hold_without_newer_acceptance_depends_on_delivery_state() {
    use DeliveryState as S;
    for (state, expected, expected_if_stranded) in [
        (S::Pending, SinkHold::None, SinkHold::Indefinite),
        (S::Refused, SinkHold::None, SinkHold::Indefinite),
        (S::Uncertain, SinkHold::Indefinite, SinkHold::Indefinite),
        (S::Accepted, SinkHold::Indefinite, SinkHold::Indefinite),
        (S::Missed, SinkHold::None, SinkHold::None),
        (S::Removed, SinkHold::None, SinkHold::None),
    ] {
        let hold = |phase| hold_of_first(vec![rotation(1, phase, vec![delivery("a", state)])]);
        assert_eq!(hold(Phase::Verified), expected, "{state:?}");
        assert_eq!(hold(Phase::Stranded), expected_if_stranded, "{state:?}");
    }
    // A later refusal does not undo an attempt that may have been accepted.
    for state in [S::Pending, S::Refused] {
        let delivery = Delivery {
            maybe_accepted: true,
            ..delivery("a", state)
        };
        let hold = hold_of_first(vec![rotation(1, Phase::Verified, vec![delivery])]);
        assert_eq!(hold, SinkHold::Indefinite, "{state:?}");
    }
}

#[test]
fn sink_hold_ends_one_overlap_after_newer_acceptance() {
    let older = |name| {
        rotation(
            1,
            Phase::Current,
            vec![delivery(name, DeliveryState::Accepted)],
        )
    };
    let newer = |state| rotation(2, Phase::Verified, vec![delivery("a", state)]);
    let until = SinkHold::Until(time::after(now(), OVERLAP));
    let accepted = newer(DeliveryState::Accepted);
    assert_eq!(hold_of_first(vec![older("a"), accepted.clone()]), until);
    assert_eq!(
        hold_of_first(vec![older("b"), accepted.clone()]),
        SinkHold::Indefinite
    );
    let uncertain = newer(DeliveryState::Uncertain);
    assert_eq!(
        hold_of_first(vec![older("a"), uncertain]),
        SinkHold::Indefinite
    );
    // The acceptance of an older credential ends no hold.
    assert_eq!(
        hold_of_first(vec![accepted, older("a")]),
        SinkHold::Indefinite
    );
}

#[test]
fn first_newer_acceptance_and_slowest_sink_decide_the_hold() {
    let accepted = |name, seconds| Delivery {
        accepted_at: Some(time::after(now(), Duration::from_secs(seconds))),
        ..delivery(name, DeliveryState::Accepted)
    };
    let first = rotation(1, Phase::Retired, vec![accepted("a", 0), accepted("b", 0)]);
    let second = rotation(
        2,
        Phase::Retired,
        vec![accepted("a", 10), accepted("b", 30)],
    );
    let third = rotation(
        3,
        Phase::Current,
        vec![accepted("a", 50), accepted("b", 60)],
    );
    let until = time::after(now(), OVERLAP + Duration::from_secs(30));
    assert_eq!(
        hold_of_first(vec![first, second, third]),
        SinkHold::Until(until)
    );
}

#[test]
fn removed_sink_holds_for_one_overlap_and_optional_sink_never() {
    let removed = Delivery {
        removed_at: Some(now()),
        ..delivery("a", DeliveryState::Removed)
    };
    let until = SinkHold::Until(time::after(now(), OVERLAP));
    assert_eq!(
        hold_of_first(vec![rotation(1, Phase::Current, vec![removed])]),
        until
    );
    let optional = Delivery {
        required: false,
        ..delivery("a", DeliveryState::Accepted)
    };
    assert_eq!(
        hold_of_first(vec![rotation(1, Phase::Current, vec![optional])]),
        SinkHold::None
    );
}

#[test]
fn returned_sink_holds_until_it_accepts_a_newer_one() {
    let long_ago = time::before(now(), OVERLAP * 100);
    let removed = |at| {
        let delivery = Delivery {
            removed_at: Some(at),
            ..delivery("a", DeliveryState::Removed)
        };
        rotation(1, Phase::Current, vec![delivery])
    };
    let newer = |name, state| rotation(2, Phase::Verified, vec![delivery(name, state)]);
    let accepted = |at| hold_of_first(vec![removed(at), newer("a", DeliveryState::Accepted)]);
    let until = |at| SinkHold::Until(time::after(at, OVERLAP));
    assert_eq!(accepted(long_ago), until(now()));
    // A later removal does not shorten its own hold.
    let later = time::after(now(), OVERLAP);
    assert_eq!(accepted(later), until(later));
    // The newer credential is yet to be delivered to it.
    let hold = |sink, state| hold_of_first(vec![removed(long_ago), newer(sink, state)]);
    assert_eq!(hold("a", DeliveryState::Pending), SinkHold::Indefinite);
    // The sink has not returned.
    assert_eq!(hold("a", DeliveryState::Removed), until(long_ago));
    assert_eq!(hold("b", DeliveryState::Accepted), until(long_ago));
}

#[test]
fn checks_until_gone_take_a_quarter_of_an_hour() {
    let all = MISSING_CHECK_INTERVAL * (CHECKS_UNTIL_GONE - 1);
    assert!(all >= MINUTE * 15 && all <= MINUTE * 20, "{all:?}");
}

#[test]
fn unmanaged_overlap_is_one_day() {
    assert_eq!(UNMANAGED_OVERLAP, HOUR * 24);
}
