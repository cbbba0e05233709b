//! When a key is due, by its ledger state, its timetable and the downtime.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Downtime, Due, check_due, imminent_expiry, timetable_change};
use crate::core::change::{Change, DowntimeReason, ScheduleChange, TimetableChange};
use crate::core::forecast::next_rotation;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::policy::{InitialRotation, KeyPolicy};
use crate::core::schedule::Schedule;
use crate::core::schedule::timetable::Timetable;
use crate::core::scope::Scope;
use crate::core::state::{
    CredentialMetadata, Delivery, DeliveryState, KeyState, LastCurrent, Pause, Rotation, Trigger,
};

const DAEMON_START: &str = "2026-11-24T01:30:00Z";
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
        written_at: None,
        sighting: None,
        file: None,
        file_access: None,
        sink: sink(name),
        required: true,
        state: *state,
        maybe_accepted: *state != DeliveryState::Pending,
        attempts: 1,
        last_attempt_at: None,
        accepted_at: (*state == DeliveryState::Accepted).then(|| at(started)),
        removed_at: None,
        retry_at: None,
        error: None,
    };
    Rotation {
        label: Some(Label::from_recorded(format!("k-{sequence}"))),
        maybe_created: true,
        deliveries: sinks.iter().map(delivery).collect(),
        ..Rotation::new(
            RotationId::from_recorded(sequence.to_string()),
            Scope::AdminKeys,
            sequence,
            Trigger::Schedule,
            phase,
            at(started),
        )
    }
}

fn state(newest: (u64, Phase), live: Vec<Rotation>) -> KeyState {
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    (state.sequence, state.newest_phase) = (newest.0, Some(newest.1));
    state.live = live;
    state
}

fn due_for_schedule(schedule: &str, sinks: &[&str], state: &KeyState) -> Due {
    let sinks: Vec<_> = sinks.iter().map(|name| sink(name)).collect();
    check_due(
        &policy(schedule),
        &sinks,
        state,
        downtime_before_start(),
        at(NOW),
    )
}

fn due_since(trigger: Trigger, from: &str, scheduled_for: Option<&str>) -> Due {
    Due::Now {
        since: at(from),
        scheduled_for: scheduled_for.map(at),
        trigger,
        missed_reason: (trigger == Trigger::CatchUp).then_some(DowntimeReason::NotRunning),
    }
}

fn downtime_before_start() -> Downtime {
    Downtime::before_start(at(DAEMON_START))
}

fn not_due_until(next: &str) -> Due {
    Due::NotDue {
        next: Some(at(next)),
    }
}

const ACCEPTED_BY_A: [(&str, DeliveryState); 1] = [("a", DeliveryState::Accepted)];

fn current(started: &str) -> Rotation {
    rotation(5, Phase::Current, started, &ACCEPTED_BY_A)
}

#[test]
fn never_rotated_key_is_due_immediately() {
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    assert_eq!(
        due_for_schedule("@daily", &["a"], &unknown),
        due_since(Trigger::First, DAEMON_START, None)
    );
    // A start in the future counts as now.
    let future = Downtime::before_start(at("2026-11-24T09:00:00Z"));
    let due = due_for_policy(&policy("@daily"), &unknown, future);
    assert_eq!(due, due_since(Trigger::First, NOW, None));
}

#[test]
fn healthy_key_is_due_by_its_schedule() {
    let at_three = Some("2026-11-24T03:00:00Z");
    let schedule = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", at_three);
    let at_midnight = Some("2026-11-24T00:00:00Z");
    let catch_up = due_since(Trigger::CatchUp, "2026-11-24T00:00:00Z", at_midnight);
    let at_four = not_due_until("2026-11-24T04:00:00Z");
    for (expression, started, expected) in [
        ("@hourly", "2026-11-24T03:00:00Z", at_four),
        ("@hourly", "2026-11-24T02:00:00Z", schedule),
        // One rotation follows several missed runs.
        ("@daily", "2026-11-20T00:00:00Z", catch_up),
        // The clock was a little ahead when the rotation started.
        ("@hourly", "2026-11-24T03:12:00Z", at_four),
        ("@hourly", "2026-11-24T03:15:00Z", at_four),
    ] {
        let state = state((5, Phase::Current), vec![current(started)]);
        let due = due_for_schedule(expression, &["a"], &state);
        assert_eq!(due, expected, "{expression} {started}");
    }
}

