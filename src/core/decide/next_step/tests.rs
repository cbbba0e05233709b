//! Each phase, and what is done about it next.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::core::change::{DeliveryChange, RotationChange};
use crate::core::ids::{CredentialId, KeyName, Label};
use crate::core::policy::KeyPolicy;
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::core::secret::Secret;
use crate::core::state::{CredentialMetadata, DeliveryState, MissingSince, Trigger};

const NOW: &str = "2026-11-24T12:00:00Z";
const SOON: &str = "2026-11-24T12:05:00Z";
const PAST: &str = "2026-11-24T11:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy() -> KeyPolicy {
    KeyPolicy {
        overlap: Duration::from_secs(600),
        ..KeyPolicy::new(Schedule::parse("@yearly", TimeZone::UTC).unwrap())
    }
}

fn sink() -> SinkId {
    SinkId {
        name: "file".to_owned(),
        target: "file:/x".to_owned(),
    }
}

fn delivery(state: DeliveryState) -> Delivery {
    Delivery {
        written_at: None,
        sink: sink(),
        required: true,
        state,
        maybe_accepted: state != DeliveryState::Pending,
        attempts: 0,
        last_attempt_at: None,
        accepted_at: (state == DeliveryState::Accepted).then(|| at(PAST)),
        removed_at: None,
        retry_at: None,
        error: None,
    }
}

fn rotation(sequence: u64, phase: Phase, state: DeliveryState) -> Rotation {
    Rotation {
        id: RotationId::new(sequence.to_be_bytes()),
        scope: Scope::AdminKeys,
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: None,
        started_at: at(PAST),
        label: Some(Label::from_recorded(format!("k-{sequence}"))),
        credential: (phase != Phase::Intended).then(|| CredentialMetadata {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(at(PAST)),
            expires_at: None,
        }),
        phase,
        current_at: None,
        retired_at: None,
        revoke_after: (phase == Phase::Retired).then(|| at(PAST)),
        revoked_at: None,
        error: None,
        attempt: 0,
        retry_at: None,
        stranded_at: (phase == Phase::Stranded).then(|| at(PAST)),
        missing: None,
        hold_until: None,
        revoke_now: false,
        final_warning: false,
        maybe_created: true,
        deliveries: vec![delivery(state)],
    }
}

fn key(live: Vec<Rotation>) -> KeyState {
    let mut state = KeyState::unknown(KeyName::new("k").unwrap());
    state.sequence = live.last().map_or(0, |last| last.sequence);
    state.newest_phase = live.last().map(|last| last.phase);
    state.live = live;
    state
}

fn in_flight(sent: bool, secret: bool) -> InFlight {
    let mut memory = InFlight::new(RotationId::new(1_u64.to_be_bytes()));
    memory.create_sent = sent;
    memory.secret = secret.then(|| Secret::new("sk-admin-step-tests".to_owned()));
    memory
}

fn decide(live: Vec<Rotation>, memory: Option<&InFlight>) -> Step {
    next_step(&key(live), memory, Some(&policy()), Permits::ALL, at(NOW))
}

fn id() -> RotationId {
    RotationId::new(1_u64.to_be_bytes())
}

fn event_of(step: &Step) -> Option<LifecycleEvent> {
    let Step::Record(changes) = step else {
        return None;
    };
    changes.iter().find_map(|change| {
        let Change::Rotation(RotationChange::Transitioned(moved)) = change else {
            return None;
        };
        (moved.rotation == id()).then_some(moved.event)
    })
}

/// One whose file is written, and what is to run then is owed.
fn awaiting_on_change(phase: Phase, required: bool) -> Rotation {
    let mut rotation = rotation(1, phase, DeliveryState::Uncertain);
    rotation.deliveries[0].written_at = Some(at(PAST));
    rotation.deliveries[0].required = required;
    rotation.started_at = at("2026-11-24T11:30:00Z");
    rotation
}

#[test]
fn pending_on_change_needs_no_secret() {
    let after = Step::RunOnChange {
        rotation: id(),
        sink: sink(),
    };
    let held = in_flight(true, true);
    for memory in [None, Some(&held)] {
        for (phase, required) in [(Phase::Verified, true), (Phase::Current, false)] {
            assert_eq!(
                decide(vec![awaiting_on_change(phase, required)], memory),
                after
            );
        }
        let mut waits = awaiting_on_change(Phase::Verified, true);
        waits.deliveries[0].retry_at = Some(at(SOON));
        assert_eq!(decide(vec![waits], memory), Step::Wait(Some(at(SOON))));
    }
    let removed = next_step(
        &key(vec![awaiting_on_change(Phase::Verified, true)]),
        None,
        None,
        Permits::ALL,
        at(NOW),
    );
    assert_eq!(event_of(&removed), Some(LifecycleEvent::Interrupted));
}

