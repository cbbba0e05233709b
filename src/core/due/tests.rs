//! One table: what stands in the ledger, and what follows.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Due, due, expiring};
use crate::core::names::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::policy::KeyPolicy;
use crate::core::record::{CredentialFacts, Delivery, DeliveryState, KeyState, Rotation, Trigger};
use crate::core::rotation::Phase;
use crate::core::schedule::Schedule;

const WATCHING: &str = "2026-11-24T01:30:00Z";
const NOW: &str = "2026-11-24T03:10:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy(schedule: &str) -> KeyPolicy {
    KeyPolicy {
        overlap: Duration::from_secs(600),
        ..KeyPolicy::new(Schedule::parse(schedule, TimeZone::UTC).unwrap())
    }
}

fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

fn rotation(
    sequence: u64,
    phase: Phase,
    started: &str,
    sinks: &[(&str, DeliveryState)],
) -> Rotation {
    let delivery = |(name, state): &(&str, DeliveryState)| Delivery {
        sink: sink(name),
        required: true,
        state: *state,
        maybe_taken: *state != DeliveryState::Pending,
        attempts: 1,
        last_attempt_at: None,
        accepted_at: (*state == DeliveryState::Accepted).then(|| at(started)),
        removed_at: None,
        retry_at: None,
        error: None,
    };
    Rotation {
        id: RotationId::recorded(sequence.to_string()),
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: None,
        started_at: at(started),
        label: Some(Label::recorded(format!("k-{sequence}"))),
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
        deliveries: sinks.iter().map(delivery).collect(),
    }
}

fn state(newest: (u64, Phase), live: Vec<Rotation>) -> KeyState {
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    (state.sequence, state.newest) = (newest.0, Some(newest.1));
    state.live = live;
    state
}

fn ask(schedule: &str, sinks: &[&str], state: &KeyState) -> Due {
    let sinks: Vec<_> = sinks.iter().map(|name| sink(name)).collect();
    due(&policy(schedule), &sinks, state, at(WATCHING), at(NOW))
}

fn since(trigger: Trigger, from: &str, scheduled_for: Option<&str>) -> Due {
    Due::Since {
        at: at(from),
        scheduled_for: scheduled_for.map(at),
        trigger,
    }
}

fn no(next: &str) -> Due {
    Due::No {
        next: Some(at(next)),
    }
}

const TAKEN: [(&str, DeliveryState); 1] = [("a", DeliveryState::Accepted)];

fn current(started: &str) -> Rotation {
    rotation(5, Phase::Current, started, &TAKEN)
}

#[test]
fn a_key_that_was_never_rotated_is_due_at_once() {
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    assert_eq!(
        ask("@daily", &["a"], &unknown),
        since(Trigger::First, WATCHING, None)
    );
}

#[test]
fn the_schedule_decides_for_a_healthy_key() {
    let at_three = Some("2026-11-24T03:00:00Z");
    let schedule = since(Trigger::Schedule, "2026-11-24T03:00:00Z", at_three);
    let at_midnight = Some("2026-11-24T00:00:00Z");
    let catch_up = since(Trigger::CatchUp, "2026-11-24T00:00:00Z", at_midnight);
    let at_four = no("2026-11-24T04:00:00Z");
    for (expression, started, expected) in [
        ("@hourly", "2026-11-24T03:00:00Z", at_four),
        ("@hourly", "2026-11-24T02:00:00Z", schedule),
        // Several that nobody saw are made up for by one.
        ("@daily", "2026-11-20T00:00:00Z", catch_up),
        // From a clock a little ahead.
        ("@hourly", "2026-11-24T03:12:00Z", at_four),
        ("@hourly", "2026-11-24T03:15:00Z", at_four),
    ] {
        let state = state((5, Phase::Current), vec![current(started)]);
        let found = ask(expression, &["a"], &state);
        assert_eq!(found, expected, "{expression} {started}");
    }
}

