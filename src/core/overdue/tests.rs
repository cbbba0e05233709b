//! When a key is due and overdue; `tests/e2e/status.rs` tests more of it.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::core::ids::{KeyName, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::core::state::{Pause, Rotation, Trigger};

const NOW: &str = "2026-11-24T03:10:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn current(started: &str) -> KeyState {
    let rotation = Rotation {
        current_at: Some(at(started)),
        maybe_created: true,
        ..Rotation::new(
            RotationId::new([1; 8]),
            Scope::AdminKeys,
            1,
            Trigger::Adopted,
            Phase::Current,
            at(started),
        )
    };
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    (state.sequence, state.newest_phase) = (1, Some(Phase::Current));
    state.live = vec![rotation];
    state
}

fn since(state: &KeyState) -> Option<Timestamp> {
    let hourly = Schedule::parse("@hourly", TimeZone::UTC).unwrap();
    due_since(&KeyPolicy::new(hourly), &[], state, None, at(NOW))
}

#[test]
fn due_since_is_the_first_missed_run() {
    for (started, expected) in [
        ("2026-11-24T03:00:00Z", None),
        ("2026-11-24T02:30:00Z", Some("2026-11-24T03:00:00Z")),
        ("2026-11-23T23:30:00Z", Some("2026-11-24T00:00:00Z")),
    ] {
        assert_eq!(since(&current(started)), expected.map(at), "{started}");
    }
}

#[test]
fn due_since_ignores_time_before_the_timetable_and_during_a_pause() {
    let mut state = current("2026-11-20T00:00:00Z");
    state.counts_from = Some(at("2026-11-24T01:30:00Z"));
    assert_eq!(since(&state), Some(at("2026-11-24T02:00:00Z")));
    // A missed run of the previous timetable has been due since its firing.
    state.pending_run = Some(at("2026-11-22T00:00:00Z"));
    state.counts_from = Some(at(NOW));
    assert_eq!(since(&state), Some(at("2026-11-22T00:00:00Z")));
    let mut state = current("2026-11-20T00:00:00Z");
    state.pause = Some(Pause {
        from: at("2026-11-20T00:30:00Z"),
        until: Some(at("2026-11-24T03:05:00Z")),
    });
    assert_eq!(since(&state), Some(at("2026-11-24T03:05:00Z")));
    state.pause = Some(Pause {
        from: at("2026-11-20T00:30:00Z"),
        until: None,
    });
    assert_eq!(since(&state), None);
}

#[test]
fn due_since_ignores_backoff() {
    let mut state = current("2026-11-24T02:30:00Z");
    state.retry_at = Some(at("2026-11-24T04:00:00Z"));
    assert_eq!(since(&state), Some(at("2026-11-24T03:00:00Z")));
}

#[test]
fn key_is_overdue_after_the_delivery_deadline() {
    let hourly = Schedule::parse("@hourly", TimeZone::UTC).unwrap();
    let state = current("2026-11-24T02:30:00Z");
    for (minutes, overdue) in [(9, true), (10, false), (11, false)] {
        let policy = KeyPolicy {
            delivery_deadline: Duration::from_secs(minutes * 60),
            ..KeyPolicy::new(hourly.clone())
        };
        assert_eq!(is_overdue(&policy, &[], &state, None, at(NOW)), overdue);
    }
}
