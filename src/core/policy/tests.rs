//! How long is waited, and who holds what.

use super::*;
use crate::core::names::{KeyName, RotationId, SinkId};
use crate::core::record::Trigger;
use crate::core::rotation::Phase;

const OVERLAP: Duration = Duration::from_secs(600);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[test]
fn each_pause_is_as_long_as_the_one_before_or_longer_and_the_last_is_kept() {
    for (waiting, first, last) in [
        (Waiting::NextRotation, 10, 7_200),
        (Waiting::Provider, 1, 300),
        (Waiting::Verification, 1, 30),
        (Waiting::Sink, 1, 300),
        (Waiting::StubbornSink, 60, 1_800),
    ] {
        let pause = |attempt| back_off(waiting, attempt).as_secs();
        assert_eq!((pause(0), pause(1)), (first, first), "{waiting:?}");
        assert!((1..20).all(|attempt| pause(attempt) <= pause(attempt + 1)));
        assert_eq!((pause(10), pause(u32::MAX)), (last, last), "{waiting:?}");
    }
}

#[test]
fn a_key_that_fails_all_day_stays_below_its_creates_per_day() {
    for budget in [24, 48, 1_000, 8_640] {
        let mut passed = Duration::ZERO;
        let mut creates = 0;
        while passed < HOUR * 24 {
            creates += 1;
            passed += pause_of_key(creates, budget);
        }
        assert!(creates < budget, "{creates} of {budget}");
    }
}

#[test]
fn a_key_that_may_rotate_often_does_not_wait_for_hours() {
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
        let pause = pause_of_key(attempt, budget);
        assert_eq!(pause.as_secs(), seconds, "{attempt} {budget}");
    }
}

#[test]
fn a_time_to_try_again_that_is_too_far_ahead_is_not_believed() {
    let in_a_day = time::after(now(), HOUR * 24);
    assert_eq!(believed(Some(in_a_day), now()), Some(in_a_day));
    let later = time::after(in_a_day, Duration::from_secs(1));
    assert_eq!(believed(Some(later), now()), None);
    assert_eq!(believed(None, now()), None);
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
        sink: sink(name),
        required: true,
        state,
        maybe_taken: false,
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
        id: RotationId::new(sequence.to_be_bytes()),
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: None,
        started_at: now(),
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
        stranded_at: (phase == Phase::Stranded).then(now),
        missing: None,
        hold_until: None,
        revoke_now: false,
        deliveries,
    }
}

/// Until when the first of these is held.
fn held_first(live: Vec<Rotation>) -> Held {
    let mut key = KeyState::unknown(KeyName::new("k").unwrap());
    let first = live[0].clone();
    key.live = live;
    held(&first, &key, OVERLAP)
}

#[test]
fn who_holds_what_nobody_newer_has_replaced() {
    use DeliveryState as S;
    for (state, in_its_life, stranded) in [
        (S::Pending, Held::Not, Held::Open),
        (S::Refused, Held::Not, Held::Open),
        (S::Uncertain, Held::Open, Held::Open),
        (S::Accepted, Held::Open, Held::Open),
        (S::Missed, Held::Not, Held::Not),
        (S::Removed, Held::Not, Held::Not),
    ] {
        let of = |phase| held_first(vec![rotation(1, phase, vec![delivery("a", state)])]);
        assert_eq!(of(Phase::Verified), in_its_life, "{state:?}");
        assert_eq!(of(Phase::Stranded), stranded, "{state:?}");
    }
}

#[test]
fn a_sink_lets_go_one_overlap_after_it_accepted_a_newer_one() {
    let older = |name| {
        rotation(
            1,
            Phase::Current,
            vec![delivery(name, DeliveryState::Accepted)],
        )
    };
    let newer = |state| rotation(2, Phase::Verified, vec![delivery("a", state)]);
    let until = Held::Until(time::after(now(), OVERLAP));
    let accepted = newer(DeliveryState::Accepted);
    assert_eq!(held_first(vec![older("a"), accepted.clone()]), until);
    assert_eq!(held_first(vec![older("b"), accepted.clone()]), Held::Open);
    let uncertain = newer(DeliveryState::Uncertain);
    assert_eq!(held_first(vec![older("a"), uncertain]), Held::Open);
    // What is older lets nobody go.
    assert_eq!(held_first(vec![accepted, older("a")]), Held::Open);
}

#[test]
fn the_first_of_several_newer_ones_counts_and_the_slowest_sink() {
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
    assert_eq!(held_first(vec![first, second, third]), Held::Until(until));
}

#[test]
fn a_removed_sink_lets_go_one_overlap_later_and_an_optional_one_never_holds() {
    let removed = Delivery {
        removed_at: Some(now()),
        ..delivery("a", DeliveryState::Removed)
    };
    let until = Held::Until(time::after(now(), OVERLAP));
    assert_eq!(
        held_first(vec![rotation(1, Phase::Current, vec![removed])]),
        until
    );
    let optional = Delivery {
        required: false,
        ..delivery("a", DeliveryState::Accepted)
    };
    assert_eq!(
        held_first(vec![rotation(1, Phase::Current, vec![optional])]),
        Held::Not
    );
}

#[test]
fn a_sink_that_was_removed_and_came_back_lets_go_after_it_accepted_a_newer_one() {
    let long_ago = time::before(now(), OVERLAP * 100);
    let removed = |at| {
        let delivery = Delivery {
            removed_at: Some(at),
            ..delivery("a", DeliveryState::Removed)
        };
        rotation(1, Phase::Current, vec![delivery])
    };
    let newer = |name, state| rotation(2, Phase::Verified, vec![delivery(name, state)]);
    let accepted = |at| held_first(vec![removed(at), newer("a", DeliveryState::Accepted)]);
    let until = |at| Held::Until(time::after(at, OVERLAP));
    assert_eq!(accepted(long_ago), until(now()));
    // Nor is what was removed after that let go sooner.
    let later = time::after(now(), OVERLAP);
    assert_eq!(accepted(later), until(later));
    // It is to get the newer one.
    let given = |sink, state| held_first(vec![removed(long_ago), newer(sink, state)]);
    assert_eq!(given("a", DeliveryState::Pending), Held::Open);
    // It has not come back.
    assert_eq!(given("a", DeliveryState::Removed), until(long_ago));
    assert_eq!(given("b", DeliveryState::Accepted), until(long_ago));
}

#[test]
fn three_looks_take_a_quarter_of_an_hour() {
    let all = BETWEEN_LOOKS * (LOOKS_FOR_GONE - 1);
    assert!(all >= MINUTE * 15 && all <= MINUTE * 20, "{all:?}");
}

#[test]
fn nobody_says_how_long_consumers_of_what_is_not_configured_need() {
    assert_eq!(UNMANAGED_OVERLAP, HOUR * 24);
}