#[test]
fn a_current_row_from_a_wrong_future_is_ignored() {
    let at_three = Some("2026-11-24T03:00:00Z");
    let schedule = since(Trigger::Schedule, "2026-11-24T03:00:00Z", at_three);
    for started in ["2026-11-24T03:15:01Z", "2028-01-01T00:00:00Z"] {
        let state = state((5, Phase::Current), vec![current(started)]);
        // Fires as if nothing had been done since somebody watches.
        assert_eq!(ask("@hourly", &["a"], &state), schedule, "{started}");
        // What fired before that is not made up for: no storm at each start.
        let tomorrow = no("2026-11-25T00:00:00Z");
        assert_eq!(ask("@daily", &["a"], &state), tomorrow, "{started}");
    }
}

#[test]
fn an_open_rotation_is_finished_first() {
    for phase in [Phase::Intended, Phase::Created, Phase::Verified] {
        let state = state((1, phase), vec![rotation(1, phase, NOW, &[])]);
        assert_eq!(ask("@daily", &["a"], &state), Due::No { next: None });
    }
}

#[test]
fn what_is_not_as_it_should_be_is_repaired() {
    use DeliveryState::{Accepted, Pending, Uncertain};
    let repair = since(Trigger::Repair, WATCHING, None);
    let started = "2026-11-24T00:30:00Z";
    // A sink that the current credential never reached.
    let state_a = state((5, Phase::Current), vec![current(started)]);
    assert_eq!(ask("@daily", &["a", "new"], &state_a), repair);
    for pending in [Pending, Uncertain] {
        let row = rotation(5, Phase::Current, started, &[("a", pending)]);
        assert_eq!(
            ask("@daily", &["a"], &state((5, Phase::Current), vec![row])),
            repair
        );
    }
    // A stranded one that is newer than the current one.
    let newer = rotation(6, Phase::Stranded, started, &[("a", Pending)]);
    let live = vec![current(started), newer];
    assert_eq!(
        ask("@daily", &["a"], &state((6, Phase::Stranded), live)),
        repair
    );
    // An older one that a sink of the configuration holds without end: it was
    // not asked to take the current one.
    let older = rotation(4, Phase::Stranded, started, &[("b", Uncertain)]);
    let mut adopted = rotation(5, Phase::Current, started, &[]);
    adopted.trigger = Trigger::Adopted;
    let live = vec![older, adopted.clone()];
    let held = state((5, Phase::Current), live);
    assert_eq!(ask("@daily", &["a", "b"], &held), repair);
    assert_eq!(ask("@daily", &["a"], &held), no("2026-11-25T00:00:00Z"));
    // What was made by hand was delivered by hand.
    let by_hand = state((5, Phase::Current), vec![adopted]);
    assert_eq!(ask("@daily", &["a"], &by_hand), no("2026-11-25T00:00:00Z"));
    // An older one whose sink took the current one, or is out of reach.
    for holder in ["a", "gone"] {
        let older = rotation(4, Phase::Stranded, started, &[(holder, Accepted)]);
        let live = vec![older, current(started)];
        let state = state((5, Phase::Current), live);
        assert_eq!(
            ask("@daily", &["a"], &state),
            no("2026-11-25T00:00:00Z"),
            "{holder}"
        );
    }
    // No current one at all.
    for phase in [Phase::Stranded, Phase::Revoked] {
        assert_eq!(
            ask("@daily", &["a"], &state((5, phase), vec![])),
            repair,
            "{phase}"
        );
    }
}

#[test]
fn what_came_to_nothing_is_tried_again() {
    for phase in [Phase::Failed, Phase::Orphaned, Phase::Revoked] {
        let state = state((6, phase), vec![current("2026-11-24T02:30:00Z")]);
        assert_eq!(
            ask("@hourly", &["a"], &state),
            since(
                Trigger::Retry,
                "2026-11-24T03:00:00Z",
                Some("2026-11-24T03:00:00Z")
            )
        );
        // One made by hand, which no firing stands behind.
        assert_eq!(
            ask("@daily", &["a"], &state),
            since(Trigger::Retry, WATCHING, None)
        );
    }
    for phase in [Phase::Failed, Phase::Orphaned] {
        let state = state((1, phase), vec![]);
        assert_eq!(
            ask("@daily", &["a"], &state),
            since(Trigger::Retry, WATCHING, None)
        );
    }
}

