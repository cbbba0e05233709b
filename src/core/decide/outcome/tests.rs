//! The changes that follow from a step's outcome.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an unexpected change fails the test"
)]

use super::*;
use crate::core::change::{
    DeliveryChange, OnChangeState, OperatorChange, RotationChange, ScheduleChange,
};
use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::scope::Scope;
use crate::core::state::{Delivery, RevocationDeadline, Trigger};

const OVERLAP: Duration = Duration::from_secs(600);

/// Returns the overlap by the policy, with no announced time.
fn overlap() -> OverlapBounds {
    OverlapBounds::new(OVERLAP, None)
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

fn rotation(sequence: u64, phase: Phase, states: &[DeliveryState]) -> Rotation {
    let deliveries = ["a", "b"].into_iter().zip(states);
    let deliveries = deliveries.map(|(name, state)| Delivery {
        written_at: None,
        sighting: None,
        file: None,
        file_access: None,
        sink: sink(name),
        required: true,
        state: *state,
        maybe_accepted: false,
        attempts: 0,
        last_attempt_at: None,
        accepted_at: (*state == DeliveryState::Accepted).then(now),
        removed_at: None,
        retry_at: None,
        error: None,
    });
    Rotation {
        stranded_at: (phase == Phase::Stranded).then(now),
        maybe_created: true,
        deliveries: deliveries.collect(),
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

fn key(live: Vec<Rotation>) -> KeyState {
    let mut key = KeyState::unknown(KeyName::new("k").unwrap());
    key.live = live;
    key
}

/// Returns each change as one word and its sequence or sink.
fn summarize(changes: &[Change]) -> Vec<String> {
    let number = |id: &RotationId| {
        let mut all = (1..9_u64).filter(|number| RotationId::new(number.to_be_bytes()) == *id);
        all.next().unwrap()
    };
    let each = changes.iter().map(|change| match change {
        Change::Rotation(RotationChange::Transitioned(transition)) => {
            format!("{} {}", transition.event, number(&transition.rotation))
        }
        Change::Delivery(DeliveryChange::Started(start)) => format!("started {}", start.sink.name),
        Change::Delivery(DeliveryChange::Finished(result)) => {
            format!("finished {}", result.sink.name)
        }
        Change::Operator(OperatorChange::ImmediateRevocationSet(set)) => {
            format!("revoke-now {}", number(&set.rotation))
        }
        Change::Operator(OperatorChange::RevokePreviousSet(previous)) => {
            format!("revoke-previous {}", previous.is_pending)
        }
        Change::Schedule(ScheduleChange::Recovered) => "recovered".to_owned(),
        other => panic!("{other:?}"),
    });
    each.collect()
}

const ACCEPTED: DeliveryState = DeliveryState::Accepted;
const PENDING: DeliveryState = DeliveryState::Pending;
const UNCERTAIN: DeliveryState = DeliveryState::Uncertain;

fn result(sequence: u64, name: &str, state: DeliveryState) -> DeliveryResult {
    DeliveryResult {
        on_change: OnChangeState::NotPending,
        rotation: RotationId::new(sequence.to_be_bytes()),
        sink: sink(name),
        state,
        accepted_at: (state == ACCEPTED).then(now),
        retry_at: None,
        file: None,
        error: None,
    }
}

/// Finishes a delivery when the next one has its place.
fn finish(rotation: &Rotation, result: DeliveryResult, key: &KeyState) -> Vec<Change> {
    let next = next_pending_sink(rotation);
    finish_delivery(rotation, result, key, overlap(), next, now())
}

/// Returns the attempt and the delay in seconds of the back-off that changes have.
fn backoff_of(changes: &[Change]) -> Option<(u32, u64)> {
    changes.iter().find_map(|change| match change {
        Change::Schedule(ScheduleChange::BackedOff(backoff)) => Some((
            backoff.attempt,
            time::until(now(), backoff.retry_at).as_secs(),
        )),
        Change::Rotation(_) | Change::Delivery(_) | Change::Schedule(_) | Change::Operator(_) => {
            None
        }
    })
}

#[test]
fn verification_starts_first_delivery_that_has_a_place() {
    let rotation = rotation(1, Phase::Created, &[PENDING, PENDING]);
    let next = next_pending_sink(&rotation);
    assert_eq!(
        summarize(&finish_verification(&rotation, next)),
        ["verified 1", "started a"]
    );
    assert_eq!(
        summarize(&finish_verification(&rotation, None)),
        ["verified 1"]
    );
}

#[test]
fn acceptance_starts_next_delivery_that_has_a_place() {
    let open = rotation(1, Phase::Verified, &[UNCERTAIN, PENDING]);
    let state = key(vec![open.clone()]);
    let changes = finish(&open, result(1, "a", ACCEPTED), &state);
    assert_eq!(summarize(&changes), ["finished a", "started b"]);
    let accepted = result(1, "a", ACCEPTED);
    let changes = finish_delivery(&open, accepted, &state, overlap(), None, now());
    assert_eq!(summarize(&changes), ["finished a"]);
}

#[test]
fn only_acceptance_sets_accepted_at() {
    let open = rotation(1, Phase::Verified, &[UNCERTAIN, PENDING]);
    for state in [ACCEPTED, UNCERTAIN, DeliveryState::Refused] {
        let after = with_result(&open, &result(1, "a", state));
        let accepted = after.deliveries[0].accepted_at;
        assert_eq!(accepted.is_some(), state == ACCEPTED, "{state:?}");
        assert_eq!(after.deliveries[1], open.deliveries[1]);
    }
}

#[test]
fn unaccepted_delivery_does_not_block_other_sinks() {
    let open = rotation(1, Phase::Verified, &[UNCERTAIN, PENDING]);
    let state = key(vec![open.clone()]);
    let changes = finish(&open, result(1, "a", UNCERTAIN), &state);
    assert_eq!(summarize(&changes), ["finished a", "started b"]);
    let open = rotation(1, Phase::Verified, &[UNCERTAIN, ACCEPTED]);
    let changes = finish(&open, result(1, "a", UNCERTAIN), &state);
    assert_eq!(summarize(&changes), ["finished a"]);
}

#[test]
fn last_acceptance_retires_previous_rotation_in_same_commit() {
    let previous = rotation(1, Phase::Current, &[ACCEPTED, ACCEPTED]);
    let open = rotation(2, Phase::Verified, &[ACCEPTED, UNCERTAIN]);
    let state = key(vec![previous, open.clone()]);
    let changes = finish(&open, result(2, "b", ACCEPTED), &state);
    let expected = ["finished b", "superseded 1", "delivered 2", "recovered"];
    assert_eq!(summarize(&changes), expected);
    let Change::Rotation(RotationChange::Transitioned(transition)) = &changes[1] else {
        panic!("{changes:?}")
    };
    assert_eq!(transition.revoke_after, Some(time::after(now(), OVERLAP)));
}

#[test]
fn previous_credential_lives_for_overlap_and_announced_time() {
    let long_ago = Some(time::before(now(), OVERLAP * 10));
    let mut previous = rotation(1, Phase::Current, &[DeliveryState::Removed]);
    previous.deliveries[0].removed_at = long_ago;
    // Another sink, which was removed for a while, replaced its sink.
    let open = rotation(2, Phase::Verified, &[DeliveryState::Removed, ACCEPTED]);
    let state = key(vec![previous, open.clone()]);
    let earliest = time::after(now(), OVERLAP);
    let announced = time::after(now(), OVERLAP * 2);
    for (not_before, expected) in [
        (None, earliest),
        (long_ago, earliest),
        (Some(announced), announced),
    ] {
        let overlap = OverlapBounds {
            not_before,
            ..overlap()
        };
        let changes = make_current(&open, &state, overlap, now());
        let Change::Rotation(RotationChange::Transitioned(transition)) = &changes[0] else {
            panic!("{changes:?}")
        };
        assert_eq!(transition.revoke_after, Some(expected));
    }
}

#[test]
fn stranded_rotation_retires_once_its_sinks_accepted_a_newer_one() {
    let stranded = rotation(1, Phase::Stranded, &[UNCERTAIN, PENDING]);
    let open = rotation(2, Phase::Verified, &[ACCEPTED, ACCEPTED]);
    let changes = make_current(
        &open,
        &key(vec![stranded.clone(), open.clone()]),
        overlap(),
        now(),
    );
    assert_eq!(
        summarize(&changes),
        ["replaced 1", "delivered 2", "recovered"]
    );
    // One of its sinks receives no deliveries any more, and holds it.
    let open = rotation(2, Phase::Verified, &[ACCEPTED]);
    let changes = make_current(&open, &key(vec![stranded, open.clone()]), overlap(), now());
    assert_eq!(summarize(&changes), ["delivered 2", "recovered"]);
}

#[test]
fn delivery_result_of_current_rotation_changes_nothing_else() {
    let current = rotation(1, Phase::Current, &[ACCEPTED, PENDING]);
    let state = key(vec![current.clone()]);
    let changes = finish(&current, result(1, "b", ACCEPTED), &state);
    assert_eq!(summarize(&changes), ["finished b"]);
}

#[test]
fn revoke_previous_revokes_all_older_credentials_immediately() {
    let stranded = rotation(1, Phase::Stranded, &[UNCERTAIN]);
    let retired = rotation(2, Phase::Retired, &[ACCEPTED]);
    let current = rotation(3, Phase::Current, &[ACCEPTED]);
    let open = rotation(4, Phase::Verified, &[ACCEPTED]);
    let mut state = key(vec![stranded, retired, current, open.clone()]);
    state.revoke_previous = true;
    let changes = make_current(&open, &state, overlap(), now());
    let expected = [
        "revoke-now 1",
        "replaced 1",
        "revoke-now 2",
        "revoke-now 3",
        "superseded 3",
        "delivered 4",
        "recovered",
        "revoke-previous false",
    ];
    assert_eq!(summarize(&changes), expected);
}

#[test]
fn retired_credential_lives_until_its_last_sink_hold_ends() {
    let rotation = rotation(1, Phase::Current, &[ACCEPTED]);
    let earlier = time::before(now(), OVERLAP);
    let later = time::after(now(), OVERLAP * 2);
    for (until, expected) in [
        (SinkHold::None, now()),
        (SinkHold::Until(earlier), now()),
        (SinkHold::Until(later), later),
        (SinkHold::Indefinite, time::after(now(), OVERLAP)),
    ] {
        let earliest = time::after(now(), OVERLAP);
        let change = retire(
            &rotation,
            LifecycleEvent::Superseded,
            until,
            earliest,
            now(),
        );
        let Change::Rotation(RotationChange::Transitioned(transition)) = change else {
            panic!("{change:?}")
        };
        assert_eq!(transition.revoke_after, Some(expected), "{until:?}");
    }
}

#[test]
fn abandoned_rotation_is_orphaned_only_if_no_sink_can_have_received_it() {
    let refused = DeliveryState::Refused;
    for (state, was_uncertain, is_orphaned) in [
        (PENDING, false, true),
        (UNCERTAIN, false, false),
        (ACCEPTED, false, false),
        (DeliveryState::Missed, false, false),
        // Each attempt certainly failed.
        (refused, false, true),
        // A later refusal does not undo an attempt that may have been accepted.
        (refused, true, false),
        (PENDING, true, false),
    ] {
        let mut rotation = rotation(1, Phase::Verified, &[PENDING, state]);
        rotation.deliveries[1].maybe_accepted = was_uncertain;
        let event = summarize(&abandon(&rotation, "why")).remove(0);
        let expected = if is_orphaned {
            "abandoned 1"
        } else {
            "abandoned-during-delivery 1"
        };
        assert_eq!(event, expected, "{state:?} {was_uncertain}");
    }
}

/// A start beside the same failing sink does not create at once again.
#[test]
fn rotation_interrupted_at_a_failing_sink_backs_off_the_next() {
    let policy = KeyPolicy::new(
        crate::core::schedule::Schedule::parse("@daily", jiff::tz::TimeZone::UTC).unwrap(),
    );
    let backoff = |attempts, retry_in: u64, key_attempt| {
        let mut open = rotation(2, Phase::Verified, &[UNCERTAIN]);
        open.deliveries[0].attempts = attempts;
        open.deliveries[0].retry_at = Some(time::after(now(), Duration::from_secs(retry_in)));
        let mut key = key(vec![open.clone()]);
        key.attempt = key_attempt;
        let changes = interrupt(&open, &key, Some(&policy), now());
        changes.iter().find_map(|change| match change {
            Change::Schedule(ScheduleChange::BackedOff(backoff)) => Some((
                backoff.attempt,
                time::until(now(), backoff.retry_at).as_secs(),
            )),
            Change::Rotation(_)
            | Change::Delivery(_)
            | Change::Schedule(_)
            | Change::Operator(_) => None,
        })
    };
    for (attempts, retry_in, key_attempt, expected) in [
        (0, 0, 0, None),
        (1, 1, 0, Some((1, 10))),
        (1, 300, 0, Some((1, 300))),
        (1, 1, 1, Some((2, 60))),
        (1, 1, 4, Some((5, 3_600))),
    ] {
        assert_eq!(backoff(attempts, retry_in, key_attempt), expected);
    }
}

/// Kills during the first attempt at a sink that hangs create no credential each.
#[test]
fn rotation_interrupted_in_its_first_attempt_backs_off_from_its_begin() {
    let policy = KeyPolicy::new(
        crate::core::schedule::Schedule::parse("@daily", jiff::tz::TimeZone::UTC).unwrap(),
    );
    for (began_ago, key_attempt, expected) in [
        (None, 0, None),
        (Some(0), 0, None),
        (Some(4), 0, None),
        (Some(5), 0, Some((1, 5))),
        (Some(30), 0, Some((1, 0))),
        (Some(20), 1, Some((2, 40))),
        (Some(20), 2, Some((3, 280))),
    ] {
        let mut open = rotation(2, Phase::Verified, &[UNCERTAIN]);
        let began_at = began_ago.map(|ago| time::before(now(), Duration::from_secs(ago)));
        open.deliveries[0].last_attempt_at = began_at;
        let mut key = key(vec![open.clone()]);
        key.attempt = key_attempt;
        let changes = interrupt(&open, &key, Some(&policy), now());
        let found = backoff_of(&changes);
        assert_eq!(found, expected, "{began_ago:?}, {key_attempt}");
    }
}

/// A process that is killed again and again creates no credential each time, whatever it
/// did when it was killed.
#[test]
fn second_interrupted_rotation_in_a_row_backs_off_the_next() {
    let policy = KeyPolicy::new(
        crate::core::schedule::Schedule::parse("@daily", jiff::tz::TimeZone::UTC).unwrap(),
    );
    let interrupted = |sequence, trigger| Rotation {
        trigger,
        ..rotation(sequence, Phase::Stranded, &[PENDING])
    };
    let current = |sequence| rotation(sequence, Phase::Current, &[ACCEPTED]);
    for (before, phase, key_attempt, expected) in [
        (vec![], Phase::Verified, 0, None),
        (vec![current(1)], Phase::Verified, 0, None),
        (
            vec![interrupted(4, Trigger::Schedule)],
            Phase::Verified,
            0,
            Some((1, 10)),
        ),
        (
            vec![interrupted(4, Trigger::Schedule)],
            Phase::Created,
            0,
            Some((1, 10)),
        ),
        (
            vec![interrupted(4, Trigger::Schedule)],
            Phase::Verified,
            1,
            Some((2, 60)),
        ),
        (
            vec![current(1), interrupted(4, Trigger::Schedule)],
            Phase::Verified,
            0,
            Some((1, 10)),
        ),
        // One was delivered since, and what a person adopted was not interrupted.
        (
            vec![interrupted(1, Trigger::Schedule), current(4)],
            Phase::Verified,
            0,
            None,
        ),
        (
            vec![interrupted(4, Trigger::Adopted)],
            Phase::Verified,
            0,
            None,
        ),
    ] {
        let open = rotation(5, phase, &[PENDING]);
        let mut live = before.clone();
        live.push(open.clone());
        let mut key = key(live);
        key.attempt = key_attempt;
        let changes = interrupt(&open, &key, Some(&policy), now());
        let found = backoff_of(&changes);
        assert_eq!(found, expected, "{before:?} {phase:?} {key_attempt}");
        // What leaked is replaced without a delay.
        let leaked = Rotation {
            deadline: Some(RevocationDeadline {
                at: now(),
                is_forced: false,
            }),
            ..open
        };
        assert_eq!(interrupt(&leaked, &key, Some(&policy), now()).len(), 1);
    }
}