#[test]
fn implausible_future_start_is_ignored() {
    let at_three = Some("2026-11-24T03:00:00Z");
    let schedule = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", at_three);
    for started in ["2026-11-24T03:15:01Z", "2028-01-01T00:00:00Z"] {
        let state = state((5, Phase::Current), vec![current(started)]);
        // Runs count from the start of the daemon.
        assert_eq!(
            due_for_schedule("@hourly", &["a"], &state),
            schedule,
            "{started}"
        );
        // No rotation follows an earlier run: otherwise each start would rotate.
        let tomorrow = not_due_until("2026-11-25T00:00:00Z");
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            tomorrow,
            "{started}"
        );
    }
}

#[test]
fn key_with_open_rotation_is_not_due() {
    for phase in [Phase::Intended, Phase::Created, Phase::Verified] {
        let state = state((1, phase), vec![rotation(1, phase, NOW, &[])]);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            Due::NotDue { next: None }
        );
    }
}

#[test]
fn incomplete_current_credential_is_repaired() {
    use DeliveryState::{Accepted, Pending, Uncertain};
    let repair = due_since(Trigger::Repair, DAEMON_START, None);
    let started = "2026-11-24T00:30:00Z";
    // The current credential was never delivered to one sink.
    let state_a = state((5, Phase::Current), vec![current(started)]);
    assert_eq!(due_for_schedule("@daily", &["a", "new"], &state_a), repair);
    for pending in [Pending, Uncertain] {
        let row = rotation(5, Phase::Current, started, &[("a", pending)]);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state((5, Phase::Current), vec![row])),
            repair
        );
    }
    // A stranded credential is newer than the current one.
    let newer = rotation(6, Phase::Stranded, started, &[("a", Pending)]);
    let live = vec![current(started), newer];
    assert_eq!(
        due_for_schedule("@daily", &["a"], &state((6, Phase::Stranded), live)),
        repair
    );
    // A configured sink holds an older stranded credential indefinitely: the
    // current one was not delivered to it.
    let older = rotation(4, Phase::Stranded, started, &[("b", Uncertain)]);
    let mut adopted = rotation(5, Phase::Current, started, &[]);
    adopted.trigger = Trigger::Adopted;
    let live = vec![older, adopted.clone()];
    let holder_b = state((5, Phase::Current), live);
    assert_eq!(due_for_schedule("@daily", &["a", "b"], &holder_b), repair);
    assert_eq!(
        due_for_schedule("@daily", &["a"], &holder_b),
        not_due_until("2026-11-25T00:00:00Z")
    );
    // An operator delivered the adopted credential.
    let adopted_alone = state((5, Phase::Current), vec![adopted]);
    assert_eq!(
        due_for_schedule("@daily", &["a"], &adopted_alone),
        not_due_until("2026-11-25T00:00:00Z")
    );
    // The sink of an older one accepted the current one, or was removed.
    for holder in ["a", "removed"] {
        let older = rotation(4, Phase::Stranded, started, &[(holder, Accepted)]);
        let live = vec![older, current(started)];
        let state = state((5, Phase::Current), live);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            not_due_until("2026-11-25T00:00:00Z"),
            "{holder}"
        );
    }
    // The key has no current credential.
    for phase in [Phase::Stranded, Phase::Revoked] {
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state((5, phase), vec![])),
            repair,
            "{phase}"
        );
    }
}

#[test]
fn unsuccessful_rotation_is_retried() {
    for phase in [Phase::Failed, Phase::Orphaned, Phase::Revoked] {
        let state = state((6, phase), vec![current("2026-11-24T02:30:00Z")]);
        assert_eq!(
            due_for_schedule("@hourly", &["a"], &state),
            due_since(
                Trigger::Retry,
                "2026-11-24T03:00:00Z",
                Some("2026-11-24T03:00:00Z")
            )
        );
        // An operator requested it, so that no firing is its cause.
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            due_since(Trigger::Retry, DAEMON_START, None)
        );
    }
    for phase in [Phase::Failed, Phase::Orphaned] {
        let state = state((1, phase), vec![]);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            due_since(Trigger::Retry, DAEMON_START, None)
        );
    }
}

#[test]
fn successful_rotation_is_not_retried() {
    let started = "2026-11-24T02:30:00Z";
    let firing = Some("2026-11-24T03:00:00Z");
    let schedule = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", firing);
    // The newest rotation is neither current nor a failure.
    for phase in [Phase::Retired, Phase::Stranded] {
        let state = state((6, phase), vec![current(started)]);
        assert_eq!(
            due_for_schedule("@hourly", &["a"], &state),
            schedule,
            "{phase}"
        );
    }
    // The newest rotation is the current one.
    let state = state((5, Phase::Revoked), vec![current(started)]);
    assert_eq!(due_for_schedule("@hourly", &["a"], &state), schedule);
}

