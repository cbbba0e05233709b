//! The next step of a key in each phase.

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
        sighting: None,
        file: None,
        file_access: None,
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
        label: Some(Label::from_recorded(format!("k-{sequence}"))),
        credential: (phase != Phase::Intended).then(|| CredentialMetadata {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(at(PAST)),
            expires_at: None,
        }),
        revoke_after: (phase == Phase::Retired).then(|| at(PAST)),
        stranded_at: (phase == Phase::Stranded).then(|| at(PAST)),
        maybe_created: true,
        deliveries: vec![delivery(state)],
        ..Rotation::new(
            RotationId::new(sequence.to_be_bytes()),
            Scope::AdminKeys,
            sequence,
            Trigger::Schedule,
            phase,
            at(PAST),
        )
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
    let mut in_flight = InFlight::new(RotationId::new(1_u64.to_be_bytes()));
    in_flight.create_sent = sent;
    in_flight.secret = secret.then(|| Secret::new("sk-admin-step-tests".to_owned()));
    in_flight
}

fn decide(live: Vec<Rotation>, in_flight: Option<&InFlight>) -> Step {
    next_step(
        &key(live),
        in_flight,
        Some(&policy()),
        Permits::ALL,
        at(NOW),
    )
}

fn id() -> RotationId {
    RotationId::new(1_u64.to_be_bytes())
}

fn event_of(step: &Step) -> Option<LifecycleEvent> {
    let Step::Record(changes) = step else {
        return None;
    };
    changes.iter().find_map(|change| {
        let Change::Rotation(RotationChange::Transitioned(transition)) = change else {
            return None;
        };
        (transition.rotation == id()).then_some(transition.event)
    })
}

/// Returns a rotation whose file is written and whose `on-change` command is pending.
fn awaiting_on_change(phase: Phase, required: bool) -> Rotation {
    let mut rotation = rotation(1, phase, DeliveryState::Uncertain);
    rotation.deliveries[0].written_at = Some(at(PAST));
    rotation.deliveries[0].required = required;
    rotation.started_at = at("2026-11-24T11:30:00Z");
    rotation
}

#[test]
fn pending_on_change_needs_no_secret() {
    let run = Step::RunOnChange {
        rotation: id(),
        sink: sink(),
    };
    let in_memory = in_flight(true, true);
    for in_flight in [None, Some(&in_memory)] {
        for (phase, required) in [(Phase::Verified, true), (Phase::Current, false)] {
            assert_eq!(
                decide(vec![awaiting_on_change(phase, required)], in_flight),
                run
            );
        }
        let mut waits = awaiting_on_change(Phase::Verified, true);
        waits.deliveries[0].retry_at = Some(at(SOON));
        assert_eq!(decide(vec![waits], in_flight), Step::Wait(Some(at(SOON))));
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
    // So is one whose sinks all accepted: the ledger may be an older backup.
    let accepted = rotation(1, Phase::Verified, DeliveryState::Accepted);
    assert_eq!(
        event_of(&decide(vec![accepted], None)),
        Some(LifecycleEvent::Interrupted)
    );
    // An optional sink does not keep a rotation without its secret waiting.
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
    let mut in_memory = in_flight(true, true);
    assert_eq!(
        decide(vec![open.clone()], Some(&in_memory)),
        Step::Verify(id())
    );
    in_memory.first_verified_at = Some(at(NOW));
    let settled = time::after(at(NOW), policy().verify_interval);
    assert_eq!(
        decide(vec![open], Some(&in_memory)),
        Step::Wait(Some(settled))
    );
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
        let in_memory = in_flight(true, true);
        let step = next_step(&open, Some(&in_memory), None, Permits::ALL, at(NOW));
        assert_eq!(event_of(&step), Some(event));
    }
    // An unsent create is cancelled; the label of a sent one is searched for.
    let intended = key(vec![rotation(1, Phase::Intended, DeliveryState::Pending)]);
    let step = |sent| {
        let in_flight = in_flight(sent, false);
        next_step(&intended, Some(&in_flight), None, Permits::ALL, at(NOW))
    };
    assert_eq!(event_of(&step(false)), Some(LifecycleEvent::NotCreated));
    let Step::Record(changes) = step(false) else {
        panic!("it is not sent");
    };
    let error = changes.iter().find_map(|change| {
        let Change::Rotation(RotationChange::Transitioned(transition)) = change else {
            return None;
        };
        transition.error.as_deref()
    });
    assert_eq!(error, Some("the key was removed"));
    assert!(matches!(step(true), Step::FindLabel { .. }));
}

