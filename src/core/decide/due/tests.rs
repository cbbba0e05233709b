//! One table: what stands in the ledger, and what follows.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Downtime, Due, check_due, imminent_expiry, timetable_change};
use crate::core::change::{Change, DowntimeReason, ScheduleChange, TimetableChange};
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
        id: RotationId::from_recorded(sequence.to_string()),
        scope: Scope::AdminKeys,
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: None,
        started_at: at(started),
        label: Some(Label::from_recorded(format!("k-{sequence}"))),
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
        final_warning: false,
        maybe_created: true,
        deliveries: sinks.iter().map(delivery).collect(),
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

/// Nobody was there before.
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
fn never_rotated_key_is_due_at_once() {
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    assert_eq!(
        due_for_schedule("@daily", &["a"], &unknown),
        due_since(Trigger::First, DAEMON_START, None)
    );
    // A time to come is none to begin at.
    let ahead = Downtime::before_start(at("2026-11-24T09:00:00Z"));
    let found = due_for_policy(&policy("@daily"), &unknown, ahead);
    assert_eq!(found, due_since(Trigger::First, NOW, None));
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
        // Several that nobody saw are made up for by one.
        ("@daily", "2026-11-20T00:00:00Z", catch_up),
        // From a clock a little ahead.
        ("@hourly", "2026-11-24T03:12:00Z", at_four),
        ("@hourly", "2026-11-24T03:15:00Z", at_four),
    ] {
        let state = state((5, Phase::Current), vec![current(started)]);
        let found = due_for_schedule(expression, &["a"], &state);
        assert_eq!(found, expected, "{expression} {started}");
    }
}