#[test]
fn rotation_without_its_secret_is_stranded_if_another_sink_needs_it() {
    let mut open = awaiting_on_change(Phase::Verified, true);
    open.deliveries.push(delivery(DeliveryState::Pending));
    open.deliveries[1].sink.name = "other".to_owned();
    assert_eq!(
        event_of(&decide(vec![open], None)),
        Some(LifecycleEvent::Interrupted)
    );
    // Nor does one go on of which nothing is owed: the ledger may be an older one.
    let all = rotation(1, Phase::Verified, DeliveryState::Accepted);
    assert_eq!(
        event_of(&decide(vec![all], None)),
        Some(LifecycleEvent::Interrupted)
    );
    // An optional copy is waited for by nobody.
    let mut current = awaiting_on_change(Phase::Current, false);
    current.started_at = at("2026-11-24T11:30:00Z");
    current.deliveries.push(delivery(DeliveryState::Uncertain));
    current.deliveries[1].required = false;
    current.deliveries[1].sink.name = "other".to_owned();
    let missed = vec![Change::from(SkippedDelivery {
        rotation: id(),
        sink: current.deliveries[1].sink.clone(),
    })];
    assert_eq!(decide(vec![current.clone()], None), Step::Record(missed));
    current.started_at = at("2026-11-24T10:00:00Z");
    let both = decide(vec![current], None);
    assert!(matches!(both, Step::Record(changes) if changes.len() == 2));
}

#[test]
fn intended_rotation_sends_create_once_then_finds_label() {
    let open = rotation(1, Phase::Intended, DeliveryState::Pending);
    let find = |after_restart| Step::FindLabel {
        rotation: id(),
        after_restart,
    };
    let fresh = in_flight(false, false);
    assert_eq!(decide(vec![open.clone()], Some(&fresh)), Step::Create(id()));
    let sent = in_flight(true, false);
    assert_eq!(decide(vec![open.clone()], Some(&sent)), find(false));
    assert_eq!(decide(vec![open.clone()], None), find(true));
    let mut waits = open;
    waits.retry_at = Some(at(SOON));
    assert_eq!(decide(vec![waits], Some(&sent)), Step::Wait(Some(at(SOON))));
}

#[test]
fn open_rotation_without_secret_is_stranded() {
    for phase in [Phase::Created, Phase::Verified] {
        let open = rotation(1, phase, DeliveryState::Pending);
        let step = decide(vec![open], None);
        assert_eq!(
            event_of(&step),
            Some(LifecycleEvent::Interrupted),
            "{phase}"
        );
    }
}

#[test]
fn created_rotation_is_verified_twice_with_interval() {
    let open = rotation(1, Phase::Created, DeliveryState::Pending);
    let mut held = in_flight(true, true);
    assert_eq!(decide(vec![open.clone()], Some(&held)), Step::Verify(id()));
    held.first_verified_at = Some(at(NOW));
    let settled = time::after(at(NOW), policy().verify_interval);
    assert_eq!(decide(vec![open], Some(&held)), Step::Wait(Some(settled)));
}

#[test]
fn open_rotation_of_removed_key_is_abandoned() {
    for (state, event) in [
        (DeliveryState::Pending, LifecycleEvent::Abandoned),
        (
            DeliveryState::Uncertain,
            LifecycleEvent::AbandonedDuringDelivery,
        ),
    ] {
        let open = key(vec![rotation(1, Phase::Verified, state)]);
        let held = in_flight(true, true);
        let step = next_step(&open, Some(&held), None, Permits::ALL, at(NOW));
        assert_eq!(event_of(&step), Some(event));
    }
    // What was not sent never is; what was sent is looked for.
    let intended = key(vec![rotation(1, Phase::Intended, DeliveryState::Pending)]);
    let step = |sent| {
        let memory = in_flight(sent, false);
        next_step(&intended, Some(&memory), None, Permits::ALL, at(NOW))
    };
    assert_eq!(event_of(&step(false)), Some(LifecycleEvent::NotCreated));
    let Step::Record(changes) = step(false) else {
        panic!("it is not sent");
    };
    let why = changes.iter().find_map(|change| {
        let Change::Rotation(RotationChange::Transitioned(moved)) = change else {
            return None;
        };
        moved.error.as_deref()
    });
    assert_eq!(why, Some("the key was removed"));
    assert!(matches!(step(true), Step::FindLabel { .. }));
}