#[test]
fn backoff_delays_every_trigger() {
    let states = [
        KeyState::unknown(KeyName::new("k").unwrap()),
        state((1, Phase::Failed), vec![]),
        state((5, Phase::Current), vec![current("2026-11-24T02:30:00Z")]),
    ];
    for mut state in states {
        for later in ["2026-11-24T03:20:00Z", "2026-11-25T03:10:00Z"] {
            state.retry_at = Some(at(later));
            assert_eq!(
                due_for_schedule("@hourly", &["a"], &state),
                not_due_until(later)
            );
        }
        for passed in ["2026-11-24T03:05:00Z", NOW] {
            state.retry_at = Some(at(passed));
            let due = due_for_schedule("@hourly", &["a"], &state);
            assert!(
                matches!(due, Due::Now { since, .. } if since == at(passed)),
                "{due:?}"
            );
        }
    }
}

#[test]
fn implausible_backoff_is_ignored() {
    let failed = |retry_at: &str| {
        let mut state = state((1, Phase::Failed), vec![]);
        state.retry_at = Some(at(retry_at));
        due_for_schedule("@daily", &["a"], &state)
    };
    let retry = due_since(Trigger::Retry, DAEMON_START, None);
    for far in ["2026-11-25T03:10:01Z", "2028-01-01T00:00:00Z"] {
        assert_eq!(failed(far), retry, "{far}");
    }
    // It does not hide the next firing of a key that is not due either.
    let mut healthy = state((5, Phase::Current), vec![current("2026-11-24T00:30:00Z")]);
    healthy.retry_at = Some(at("2028-01-01T00:00:00Z"));
    assert_eq!(
        due_for_schedule("@daily", &["a"], &healthy),
        not_due_until("2026-11-25T00:00:00Z")
    );
    healthy.retry_at = Some(at("2026-11-25T02:00:00Z"));
    assert_eq!(
        due_for_schedule("@daily", &["a"], &healthy),
        not_due_until("2026-11-25T02:00:00Z")
    );
}

#[test]
fn credential_in_last_quarter_of_its_life_makes_key_due() {
    let policy = policy("@yearly");
    let mut current = rotation(1, Phase::Current, "2026-11-24T02:00:00Z", &[]);
    current.credential = Some(CredentialMetadata {
        id: CredentialId::new("key_1".to_owned()),
        redacted_value: None,
        created_at: Some(at("2026-11-24T02:00:00Z")),
        expires_at: Some(at("2026-11-24T06:00:00Z")),
    });
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    state.sequence = 1;
    state.newest_phase = Some(Phase::Current);
    state.live = vec![current];
    let due_at = |now| check_due(&policy, &[], &state, downtime_before_start(), at(now));
    let quarter = at("2026-11-24T05:00:00Z");
    assert_eq!(
        due_at("2026-11-24T04:59:59Z"),
        Due::NotDue {
            next: Some(quarter)
        }
    );
    let Due::Now { trigger, .. } = due_at("2026-11-24T05:00:00Z") else {
        panic!("not due");
    };
    assert_eq!(trigger, Trigger::Repair);
    // A successor that fails is urgent then.
    let end = Some(at("2026-11-24T06:00:00Z"));
    assert_eq!(imminent_expiry(&state, at("2026-11-24T04:59:59Z")), None);
    assert_eq!(imminent_expiry(&state, quarter), end);
    assert_eq!(imminent_expiry(&state, at("2026-11-24T05:30:00Z")), end);
}

fn healthy(started: &str) -> KeyState {
    state((5, Phase::Current), vec![current(started)])
}

fn hourly_policy_with(adapt: impl FnOnce(&mut KeyPolicy)) -> KeyPolicy {
    let mut policy = policy("@hourly");
    adapt(&mut policy);
    policy
}

fn due_for_policy(policy: &KeyPolicy, state: &KeyState, downtime: Downtime) -> Due {
    check_due(policy, &[sink("a")], state, downtime, at(NOW))
}