#[test]
fn verified_rotation_delivers_waits_and_becomes_current() {
    let in_memory = in_flight(true, true);
    let decide_for = |open: Rotation| decide(vec![open], Some(&in_memory));
    let deliver = Step::Deliver {
        rotation: id(),
        sink: sink(),
    };
    // The start of a delivery is recorded once it has its place.
    for state in [
        DeliveryState::Pending,
        DeliveryState::Refused,
        DeliveryState::Uncertain,
    ] {
        assert_eq!(decide_for(rotation(1, Phase::Verified, state)), deliver);
    }
    let mut waits = rotation(1, Phase::Verified, DeliveryState::Uncertain);
    waits.deliveries[0].retry_at = Some(at(SOON));
    assert_eq!(decide_for(waits), Step::Wait(Some(at(SOON))));
    let accepted = decide_for(rotation(1, Phase::Verified, DeliveryState::Accepted));
    assert_eq!(event_of(&accepted), Some(LifecycleEvent::Delivered));
}

#[test]
fn current_rotation_skips_optional_sinks_without_secret() {
    let mut current = rotation(1, Phase::Current, DeliveryState::Refused);
    current.deliveries[0].required = false;
    let in_memory = in_flight(true, true);
    // The rotation started an hour ago, which is the default of `delivery-deadline`.
    for in_flight in [None, Some(&in_memory)] {
        let step = decide(vec![current.clone()], in_flight);
        assert!(
            matches!(&step, Step::Record(changes) if matches!(changes[..], [Change::Delivery(DeliveryChange::Skipped(_))])),
            "{step:?}"
        );
    }
    current.started_at = at(NOW);
    let step = decide(vec![current.clone()], Some(&in_memory));
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
    let decide_for =
        |retired: &Rotation, newer: &Rotation| decide(vec![retired.clone(), newer.clone()], None);
    assert_eq!(decide_for(&retired, &newer), Step::Revoke(id()));
    let mut late = newer.clone();
    late.deliveries[0].accepted_at = Some(at(NOW));
    // A longer overlap is recorded, and then delays the revocation.
    let over = time::after(at(NOW), policy().overlap);
    let extended = Change::from(OverlapExtension {
        rotation: id(),
        revoke_after: over,
    });
    assert_eq!(decide_for(&retired, &late), Step::Record(vec![extended]));
    let mut waits = retired.clone();
    waits.revoke_after = Some(over);
    assert_eq!(decide_for(&waits, &late), Step::Wait(Some(over)));
    // A shorter overlap changes nothing.
    waits.revoke_after = Some(time::after(over, Duration::from_secs(60)));
    assert_eq!(decide_for(&waits, &late), Step::Wait(waits.revoke_after));
    for change in [
        |rotation: &mut Rotation| rotation.revoke_after = Some(at(SOON)),
        |rotation: &mut Rotation| rotation.retry_at = Some(at(SOON)),
        |rotation: &mut Rotation| rotation.hold_until = Some(at(SOON)),
    ] {
        let mut waits = retired.clone();
        change(&mut waits);
        assert_eq!(decide_for(&waits, &newer), Step::Wait(Some(at(SOON))));
    }
    assert_eq!(
        decide(vec![retired.clone()], None),
        Step::Wait(None),
        "the newest that works"
    );
    let mut immediate = retired;
    immediate.revoke_now = true;
    assert_eq!(decide(vec![immediate], None), Step::Revoke(id()));
}

