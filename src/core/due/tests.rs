//! One table: what stands in the ledger, and what follows.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Absence, Due, due, expiring, retimed};
use crate::core::change::{Change, Why};
use crate::core::names::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::policy::{First, KeyPolicy};
use crate::core::record::{
    CredentialFacts, Delivery, DeliveryState, KeyState, Pause, Rotation, Trigger,
};
use crate::core::rotation::Phase;
use crate::core::schedule::Schedule;
use crate::core::timetable::Timetable;

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
        written_at: None,
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
    due(&policy(schedule), &sinks, state, absence(), at(NOW))
}

fn since(trigger: Trigger, from: &str, scheduled_for: Option<&str>) -> Due {
    Due::Since {
        at: at(from),
        scheduled_for: scheduled_for.map(at),
        trigger,
        missed: (trigger == Trigger::CatchUp).then_some(Why::Down),
    }
}

/// Nobody was there before.
fn absence() -> Absence {
    Absence::before_start(at(WATCHING))
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
    // A time to come is none to begin at.
    let ahead = Absence::before_start(at("2026-11-24T09:00:00Z"));
    let found = asked(&policy("@daily"), &unknown, ahead);
    assert_eq!(found, since(Trigger::First, NOW, None));
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
    let asked = |now| due(&policy, &[], &state, absence(), at(now));
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

fn healthy(started: &str) -> KeyState {
    state((5, Phase::Current), vec![current(started)])
}

fn with(adapt: impl FnOnce(&mut KeyPolicy)) -> KeyPolicy {
    let mut policy = policy("@hourly");
    adapt(&mut policy);
    policy
}

fn asked(policy: &KeyPolicy, state: &KeyState, absence: Absence) -> Due {
    due(policy, &[sink("a")], state, absence, at(NOW))
}

#[test]
fn a_window_drops_what_nobody_was_there_for_and_keeps_the_rest() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let down = |from: &str, to: &str| Absence {
        from: at(from),
        to: at(to),
        why: Why::Asleep,
    };
    let three = Some("2026-11-24T03:00:00Z");
    let catch_up = |why| Due::Since {
        at: at("2026-11-24T03:00:00Z"),
        scheduled_for: three.map(at),
        trigger: Trigger::CatchUp,
        missed: Some(why),
    };
    let dropped = Due::Dropped {
        firing: at("2026-11-24T03:00:00Z"),
        why: Why::Asleep,
    };
    let in_time = since(Trigger::Schedule, "2026-11-24T03:00:00Z", three);
    let started = "2026-11-24T00:30:00Z";
    for (window, absence, expected) in [
        // Back nine minutes after the firing.
        (
            None,
            ("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z"),
            catch_up(Why::Asleep),
        ),
        (
            Some(9),
            ("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z"),
            catch_up(Why::Asleep),
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
        let policy = with(|policy| policy.window = window.map(minutes));
        let found = asked(&policy, &healthy(started), down(absence.0, absence.1));
        assert_eq!(found, expected, "{window:?} {absence:?}");
    }
    // Once that is recorded, the next firing is waited for.
    let mut settled = healthy(started);
    settled.counts_from = Some(at("2026-11-24T03:00:00Z"));
    let policy = with(|policy| policy.window = Some(Duration::ZERO));
    let absence = down("2026-11-24T02:30:00Z", "2026-11-24T03:09:00Z");
    assert_eq!(
        asked(&policy, &settled, absence),
        no("2026-11-24T04:00:00Z")
    );
    // A moment that a wrong clock wrote settles nothing.
    settled.counts_from = Some(at("2031-01-01T00:00:00Z"));
    assert_eq!(asked(&policy, &settled, absence), dropped);
}

#[test]
fn nothing_is_begun_by_schedule_while_a_key_is_paused() {
    let pause = |from: &str, until: Option<&str>| {
        Some(Pause {
            from: at(from),
            until: until.map(at),
        })
    };
    let never = Due::No { next: None };
    let mut key = healthy("2026-11-24T02:30:00Z");
    key.pause = pause("2026-11-24T02:45:00Z", None);
    assert_eq!(asked(&policy("@hourly"), &key, absence()), never);
    key.pause = pause("2026-11-24T02:45:00Z", Some("2026-11-24T03:30:00Z"));
    let until = no("2026-11-24T03:30:00Z");
    assert_eq!(asked(&policy("@hourly"), &key, absence()), until);
    // Over: what fired meanwhile is made up for, or dropped by the window.
    key.pause = pause("2026-11-24T03:00:00Z", Some("2026-11-24T03:08:00Z"));
    let made_up = Due::Since {
        at: at("2026-11-24T03:00:00Z"),
        scheduled_for: Some(at("2026-11-24T03:00:00Z")),
        trigger: Trigger::CatchUp,
        missed: Some(Why::Paused),
    };
    assert_eq!(asked(&policy("@hourly"), &key, absence()), made_up);
    let window = with(|policy| policy.window = Some(Duration::from_secs(400)));
    let dropped = Due::Dropped {
        firing: at("2026-11-24T03:00:00Z"),
        why: Why::Paused,
    };
    assert_eq!(asked(&window, &key, absence()), dropped);
    // What fired before the pause was not missed by it.
    key.pause = pause("2026-11-24T03:00:01Z", Some("2026-11-24T03:08:00Z"));
    let in_time = since(
        Trigger::Schedule,
        "2026-11-24T03:00:00Z",
        Some("2026-11-24T03:00:00Z"),
    );
    assert_eq!(asked(&window, &key, absence()), in_time);
}

#[test]
fn a_pause_leaves_nobody_with_a_dead_key() {
    let paused = Some(Pause {
        from: at("2026-11-24T02:00:00Z"),
        until: None,
    });
    // Gone at the provider, or revoked by hand.
    let repair = since(Trigger::Repair, WATCHING, None);
    for newest in [Phase::Revoked, Phase::Failed, Phase::Orphaned] {
        let mut bereft = state((5, newest), vec![]);
        (bereft.is_bereft, bereft.pause) = (true, paused);
        assert_eq!(asked(&policy("@hourly"), &bereft, absence()), repair);
    }
    // Never rotated, failed, or stranded: somebody works with what is alive.
    for (newest, live) in [
        ((0, None), vec![]),
        ((1, Some(Phase::Failed)), vec![]),
        (
            (1, Some(Phase::Stranded)),
            vec![rotation(1, Phase::Stranded, NOW, &TAKEN)],
        ),
    ] {
        let mut key = KeyState::unknown(KeyName::new("k").unwrap());
        (key.sequence, key.newest) = newest;
        (key.live, key.pause) = (live, paused);
        let found = asked(&policy("@hourly"), &key, absence());
        assert_eq!(found, Due::No { next: None }, "{newest:?}");
    }
    // Near its end.
    let mut ending = healthy("2026-11-24T02:00:00Z");
    ending.live[0].credential = Some(facts("2026-11-24T02:00:00Z", "2026-11-24T03:20:00Z"));
    ending.pause = paused;
    assert_eq!(asked(&policy("@yearly"), &ending, absence()), repair);
    // Not near yet: it is due when it will be.
    ending.live[0].credential = Some(facts("2026-11-24T02:00:00Z", "2026-11-24T06:00:00Z"));
    let quarter = no("2026-11-24T05:00:00Z");
    assert_eq!(asked(&policy("@yearly"), &ending, absence()), quarter);
}

fn facts(created: &str, expires: &str) -> CredentialFacts {
    CredentialFacts {
        id: CredentialId::new("key_1".to_owned()),
        redacted_value: None,
        created_at: Some(at(created)),
        expires_at: Some(at(expires)),
    }
}

#[test]
fn by_age_a_key_is_due_when_its_credential_is_so_old() {
    let hourly = KeyPolicy {
        overlap: Duration::from_secs(600),
        ..KeyPolicy::new(Timetable::every(Duration::from_secs(3_600), TimeZone::UTC))
    };
    // The provider's word for its age counts, and not when its row was made.
    let mut key = healthy("2026-11-24T02:20:00Z");
    let next = no("2026-11-24T03:20:00Z");
    assert_eq!(asked(&hourly, &key, absence()), next);
    assert_eq!(super::origin_of(&key, at(NOW)), at(NOW));
    key.live[0].credential = Some(facts("2026-11-24T02:05:00Z", "2030-01-01T00:00:00Z"));
    assert_eq!(super::origin_of(&key, at(NOW)), at("2026-11-24T02:05:00Z"));
    let five_past = Some("2026-11-24T03:05:00Z");
    let fired = since(Trigger::Schedule, "2026-11-24T03:05:00Z", five_past);
    assert_eq!(asked(&hourly, &key, absence()), fired);
    // A birth in a future that cannot be is not believed.
    key.live[0].credential = Some(facts("2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z"));
    assert_eq!(asked(&hourly, &key, absence()), next);
}

#[test]
fn a_first_rotation_waits_for_its_firing_where_that_is_wanted() {
    let scheduled = with(|policy| policy.first = First::Scheduled);
    let mut unknown = KeyState::unknown(KeyName::new("k").unwrap());
    // It came now: that is recorded.
    let four = no("2026-11-24T04:00:00Z");
    assert_eq!(asked(&scheduled, &unknown, absence()), four);
    let Some(Change::Timetabled {
        timetable,
        counts_from,
        owed: None,
    }) = retimed(&scheduled, &unknown, absence(), |_| None, at(NOW))
    else {
        panic!("not recorded");
    };
    assert_eq!(timetable, "@hourly | UTC | 0s");
    assert_eq!(counts_from, Some(at(NOW)));
    (unknown.timetable, unknown.counts_from) = (Some(timetable), counts_from);
    assert_eq!(
        asked(&scheduled, &unknown, absence()),
        no("2026-11-24T04:00:00Z")
    );
    unknown.counts_from = Some(at("2026-11-24T02:59:00Z"));
    let first = since(
        Trigger::First,
        "2026-11-24T03:00:00Z",
        Some("2026-11-24T03:00:00Z"),
    );
    assert_eq!(asked(&scheduled, &unknown, absence()), first);
    // A wrong clock wrote when it came: it waits since somebody watches, and
    // not since the beginning of time.
    let daily = KeyPolicy {
        first: First::Scheduled,
        ..policy("@daily")
    };
    unknown.counts_from = Some(at("2035-01-01T00:00:00Z"));
    let tomorrow = no("2026-11-25T00:00:00Z");
    assert_eq!(asked(&daily, &unknown, absence()), tomorrow);
    // One that is due at once says so without a commit of its own.
    let unknown = KeyState::unknown(KeyName::new("k").unwrap());
    let found = retimed(&policy("@hourly"), &unknown, absence(), |_| None, at(NOW));
    assert_eq!(found, None);
}

#[test]
fn another_timetable_counts_from_now_and_what_was_due_stays_due() {
    let recorded = |text: &str, started: &str| {
        let mut key = healthy(started);
        key.timetable = Some(text.to_owned());
        key
    };
    let read = |key: &KeyState, policy: &KeyPolicy| {
        let name = key.key.clone();
        let read = |text: &str| Timetable::from_text(text, &name, |_| Some(TimeZone::UTC));
        retimed(policy, key, absence(), read, at(NOW))
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
        Some(Change::Timetabled {
            timetable: text.to_owned(),
            counts_from: Some(at(NOW)),
            owed: owed.map(at),
        })
    };
    assert_eq!(change, timetabled("0 4 * * Mon | UTC | 0s", None));
    key.counts_from = Some(at(NOW));
    assert_eq!(asked(&later, &key, absence()), no("2026-11-30T04:00:00Z"));
    // What the former one has missed is made up for.
    let mut key = recorded("0 3 * * Mon | UTC | 0s", "2026-11-16T03:00:00Z");
    let change = read(&key, &later);
    let monday = "2026-11-23T03:00:00Z";
    assert_eq!(change, timetabled("0 4 * * Mon | UTC | 0s", Some(monday)));
    (key.counts_from, key.owed) = (Some(at(NOW)), Some(at(monday)));
    let made_up = since(Trigger::CatchUp, monday, Some(monday));
    assert_eq!(asked(&later, &key, absence()), made_up);
    // A text that cannot be read any more owes nothing.
    let key = recorded("0 3 * * Mon | Gone/Zone | 0s", "2026-11-16T03:00:00Z");
    let found = retimed(&later, &key, absence(), |_| None, at(NOW));
    assert_eq!(found, timetabled("0 4 * * Mon | UTC | 0s", None));
    // A ledger from before timetables were recorded loses nothing.
    let key = healthy("2026-11-16T03:00:00Z");
    let Some(Change::Timetabled {
        counts_from: None, ..
    }) = read(&key, &later)
    else {
        panic!("not recorded");
    };
}