#[test]
fn catch_up_window_skips_only_missed_runs() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let suspended = |from: &str, to: &str| Downtime {
        from: at(from),
        to: at(to),
        reason: DowntimeReason::Suspended,
    };
    let three = Some("2026-11-24T03:00:00Z");
    let catch_up = |reason| Due::Now {
        since: at("2026-11-24T03:00:00Z"),
        scheduled_for: three.map(at),
        trigger: Trigger::CatchUp,
        missed_reason: Some(reason),
    };
    let skipped = Due::MissedRunSkipped {
        firing: at("2026-11-24T03:00:00Z"),
        reason: DowntimeReason::Suspended,
    };
    let in_time = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", three);
    let started = "2026-11-24T00:30:00Z";
    for (window, downtime, expected) in [
        // The host resumes nine minutes after the firing.
        (
            None,
            ("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z"),
            catch_up(DowntimeReason::Suspended),
        ),
        (
            Some(9),
            ("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z"),
            catch_up(DowntimeReason::Suspended),
        ),
        (
            Some(8),
            ("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z"),
            skipped,
        ),
        // The daemon ran at the firing: a later delay does not skip it.
        (
            Some(0),
            ("2026-11-24T02:30:00Z", "2026-11-24T03:00:00Z"),
            in_time,
        ),
        (
            Some(0),
            ("2026-11-24T03:00:00Z", "2026-11-24T03:09:00Z"),
            in_time,
        ),
        (
            Some(0),
            ("2026-11-24T03:05:00Z", "2026-11-24T03:09:00Z"),
            in_time,
        ),
    ] {
        let policy = hourly_policy_with(|policy| policy.catch_up_window = window.map(minutes));
        let due = due_for_policy(
            &policy,
            &healthy(started),
            suspended(downtime.0, downtime.1),
        );
        assert_eq!(due, expected, "{window:?} {downtime:?}");
    }
    // After the skip is recorded, the next firing is due.
    let mut recorded = healthy(started);
    recorded.counts_from = Some(at("2026-11-24T03:00:00Z"));
    let policy = hourly_policy_with(|policy| policy.catch_up_window = Some(Duration::ZERO));
    let downtime = suspended("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z");
    assert_eq!(
        due_for_policy(&policy, &recorded, downtime),
        not_due_until("2026-11-24T04:00:00Z")
    );
    // A time written by a wrong clock is ignored.
    recorded.counts_from = Some(at("2031-01-01T00:00:00Z"));
    assert_eq!(due_for_policy(&policy, &recorded, downtime), skipped);
}

#[test]
fn paused_key_is_not_due_by_schedule() {
    let pause = |from: &str, until: Option<&str>| {
        Some(Pause {
            from: at(from),
            until: until.map(at),
        })
    };
    let never = Due::NotDue { next: None };
    let mut key = healthy("2026-11-24T02:30:00Z");
    key.pause = pause("2026-11-24T02:45:00Z", None);
    assert_eq!(
        due_for_policy(&policy("@hourly"), &key, downtime_before_start()),
        never
    );
    key.pause = pause("2026-11-24T02:45:00Z", Some("2026-11-24T03:30:00Z"));
    let until = not_due_until("2026-11-24T03:30:00Z");
    assert_eq!(
        due_for_policy(&policy("@hourly"), &key, downtime_before_start()),
        until
    );
    // The pause is over: a rotation follows a run during it, unless the window skips it.
    key.pause = pause("2026-11-24T03:00:00Z", Some("2026-11-24T03:08:00Z"));
    let catch_up = Due::Now {
        since: at("2026-11-24T03:00:00Z"),
        scheduled_for: Some(at("2026-11-24T03:00:00Z")),
        trigger: Trigger::CatchUp,
        missed_reason: Some(DowntimeReason::Paused),
    };
    assert_eq!(
        due_for_policy(&policy("@hourly"), &key, downtime_before_start()),
        catch_up
    );
    let window =
        hourly_policy_with(|policy| policy.catch_up_window = Some(Duration::from_secs(400)));
    let skipped = Due::MissedRunSkipped {
        firing: at("2026-11-24T03:00:00Z"),
        reason: DowntimeReason::Paused,
    };
    assert_eq!(
        due_for_policy(&window, &key, downtime_before_start()),
        skipped
    );
    // The pause did not miss a run before it.
    key.pause = pause("2026-11-24T03:00:01Z", Some("2026-11-24T03:08:00Z"));
    let in_time = due_since(
        Trigger::Schedule,
        "2026-11-24T03:00:00Z",
        Some("2026-11-24T03:00:00Z"),
    );
    assert_eq!(
        due_for_policy(&window, &key, downtime_before_start()),
        in_time
    );
}