#[test]
fn orphan_is_revoked_immediately_unless_on_hold() {
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
    // No check while the provider or the clock is unusable.
    current.missing = missing(at(PAST));
    for (provider, clock) in [(false, true), (true, false), (false, false)] {
        let permits = Permits {
            can_use_provider: provider,
            can_trust_clock: clock,
            ..Permits::ALL
        };
        let live = vec![current.clone()];
        let step = next_step(&key(live), None, Some(&policy()), permits, at(NOW));
        assert_eq!(step, Step::Wait(None), "{permits:?}");
    }
}

#[test]
fn delivery_is_retried_at_its_retry_time() {
    let in_memory = in_flight(true, true);
    for (retry_at, waits) in [(PAST, false), (NOW, false), (SOON, true)] {
        let mut open = rotation(1, Phase::Verified, DeliveryState::Uncertain);
        open.deliveries[0].retry_at = Some(at(retry_at));
        let step = decide(vec![open], Some(&in_memory));
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
    let decide_for = |live: Vec<Rotation>, in_flight: Option<&InFlight>, provider, clock| {
        let permits = Permits {
            can_use_provider: provider,
            can_trust_clock: clock,
            ..Permits::ALL
        };
        next_step(&key(live), in_flight, Some(&policy()), permits, at(NOW))
    };
    let in_memory = in_flight(true, true);
    let created = rotation(1, Phase::Created, DeliveryState::Pending);
    assert_eq!(
        decide_for(vec![created], Some(&in_memory), false, true),
        Step::Wait(None)
    );
    let open = rotation(1, Phase::Verified, DeliveryState::Uncertain);
    let delivers = decide_for(vec![open], Some(&in_memory), false, false);
    assert!(matches!(delivers, Step::Deliver { .. }), "{delivers:?}");
    let retired = rotation(1, Phase::Retired, DeliveryState::Accepted);
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let both = vec![retired, newer];
    assert_eq!(
        decide_for(both.clone(), None, true, false),
        Step::Wait(None)
    );
    assert_eq!(decide_for(both, None, false, true), Step::Wait(None));
    let orphaned = vec![rotation(1, Phase::Orphaned, DeliveryState::Pending)];
    assert_eq!(
        decide_for(orphaned.clone(), None, true, false),
        Step::Revoke(id())
    );
    assert_eq!(decide_for(orphaned, None, false, true), Step::Wait(None));
}

#[test]
fn delivered_orphan_is_revoked_after_its_sinks_accepted_a_newer_one() {
    let orphan = rotation(1, Phase::Orphaned, DeliveryState::Accepted);
    assert_eq!(decide(vec![orphan.clone()], None), Step::Wait(None));
    // The sink accepted it an hour ago, and the overlap is ten minutes.
    let newer = rotation(2, Phase::Current, DeliveryState::Accepted);
    let revoke = Step::Revoke(id());
    assert_eq!(decide(vec![orphan.clone(), newer.clone()], None), revoke);
    let mut recent = newer.clone();
    recent.deliveries[0].accepted_at = Some(at(NOW));
    let until = time::after(at(NOW), policy().overlap);
    assert_eq!(
        decide(vec![orphan.clone(), recent.clone()], None),
        Step::Wait(Some(until))
    );
    // The decision depends on a time, so the clock must be trusted.
    let permits = Permits {
        can_trust_clock: false,
        ..Permits::ALL
    };
    let live = vec![orphan.clone(), newer];
    let step = next_step(&key(live), None, Some(&policy()), permits, at(NOW));
    assert_ne!(step, revoke);
    // An operator's request does not wait for the sinks.
    let mut immediate = orphan;
    immediate.revoke_now = true;
    assert_eq!(decide(vec![immediate, recent], None), revoke);
}