#[test]
fn what_came_to_something_is_not_tried_again() {
    let started = "2026-11-24T02:30:00Z";
    let firing = Some("2026-11-24T03:00:00Z");
    let schedule = since(Trigger::Schedule, "2026-11-24T03:00:00Z", firing);
    // A newer one that is neither the current one nor a failure.
    for phase in [Phase::Retired, Phase::Stranded] {
        let state = state((6, phase), vec![current(started)]);
        assert_eq!(ask("@hourly", &["a"], &state), schedule, "{phase}");
    }
    // The current one itself.
    let state = state((5, Phase::Revoked), vec![current(started)]);
    assert_eq!(ask("@hourly", &["a"], &state), schedule);
}

#[test]
fn back_off_holds_every_reason_back() {
    let states = [
        KeyState::unknown(KeyName::new("k").unwrap()),
        state((1, Phase::Failed), vec![]),
        state((5, Phase::Current), vec![current("2026-11-24T02:30:00Z")]),
    ];
    for mut state in states {
        for later in ["2026-11-24T03:20:00Z", "2026-11-25T03:10:00Z"] {
            state.retry_at = Some(at(later));
            assert_eq!(ask("@hourly", &["a"], &state), no(later));
        }
        for over in ["2026-11-24T03:05:00Z", NOW] {
            state.retry_at = Some(at(over));
            let asked = ask("@hourly", &["a"], &state);
            assert!(
                matches!(asked, Due::Since { at: since, .. } if since == at(over)),
                "{asked:?}"
            );
        }
    }
}

#[test]
fn a_back_off_from_a_wrong_future_is_ignored() {
    let failed = |retry_at: &str| {
        let mut state = state((1, Phase::Failed), vec![]);
        state.retry_at = Some(at(retry_at));
        ask("@daily", &["a"], &state)
    };
    let retry = since(Trigger::Retry, WATCHING, None);
    for far in ["2026-11-25T03:10:01Z", "2028-01-01T00:00:00Z"] {
        assert_eq!(failed(far), retry, "{far}");
    }
    // Nor does it hide the next firing of a key that is not due.
    let mut healthy = state((5, Phase::Current), vec![current("2026-11-24T00:30:00Z")]);
    healthy.retry_at = Some(at("2028-01-01T00:00:00Z"));
    assert_eq!(ask("@daily", &["a"], &healthy), no("2026-11-25T00:00:00Z"));
    healthy.retry_at = Some(at("2026-11-25T02:00:00Z"));
    assert_eq!(ask("@daily", &["a"], &healthy), no("2026-11-25T02:00:00Z"));
}

#[test]
fn a_credential_in_the_last_quarter_of_its_life_makes_the_key_due() {
    let policy = policy("@yearly");
    let mut current = rotation(1, Phase::Current, "2026-11-24T02:00:00Z", &[]);
    current.credential = Some(CredentialFacts {
        id: CredentialId::new("key_1".to_owned()),
        redacted_value: None,
        created_at: Some(at("2026-11-24T02:00:00Z")),
        expires_at: Some(at("2026-11-24T06:00:00Z")),
    });
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    state.sequence = 1;
    state.newest = Some(Phase::Current);
    state.live = vec![current];
    let asked = |now| due(&policy, &[], &state, at(WATCHING), at(now));
    let quarter = at("2026-11-24T05:00:00Z");
    assert_eq!(
        asked("2026-11-24T04:59:59Z"),
        Due::No {
            next: Some(quarter)
        }
    );
    let Due::Since { trigger, .. } = asked("2026-11-24T05:00:00Z") else {
        panic!("not due");
    };
    assert_eq!(trigger, Trigger::Repair);
    // And whatever keeps its successor from being made is urgent.
    let end = Some(at("2026-11-24T06:00:00Z"));
    assert_eq!(expiring(&state, at("2026-11-24T04:59:59Z")), None);
    assert_eq!(expiring(&state, quarter), end);
    assert_eq!(expiring(&state, at("2026-11-24T05:30:00Z")), end);
}