/// The engine wakes at the end of a pause, and the key rotates at its next run.
#[test]
fn end_of_a_pause_is_no_rotation() {
    let hourly = policy("0 * * * *");
    for (until, expected) in [
        // No run falls into it.
        (Some("2026-11-24T03:30:00Z"), Some("2026-11-24T04:00:00Z")),
        // Its end is a run.
        (Some("2026-11-24T04:00:00Z"), Some("2026-11-24T04:00:00Z")),
        // A run falls into it, and follows at its end.
        (Some("2026-11-24T04:10:00Z"), Some("2026-11-24T04:10:00Z")),
        (None, None),
        // It is over.
        (Some("2026-11-24T03:05:00Z"), Some("2026-11-24T04:00:00Z")),
    ] {
        let mut key = healthy("2026-11-24T03:00:00Z");
        key.pause = Some(Pause {
            from: at("2026-11-24T03:01:00Z"),
            until: until.map(at),
        });
        let next = next_rotation(&hourly, &[], &key, at(NOW));
        assert_eq!(next, expected.map(at), "{until:?}");
        // What would be too old by then is skipped.
        let strict = KeyPolicy {
            catch_up_window: Some(Duration::from_secs(60)),
            ..policy("0 * * * *")
        };
        let next = next_rotation(&strict, &[], &key, at(NOW));
        let is_skipped = until == Some("2026-11-24T04:10:00Z");
        let expected = if is_skipped {
            Some("2026-11-24T05:00:00Z")
        } else {
            expected
        };
        assert_eq!(next, expected.map(at), "{until:?}, with a window");
    }
}

#[test]
fn pause_does_not_block_repair_of_lost_credential() {
    let paused = Some(Pause {
        from: at("2026-11-24T02:00:00Z"),
        until: None,
    });
    // The credential is gone at the provider, or an operator revoked it.
    let repair = due_since(Trigger::Repair, DAEMON_START, None);
    for newest in [Phase::Revoked, Phase::Failed, Phase::Orphaned] {
        let mut key = state((5, newest), vec![]);
        key.pause = paused;
        key.last_current = Some(LastCurrent {
            sequence: 4,
            is_revoked: true,
        });
        assert_eq!(
            due_for_policy(&policy("@hourly"), &key, downtime_before_start()),
            repair
        );
    }
    // Never rotated, failed, or stranded: consumers may use a live credential.
    for (newest, live) in [
        ((0, None), vec![]),
        ((1, Some(Phase::Failed)), vec![]),
        (
            (1, Some(Phase::Stranded)),
            vec![rotation(1, Phase::Stranded, NOW, &ACCEPTED_BY_A)],
        ),
    ] {
        let mut key = KeyState::unknown(KeyName::new("k").unwrap());
        (key.sequence, key.newest_phase) = newest;
        (key.live, key.pause) = (live, paused);
        let due = due_for_policy(&policy("@hourly"), &key, downtime_before_start());
        assert_eq!(due, Due::NotDue { next: None }, "{newest:?}");
    }
    // The credential is in its last quarter.
    let mut expiring = healthy("2026-11-24T02:00:00Z");
    expiring.live[0].credential = Some(metadata("2026-11-24T02:00:00Z", "2026-11-24T03:20:00Z"));
    expiring.pause = paused;
    assert_eq!(
        due_for_policy(&policy("@yearly"), &expiring, downtime_before_start()),
        repair
    );
    // It is due when its last quarter begins.
    expiring.live[0].credential = Some(metadata("2026-11-24T02:00:00Z", "2026-11-24T06:00:00Z"));
    let quarter = not_due_until("2026-11-24T05:00:00Z");
    assert_eq!(
        due_for_policy(&policy("@yearly"), &expiring, downtime_before_start()),
        quarter
    );
}

fn metadata(created: &str, expires: &str) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new("key_1".to_owned()),
        redacted_value: None,
        created_at: Some(at(created)),
        expires_at: Some(at(expires)),
    }
}