#[test]
fn implausible_future_start_is_ignored() {
    let at_three = Some("2026-11-24T03:00:00Z");
    let schedule = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", at_three);
    for started in ["2026-11-24T03:15:01Z", "2028-01-01T00:00:00Z"] {
        let state = state((5, Phase::Current), vec![current(started)]);
        // Fires as if nothing had been done since somebody watches.
        assert_eq!(
            due_for_schedule("@hourly", &["a"], &state),
            schedule,
            "{started}"
        );
        // What fired before that is not made up for: no storm at each start.
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
    // A sink that the current credential never reached.
    let state_a = state((5, Phase::Current), vec![current(started)]);
    assert_eq!(due_for_schedule("@daily", &["a", "new"], &state_a), repair);
    for pending in [Pending, Uncertain] {
        let row = rotation(5, Phase::Current, started, &[("a", pending)]);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state((5, Phase::Current), vec![row])),
            repair
        );
    }
    // A stranded one that is newer than the current one.
    let newer = rotation(6, Phase::Stranded, started, &[("a", Pending)]);
    let live = vec![current(started), newer];
    assert_eq!(
        due_for_schedule("@daily", &["a"], &state((6, Phase::Stranded), live)),
        repair
    );
    // An older one that a sink of the configuration holds without end: it was
    // not asked to take the current one.
    let older = rotation(4, Phase::Stranded, started, &[("b", Uncertain)]);
    let mut adopted = rotation(5, Phase::Current, started, &[]);
    adopted.trigger = Trigger::Adopted;
    let live = vec![older, adopted.clone()];
    let held = state((5, Phase::Current), live);
    assert_eq!(due_for_schedule("@daily", &["a", "b"], &held), repair);
    assert_eq!(
        due_for_schedule("@daily", &["a"], &held),
        not_due_until("2026-11-25T00:00:00Z")
    );
    // What was made by hand was delivered by hand.
    let operator = state((5, Phase::Current), vec![adopted]);
    assert_eq!(
        due_for_schedule("@daily", &["a"], &operator),
        not_due_until("2026-11-25T00:00:00Z")
    );
    // An older one whose sink took the current one, or is out of reach.
    for holder in ["a", "gone"] {
        let older = rotation(4, Phase::Stranded, started, &[(holder, Accepted)]);
        let live = vec![older, current(started)];
        let state = state((5, Phase::Current), live);
        assert_eq!(
            due_for_schedule("@daily", &["a"], &state),
            not_due_until("2026-11-25T00:00:00Z"),
            "{holder}"
        );
    }
    // No current one at all.
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
        // One made by hand, which no firing stands behind.
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
    // A newer one that is neither the current one nor a failure.
    for phase in [Phase::Retired, Phase::Stranded] {
        let state = state((6, phase), vec![current(started)]);
        assert_eq!(
            due_for_schedule("@hourly", &["a"], &state),
            schedule,
            "{phase}"
        );
    }
    // The current one itself.
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
        for over in ["2026-11-24T03:05:00Z", NOW] {
            state.retry_at = Some(at(over));
            let asked = due_for_schedule("@hourly", &["a"], &state);
            assert!(
                matches!(asked, Due::Now { since, .. } if since == at(over)),
                "{asked:?}"
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
    // Nor does it hide the next firing of a key that is not due.
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
    let asked = |now| check_due(&policy, &[], &state, downtime_before_start(), at(now));
    let quarter = at("2026-11-24T05:00:00Z");
    assert_eq!(
        asked("2026-11-24T04:59:59Z"),
        Due::NotDue {
            next: Some(quarter)
        }
    );
    let Due::Now { trigger, .. } = asked("2026-11-24T05:00:00Z") else {
        panic!("not due");
    };
    assert_eq!(trigger, Trigger::Repair);
    // And whatever keeps its successor from being made is urgent.
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

fn due_for_policy(policy: &KeyPolicy, state: &KeyState, absence: Downtime) -> Due {
    check_due(policy, &[sink("a")], state, absence, at(NOW))
}

#[test]
fn catch_up_window_skips_only_missed_runs() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let down = |from: &str, to: &str| Downtime {
        from: at(from),
        to: at(to),
        reason: DowntimeReason::Suspended,
    };
    let three = Some("2026-11-24T03:00:00Z");
    let catch_up = |why| Due::Now {
        since: at("2026-11-24T03:00:00Z"),
        scheduled_for: three.map(at),
        trigger: Trigger::CatchUp,
        missed_reason: Some(why),
    };
    let dropped = Due::MissedRunSkipped {
        firing: at("2026-11-24T03:00:00Z"),
        reason: DowntimeReason::Suspended,
    };
    let in_time = due_since(Trigger::Schedule, "2026-11-24T03:00:00Z", three);
    let started = "2026-11-24T00:30:00Z";
    for (window, absence, expected) in [
        // Back nine minutes after the firing.
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
            dropped,
        ),
        // Somebody was there: what held it back since is no reason to drop it.
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
        let found = due_for_policy(&policy, &healthy(started), down(absence.0, absence.1));
        assert_eq!(found, expected, "{window:?} {absence:?}");
    }
    // Once that is recorded, the next firing is waited for.
    let mut settled = healthy(started);
    settled.counts_from = Some(at("2026-11-24T03:00:00Z"));
    let policy = hourly_policy_with(|policy| policy.catch_up_window = Some(Duration::ZERO));
    let absence = down("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z");
    assert_eq!(
        due_for_policy(&policy, &settled, absence),
        not_due_until("2026-11-24T04:00:00Z")
    );
    // A moment that a wrong clock wrote settles nothing.
    settled.counts_from = Some(at("2031-01-01T00:00:00Z"));
    assert_eq!(due_for_policy(&policy, &settled, absence), dropped);
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
    // Over: what fired meanwhile is made up for, or dropped by the window.
    key.pause = pause("2026-11-24T03:00:00Z", Some("2026-11-24T03:08:00Z"));
    let made_up = Due::Now {
        since: at("2026-11-24T03:00:00Z"),
        scheduled_for: Some(at("2026-11-24T03:00:00Z")),
        trigger: Trigger::CatchUp,
        missed_reason: Some(DowntimeReason::Paused),
    };
    assert_eq!(
        due_for_policy(&policy("@hourly"), &key, downtime_before_start()),
        made_up
    );
    let window =
        hourly_policy_with(|policy| policy.catch_up_window = Some(Duration::from_secs(400)));
    let dropped = Due::MissedRunSkipped {
        firing: at("2026-11-24T03:00:00Z"),
        reason: DowntimeReason::Paused,
    };
    assert_eq!(
        due_for_policy(&window, &key, downtime_before_start()),
        dropped
    );
    // What fired before the pause was not missed by it.
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

#[test]
fn pause_does_not_block_repair_of_lost_credential() {
    let paused = Some(Pause {
        from: at("2026-11-24T02:00:00Z"),
        until: None,
    });
    // Gone at the provider, or revoked by hand.
    let repair = due_since(Trigger::Repair, DAEMON_START, None);
    for newest in [Phase::Revoked, Phase::Failed, Phase::Orphaned] {
        let mut bereft = state((5, newest), vec![]);
        bereft.pause = paused;
        bereft.last_current = Some(LastCurrent {
            sequence: 4,
            is_revoked: true,
        });
        assert_eq!(
            due_for_policy(&policy("@hourly"), &bereft, downtime_before_start()),
            repair
        );
    }
    // Never rotated, failed, or stranded: somebody works with what is alive.
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
        let found = due_for_policy(&policy("@hourly"), &key, downtime_before_start());
        assert_eq!(found, Due::NotDue { next: None }, "{newest:?}");
    }
    // Near its end.
    let mut ending = healthy("2026-11-24T02:00:00Z");
    ending.live[0].credential = Some(metadata("2026-11-24T02:00:00Z", "2026-11-24T03:20:00Z"));
    ending.pause = paused;
    assert_eq!(
        due_for_policy(&policy("@yearly"), &ending, downtime_before_start()),
        repair
    );
    // Not near yet: it is due when it will be.
    ending.live[0].credential = Some(metadata("2026-11-24T02:00:00Z", "2026-11-24T06:00:00Z"));
    let quarter = not_due_until("2026-11-24T05:00:00Z");
    assert_eq!(
        due_for_policy(&policy("@yearly"), &ending, downtime_before_start()),
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
    // The provider's word for its age counts, and not when its row was made.
    let mut key = healthy("2026-11-24T02:20:00Z");
    let next = not_due_until("2026-11-24T03:20:00Z");
    assert_eq!(due_for_policy(&hourly, &key, downtime_before_start()), next);
    assert_eq!(super::age_origin(&key, at(NOW)), at(NOW));
    key.live[0].credential = Some(metadata("2026-11-24T02:05:00Z", "2030-01-01T00:00:00Z"));
    assert_eq!(super::age_origin(&key, at(NOW)), at("2026-11-24T02:05:00Z"));
    let five_past = Some("2026-11-24T03:05:00Z");
    let fired = due_since(Trigger::Schedule, "2026-11-24T03:05:00Z", five_past);
    assert_eq!(
        due_for_policy(&hourly, &key, downtime_before_start()),
        fired
    );
    // A birth in a future that cannot be is not believed.
    key.live[0].credential = Some(metadata("2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z"));
    assert_eq!(due_for_policy(&hourly, &key, downtime_before_start()), next);
}

#[test]
fn scheduled_initial_rotation_waits_for_first_firing() {
    let scheduled =
        hourly_policy_with(|policy| policy.initial_rotation = InitialRotation::Scheduled);
    let mut unknown = KeyState::unknown(KeyName::new("k").unwrap());
    // It came now: that is recorded.
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
    // A wrong clock wrote when it came: it waits since somebody watches, and
    // not since the beginning of time.
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
    // One that is due at once says so without a commit of its own.
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    let found = timetable_change(
        &policy("@hourly"),
        &unknown,
        downtime_before_start(),
        |_| None,
        at(NOW),
    );
    assert_eq!(found, None);
}

#[test]
fn changed_timetable_counts_from_now_and_keeps_pending_run() {
    let recorded = |text: &str, started: &str| {
        let mut key = healthy(started);
        key.timetable = Some(text.to_owned());
        key
    };
    let read = |key: &KeyState, policy: &KeyPolicy| {
        let name = key.key.clone();
        let read = |text: &str| Timetable::from_text(text, &name, |_| Some(TimeZone::UTC));
        timetable_change(policy, key, downtime_before_start(), read, at(NOW))
    };
    // The same: nothing to record.
    let key = recorded("@hourly | UTC | 0s", "2026-11-24T03:00:00Z");
    assert_eq!(read(&key, &policy("@hourly")), None);
    // From Mondays at three to Mondays at four, on a Tuesday: nobody wants a
    // rotation now.
    let mut key = recorded("0 3 * * Mon | UTC | 0s", "2026-11-23T03:00:00Z");
    let later = policy("0 4 * * Mon");
    let change = read(&key, &later);
    let timetabled = |text: &str, owed: Option<&str>| {
        Some(Change::from(TimetableChange {
            timetable: text.to_owned(),
            counts_from: Some(at(NOW)),
            pending_run: owed.map(at),
        }))
    };
    assert_eq!(change, timetabled("0 4 * * Mon | UTC | 0s", None));
    key.counts_from = Some(at(NOW));
    assert_eq!(
        due_for_policy(&later, &key, downtime_before_start()),
        not_due_until("2026-11-30T04:00:00Z")
    );
    // What the former one has missed is made up for.
    let mut key = recorded("0 3 * * Mon | UTC | 0s", "2026-11-16T03:00:00Z");
    let change = read(&key, &later);
    let monday = "2026-11-23T03:00:00Z";
    assert_eq!(change, timetabled("0 4 * * Mon | UTC | 0s", Some(monday)));
    (key.counts_from, key.pending_run) = (Some(at(NOW)), Some(at(monday)));
    let made_up = due_since(Trigger::CatchUp, monday, Some(monday));
    assert_eq!(
        due_for_policy(&later, &key, downtime_before_start()),
        made_up
    );
    // A text that cannot be read any more owes nothing.
    let key = recorded("0 3 * * Mon | Gone/Zone | 0s", "2026-11-16T03:00:00Z");
    let found = timetable_change(&later, &key, downtime_before_start(), |_| None, at(NOW));
    assert_eq!(found, timetabled("0 4 * * Mon | UTC | 0s", None));
    // A ledger from before timetables were recorded loses nothing.
    let key = healthy("2026-11-16T03:00:00Z");
    let Some(Change::Schedule(ScheduleChange::TimetableChanged(TimetableChange {
        counts_from: None,
        ..
    }))) = read(&key, &later)
    else {
        panic!("not recorded");
    };
}