#[test]
fn verified_rotation_delivers_waits_and_becomes_current() {
    let held = in_flight(true, true);
    let ask = |open: Rotation| decide(vec![open], Some(&held));
    let deliver = Step::Deliver {
        rotation: id(),
        sink: sink(),
    };
    // That it starts is recorded once it has its place.
    for state in [
        DeliveryState::Pending,
        DeliveryState::Refused,
        DeliveryState::Uncertain,
    ] {
        assert_eq!(ask(rotation(1, Phase::Verified, state)), deliver);
    }
    let mut waits = rotation(1, Phase::Verified, DeliveryState::Uncertain);
    waits.deliveries[0].retry_at = Some(at(SOON));
    assert_eq!(ask(waits), Step::Wait(Some(at(SOON))));
    let accepted = ask(rotation(1, Phase::Verified, DeliveryState::Accepted));
    assert_eq!(event_of(&accepted), Some(LifecycleEvent::Delivered));
}

#[test]
fn current_rotation_skips_optional_sinks_without_secret() {
    let mut current = rotation(1, Phase::Current, DeliveryState::Refused);
    current.deliveries[0].required = false;
    let held = in_flight(true, true);
    // One hour is the default of delivery-deadline, and it began an hour ago.
    for memory in [None, Some(&held)] {
        let step = decide(vec![current.clone()], memory);
        assert!(
            matches!(&step, Step::Record(changes) if matches!(changes[..], [Change::Delivery(DeliveryChange::Skipped(_))])),
            "{step:?}"
        );
    }
    current.started_at = at(NOW);
    let step = decide(vec![current.clone()], Some(&held));
    assert!(matches!(step, Step::Deliver { .. }), "{step:?}");
    current.deliveries.clear();
    assert_eq!(decide(vec![current], None), Step::Wait(None));
}

#[test]
fn stranded_rotation_retires_once_its_sinks_accepted_a_newer_one() {
    let stranded = rotation(1, Phase::Stranded, DeliveryState::Pending);
    assert_eq!(decide(vec![stranded.clone()], None), Step::Wait(None));
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let step = decide(vec![stranded.clone(), newer.clone()], None);
    assert_eq!(event_of(&step), Some(LifecycleEvent::Replaced));
    let mut elsewhere = newer;
    elsewhere.deliveries[0].sink.target = "file:/y".to_owned();
    assert_eq!(decide(vec![stranded, elsewhere], None), Step::Wait(None));
}

#[test]
fn retired_rotation_is_revoked_when_no_sink_holds_it() {
    let retired = rotation(1, Phase::Retired, DeliveryState::Accepted);
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let ask =
        |retired: &Rotation, newer: &Rotation| decide(vec![retired.clone(), newer.clone()], None);
    assert_eq!(ask(&retired, &newer), Step::Revoke(id()));
    let mut late = newer.clone();
    late.deliveries[0].accepted_at = Some(at(NOW));
    // A longer overlap than was recorded is recorded, and then waited for.
    let over = time::after(at(NOW), policy().overlap);
    let extended = Change::from(OverlapExtension {
        rotation: id(),
        revoke_after: over,
    });
    assert_eq!(ask(&retired, &late), Step::Record(vec![extended]));
    let mut waits = retired.clone();
    waits.revoke_after = Some(over);
    assert_eq!(ask(&waits, &late), Step::Wait(Some(over)));
    // One that became shorter moves nothing.
    waits.revoke_after = Some(time::after(over, Duration::from_secs(60)));
    assert_eq!(ask(&waits, &late), Step::Wait(waits.revoke_after));
    for change in [
        |one: &mut Rotation| one.revoke_after = Some(at(SOON)),
        |one: &mut Rotation| one.retry_at = Some(at(SOON)),
        |one: &mut Rotation| one.hold_until = Some(at(SOON)),
    ] {
        let mut waits = retired.clone();
        change(&mut waits);
        assert_eq!(ask(&waits, &newer), Step::Wait(Some(at(SOON))));
    }
    assert_eq!(
        decide(vec![retired.clone()], None),
        Step::Wait(None),
        "the newest that works"
    );
    let mut operator = retired;
    operator.revoke_now = true;
    assert_eq!(decide(vec![operator], None), Step::Revoke(id()));
}