#[test]
fn key_with_age_timetable_is_due_by_credential_age() {
    let hourly = KeyPolicy {
        overlap: Duration::from_secs(600),
        ..KeyPolicy::new(Timetable::every(Duration::from_secs(3_600), TimeZone::UTC))
    };
    // Its creation by the provider's clock counts, and not the start of its rotation.
    let mut key = healthy("2026-11-24T02:20:00Z");
    let next = not_due_until("2026-11-24T03:20:00Z");
    assert_eq!(due_for_policy(&hourly, &key, downtime_before_start()), next);
    assert_eq!(super::age_origin(&hourly, &key, at(NOW)), at(NOW));
    key.live[0].credential = Some(metadata("2026-11-24T02:05:00Z", "2030-01-01T00:00:00Z"));
    assert_eq!(
        super::age_origin(&hourly, &key, at(NOW)),
        at("2026-11-24T02:05:00Z")
    );
    let five_past = Some("2026-11-24T03:05:00Z");
    let due = due_since(Trigger::Schedule, "2026-11-24T03:05:00Z", five_past);
    assert_eq!(due_for_policy(&hourly, &key, downtime_before_start()), due);
    // A creation in the implausible future is ignored.
    key.live[0].credential = Some(metadata("2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z"));
    assert_eq!(due_for_policy(&hourly, &key, downtime_before_start()), next);
}

#[test]
fn scheduled_initial_rotation_waits_for_first_firing() {
    let scheduled =
        hourly_policy_with(|policy| policy.initial_rotation = InitialRotation::Scheduled);
    let mut unknown = KeyState::unknown(KeyName::new("k").unwrap());
    // Its timetable is recorded now.
    let four = not_due_until("2026-11-24T04:00:00Z");
    assert_eq!(
        due_for_policy(&scheduled, &unknown, downtime_before_start()),
        four
    );
    let Some(Change::Schedule(ScheduleChange::TimetableChanged(TimetableChange {
        timetable,
        counts_from,
        pending_run: None,
    }))) = timetable_change(
        &scheduled,
        &unknown,
        downtime_before_start(),
        false,
        |_| None,
        at(NOW),
    )
    else {
        panic!("not recorded");
    };
    assert_eq!(timetable, "@hourly | UTC | 0s");
    assert_eq!(counts_from, Some(at(NOW)));
    (unknown.timetable, unknown.counts_from) = (Some(timetable), counts_from);
    assert_eq!(
        due_for_policy(&scheduled, &unknown, downtime_before_start()),
        not_due_until("2026-11-24T04:00:00Z")
    );
    unknown.counts_from = Some(at("2026-11-24T02:59:00Z"));
    let first = due_since(
        Trigger::First,
        "2026-11-24T03:00:00Z",
        Some("2026-11-24T03:00:00Z"),
    );
    assert_eq!(
        due_for_policy(&scheduled, &unknown, downtime_before_start()),
        first
    );
    // A wrong clock recorded its timetable: runs count from the start of the
    // daemon, and not from the beginning of time.
    let daily = KeyPolicy {
        initial_rotation: InitialRotation::Scheduled,
        ..policy("@daily")
    };
    unknown.counts_from = Some(at("2035-01-01T00:00:00Z"));
    let tomorrow = not_due_until("2026-11-25T00:00:00Z");
    assert_eq!(
        due_for_policy(&daily, &unknown, downtime_before_start()),
        tomorrow
    );
    // A key that is due immediately needs no commit for its timetable alone.
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    let change = timetable_change(
        &policy("@hourly"),
        &unknown,
        downtime_before_start(),
        false,
        |_| None,
        at(NOW),
    );
    assert_eq!(change, None);
}

#[test]
fn changed_timetable_counts_from_now_and_keeps_pending_run() {
    let recorded = |text: &str, started: &str| {
        let mut key = healthy(started);
        key.timetable = Some(text.to_owned());
        key
    };
    let change_of = |key: &KeyState, policy: &KeyPolicy| {
        let name = key.key.clone();
        let parse = |text: &str| Timetable::from_text(text, &name, |_| Some(TimeZone::UTC));
        timetable_change(policy, key, downtime_before_start(), false, parse, at(NOW))
    };
    // The same timetable is not recorded again.
    let key = recorded("@hourly | UTC | 0s", "2026-11-24T03:00:00Z");
    assert_eq!(change_of(&key, &policy("@hourly")), None);
    // From Mondays at three to Mondays at four, on a Tuesday: no rotation is due.
    let mut key = recorded("0 3 * * Mon | UTC | 0s", "2026-11-23T03:00:00Z");
    let later = policy("0 4 * * Mon");
    let change = change_of(&key, &later);
    let expected = |text: &str, pending_run: Option<&str>| {
        Some(Change::from(TimetableChange {
            timetable: text.to_owned(),
            counts_from: Some(at(NOW)),
            pending_run: pending_run.map(at),
        }))
    };
    assert_eq!(change, expected("0 4 * * Mon | UTC | 0s", None));
    key.counts_from = Some(at(NOW));
    assert_eq!(
        due_for_policy(&later, &key, downtime_before_start()),
        not_due_until("2026-11-30T04:00:00Z")
    );
    // A rotation follows a missed run of the previous timetable.
    let mut key = recorded("0 3 * * Mon | UTC | 0s", "2026-11-16T03:00:00Z");
    let change = change_of(&key, &later);
    let monday = "2026-11-23T03:00:00Z";
    assert_eq!(change, expected("0 4 * * Mon | UTC | 0s", Some(monday)));
    (key.counts_from, key.pending_run) = (Some(at(NOW)), Some(at(monday)));
    let catch_up = due_since(Trigger::CatchUp, monday, Some(monday));
    assert_eq!(
        due_for_policy(&later, &key, downtime_before_start()),
        catch_up
    );
    // A timetable that cannot be parsed any more has no missed run.
    let key = recorded("0 3 * * Mon | Gone/Zone | 0s", "2026-11-16T03:00:00Z");
    let change = timetable_change(
        &later,
        &key,
        downtime_before_start(),
        false,
        |_| None,
        at(NOW),
    );
    assert_eq!(change, expected("0 4 * * Mon | UTC | 0s", None));
    // A key of an earlier release, which recorded no timetables, misses no run.
    let key = healthy("2026-11-16T03:00:00Z");
    let Some(Change::Schedule(ScheduleChange::TimetableChanged(TimetableChange {
        counts_from: None,
        ..
    }))) = change_of(&key, &later)
    else {
        panic!("not recorded");
    };
}

/// A key whose credential was adopted at two o'clock, `days` after its creation.
fn adopted(name: &str, days: i64) -> KeyState {
    let adopted_at = at("2026-11-24T02:00:00Z");
    let mut row = rotation(5, Phase::Current, "2026-11-24T02:00:00Z", &ACCEPTED_BY_A);
    row.trigger = Trigger::Adopted;
    let created_at = adopted_at - jiff::SignedDuration::from_hours(24 * days);
    row.credential = Some(CredentialMetadata {
        id: CredentialId::new("key_1".to_owned()),
        redacted_value: None,
        created_at: Some(created_at),
        expires_at: None,
    });
    let mut key = state((5, Phase::Current), vec![row]);
    key.key = KeyName::new(name).unwrap();
    key.timetable = Some("every 30d | UTC | 0s".to_owned());
    key.counts_from = Some(at("2026-11-24T01:30:00Z"));
    key
}

fn every_days(days: u64) -> KeyPolicy {
    let age = Duration::from_secs(days * 86_400);
    KeyPolicy::new(Timetable::every(age, TimeZone::UTC))
}

/// Records the change of the timetable, as the engine does before it asks what is due.
fn with_timetable_recorded(mut key: KeyState, policy: &KeyPolicy, has_others: bool) -> KeyState {
    let name = key.key.clone();
    let parse = |text: &str| Timetable::from_text(text, &name, |_| Some(TimeZone::UTC));
    let downtime = downtime_before_start();
    if let Some(change) = timetable_change(policy, &key, downtime, has_others, parse, at(NOW)) {
        key = crate::core::apply::apply(&key, &[change], at(NOW))
            .unwrap()
            .state;
        let again = timetable_change(policy, &key, downtime, has_others, |_| None, at(NOW));
        assert_eq!(again, None, "recorded once");
    }
    key
}

#[test]
fn credential_adopted_past_its_age_is_due() {
    let monthly = every_days(30);
    let first = "2026-11-24T02:00:01Z";
    let due = due_since(Trigger::Schedule, first, Some(first));
    for days in [30, 31, 59, 60, 61, 400, 4_000] {
        let key = adopted("k", days);
        // A command shows the key as due even before the daemon has recorded a run.
        let start = downtime_before_start();
        assert_eq!(due_for_policy(&monthly, &key, start), due, "{days}");
        let key = with_timetable_recorded(key, &monthly, false);
        assert_eq!(due_for_policy(&monthly, &key, start), due, "{days}");
    }
    for (days, next) in [(0, "2026-12-24T02:00:00Z"), (29, "2026-11-25T02:00:00Z")] {
        let key = with_timetable_recorded(adopted("k", days), &monthly, true);
        let found = due_for_policy(&monthly, &key, downtime_before_start());
        assert_eq!(found, not_due_until(next), "{days}");
    }
}