#[test]
fn orphan_is_revoked_at_once_unless_on_hold() {
    let mut orphaned = rotation(1, Phase::Orphaned, DeliveryState::Pending);
    assert_eq!(decide(vec![orphaned.clone()], None), Step::Revoke(id()));
    orphaned.hold_until = Some(at(SOON));
    assert_eq!(decide(vec![orphaned], None), Step::Wait(Some(at(SOON))));
}

#[test]
fn missing_credential_is_rechecked() {
    let mut current = rotation(1, Phase::Current, DeliveryState::Accepted);
    let missing = |since| Some(MissingSince { since, checks: 1 });
    current.missing = missing(at(PAST));
    assert_eq!(
        decide(vec![current.clone()], None),
        Step::RecheckMissing(id())
    );
    current.missing = missing(at(NOW));
    let next = time::after(at(NOW), MISSING_CHECK_INTERVAL);
    assert_eq!(decide(vec![current.clone()], None), Step::Wait(Some(next)));
    // Not while nobody can answer, or the time may be wrong.
    current.missing = missing(at(PAST));
    for (provider, clock) in [(false, true), (true, false), (false, false)] {
        let allowed = Permits {
            can_use_provider: provider,
            can_trust_clock: clock,
        };
        let live = vec![current.clone()];
        let step = next_step(&key(live), None, Some(&policy()), allowed, at(NOW));
        assert_eq!(step, Step::Wait(None), "{allowed:?}");
    }
}

#[test]
fn delivery_is_retried_at_its_retry_time() {
    let held = in_flight(true, true);
    for (retry_at, waits) in [(PAST, false), (NOW, false), (SOON, true)] {
        let mut open = rotation(1, Phase::Verified, DeliveryState::Uncertain);
        open.deliveries[0].retry_at = Some(at(retry_at));
        let step = decide(vec![open], Some(&held));
        let expected = if waits {
            Step::Wait(Some(at(retry_at)))
        } else {
            Step::Deliver {
                rotation: id(),
                sink: sink(),
            }
        };
        assert_eq!(step, expected, "{retry_at}");
    }
}

#[test]
fn permits_block_steps_that_need_provider_or_clock() {
    let ask = |live: Vec<Rotation>, memory: Option<&InFlight>, provider, clock| {
        let allowed = Permits {
            can_use_provider: provider,
            can_trust_clock: clock,
        };
        next_step(&key(live), memory, Some(&policy()), allowed, at(NOW))
    };
    let held = in_flight(true, true);
    let created = rotation(1, Phase::Created, DeliveryState::Pending);
    assert_eq!(
        ask(vec![created], Some(&held), false, true),
        Step::Wait(None)
    );
    let open = rotation(1, Phase::Verified, DeliveryState::Uncertain);
    let delivers = ask(vec![open], Some(&held), false, false);
    assert!(matches!(delivers, Step::Deliver { .. }), "{delivers:?}");
    let retired = rotation(1, Phase::Retired, DeliveryState::Accepted);
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let both = vec![retired, newer];
    assert_eq!(ask(both.clone(), None, true, false), Step::Wait(None));
    assert_eq!(ask(both, None, false, true), Step::Wait(None));
    let orphaned = vec![rotation(1, Phase::Orphaned, DeliveryState::Pending)];
    assert_eq!(ask(orphaned.clone(), None, true, false), Step::Revoke(id()));
    assert_eq!(ask(orphaned, None, false, true), Step::Wait(None));
}

#[test]
fn delivered_orphan_is_revoked_after_its_sinks_accepted_a_newer_one() {
    let orphan = rotation(1, Phase::Orphaned, DeliveryState::Accepted);
    assert_eq!(decide(vec![orphan.clone()], None), Step::Wait(None));
    // Taken an hour ago, with an overlap of ten minutes.
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let revoke = Step::Revoke(id());
    assert_eq!(decide(vec![orphan.clone(), newer.clone()], None), revoke);
    let mut lately = newer.clone();
    lately.deliveries[0].accepted_at = Some(at(NOW));
    let until = time::after(at(NOW), policy().overlap);
    assert_eq!(
        decide(vec![orphan.clone(), lately.clone()], None),
        Step::Wait(Some(until))
    );
    // A time counts here, so the clock has to be believed.
    let doubted = Permits {
        can_trust_clock: false,
        ..Permits::ALL
    };
    let live = vec![orphan.clone(), newer];
    let step = next_step(&key(live), None, Some(&policy()), doubted, at(NOW));
    assert_ne!(step, revoke);
    // A person's word.
    let mut wanted = orphan;
    wanted.revoke_now = true;
    assert_eq!(decide(vec![wanted, lately], None), revoke);
}