#[test]
fn many_credentials_past_their_age_are_spread_over_one_interval() {
    let monthly = every_days(30);
    let (first, last) = (at("2026-11-24T02:00:01Z"), at("2026-12-24T02:00:01Z"));
    let runs: Vec<_> = (0..40)
        .map(|number| {
            let key = adopted(&format!("key-{number}"), 400);
            let key = with_timetable_recorded(key, &monthly, true);
            let run = key.pending_run.unwrap();
            assert!(run >= first && run < last, "{run}");
            if run > at(NOW) {
                let found = due_for_policy(&monthly, &key, downtime_before_start());
                assert_eq!(found, not_due_until(&run.to_string()));
                let origin = super::age_origin(&monthly, &key, at(NOW));
                let shown = monthly.timetable.firings_from(origin).next_after(at(NOW));
                assert_eq!(shown, Some(run));
            }
            run
        })
        .collect();
    // Each third of the interval has some, and none has most of them.
    for third in 0..3 {
        let start = first + jiff::SignedDuration::from_hours(240 * third);
        let end = start + jiff::SignedDuration::from_hours(240);
        let count = runs
            .iter()
            .filter(|run| **run >= start && **run < end)
            .count();
        assert!((5..=25).contains(&count), "{third}: {count}");
    }
}

#[test]
fn shorter_age_applies_to_older_credentials() {
    let weekly = every_days(7);
    let rotated = |days: i64| {
        let mut key = adopted("k", days);
        key.live[0].trigger = Trigger::Schedule;
        key.live[0].started_at = key.live[0].credential.as_ref().unwrap().created_at.unwrap();
        key
    };
    // Between the new age and the former one: due, alone at once, and else spread.
    let key = with_timetable_recorded(rotated(20), &weekly, false);
    assert_eq!(key.pending_run, Some(at(NOW)));
    let spread = with_timetable_recorded(rotated(20), &weekly, true);
    let run = spread.pending_run.unwrap();
    assert!(run > at(NOW) && run < at("2026-12-01T03:10:00Z"), "{run}");
    // Younger than the new age.
    let key = with_timetable_recorded(rotated(3), &weekly, true);
    assert_eq!(key.pending_run, None);
    // A run that is to come ends with its timetable.
    let daily = policy("@daily");
    let key = with_timetable_recorded(spread, &daily, true);
    assert_eq!(key.pending_run, None);
}

#[test]
fn skipped_run_of_credential_past_its_age_is_not_due_again() {
    let monthly = every_days(30);
    let mut key = with_timetable_recorded(adopted("k", 400), &monthly, false);
    let skipped = Change::from(crate::core::change::MissedRun {
        firing: at("2026-11-24T02:00:01Z"),
        reason: DowntimeReason::Suspended,
        is_skipped: true,
    });
    key = crate::core::apply::apply(&key, &[skipped], at(NOW))
        .unwrap()
        .state;
    // The next multiple of its age.
    let found = due_for_policy(&monthly, &key, downtime_before_start());
    assert_eq!(found, not_due_until("2026-12-14T02:00:00Z"));
}

#[test]
fn run_that_was_due_while_a_process_ran_is_never_missed() {
    let policy = KeyPolicy {
        catch_up_window: Some(Duration::from_secs(60)),
        ..policy("0 */3 * * *")
    };
    let downtime = Downtime::before_start(at("2026-11-24T03:09:00Z"));
    let mut key = state((5, Phase::Current), vec![current("2026-11-23T20:00:00Z")]);
    let firing = at("2026-11-24T03:00:00Z");
    let due = |key: &KeyState| check_due(&policy, &[sink("a")], key, downtime, at(NOW));
    let skipped = Due::MissedRunSkipped {
        firing,
        reason: DowntimeReason::NotRunning,
    };
    assert_eq!(due(&key), skipped);
    // It, and one before a later run that was missed.
    for run in ["2026-11-24T03:00:00Z", "2026-11-24T00:00:00Z"] {
        key.due_run = Some(at(run));
        assert_eq!(due(&key), due_since(Trigger::Schedule, run, Some(run)));
        // A changed schedule does not settle it.
        let mut changed = key.clone();
        changed.counts_from = Some(at("2026-11-24T03:05:00Z"));
        assert_eq!(due(&changed), due_since(Trigger::Schedule, run, Some(run)));
    }
}
