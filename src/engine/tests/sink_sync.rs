//! The changes that are recorded when the configured sinks change.

use std::time::Duration;

use crate::core::change::{
    AddedSink, Change, DeliveryChange, RemovedSink, SinkRequirement, Transition,
};
use crate::core::decide::sink_sync::sink_changes;
use crate::core::ids::SinkId;
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{SinkHold, SinkOverlaps, delivery_hold};
use crate::core::state::{DeliveryState, KeyState};
use crate::engine::tests::fake::{Fakes, at, key, sink_id, sink_named};
use crate::engine::tests::rotation_changes::{
    accepted as accepted_rows, created, current, delivery_started, rotation, transitioned,
};
use crate::engine::{ManagedKey, RunMode};

/// Returns a key's state after these changes.
async fn state_after(changes: Vec<Change>) -> KeyState {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), changes)]).await;
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine.state(&key()).unwrap().clone()
}

fn accept_with_requirement(state: &mut KeyState, required: bool) {
    state.live[0].deliveries[0].required = required;
    state.live[0].deliveries[0].state = DeliveryState::Accepted;
}

#[tokio::test]
async fn an_unchanged_configuration_changes_nothing() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed_key(key(), |_| {});
    let mut state = state_after(current(1)).await;
    accept_with_requirement(&mut state, true);
    assert_eq!(
        sink_changes(&state, Some(&managed.all_sinks()), None, at()),
        []
    );
}

#[tokio::test]
async fn a_changed_requirement_is_recorded() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed_key(key(), |_| {});
    let mut state = state_after(current(1)).await;
    accept_with_requirement(&mut state, false);
    let expected = Change::from(SinkRequirement {
        rotation: rotation(1),
        sink: sink_id(),
        required: true,
    });
    assert_eq!(
        sink_changes(&state, Some(&managed.all_sinks()), None, at()),
        [expected]
    );
}

#[tokio::test]
async fn a_removed_sink_holds_its_credential_from_now_on() {
    // A rotation that was open at start is stranded, and any sink may hold it.
    for changes in [delivery_started(1), current(1), created(1)] {
        // The engine has no keys, so it records the removal once it knows the time.
        let state = state_after(changes).await;
        let delivery = &state.live[0].deliveries[0];
        assert_eq!(delivery.state, DeliveryState::Removed);
        assert_eq!(delivery.removed_at, Some(at()));
        // The removal is recorded only once.
        assert_eq!(sink_changes(&state, None, None, at()), []);
    }
    // A pending delivery of a current rotation never started, so its sink holds nothing.
    let mut state = state_after(current(1)).await;
    let delivery = &mut state.live[0].deliveries[0];
    (delivery.state, delivery.removed_at) = (DeliveryState::Pending, None);
    delivery.accepted_at = None;
    let removed_at = |state: &KeyState| {
        let expected = |removed_at| {
            vec![Change::from(RemovedSink {
                rotation: rotation(1),
                sink: sink_id(),
                removed_at,
            })]
        };
        let changes = sink_changes(state, None, None, at());
        assert!([expected(None), expected(Some(at()))].contains(&changes));
        changes == expected(Some(at()))
    };
    assert!(!removed_at(&state));
    // One that refused a later attempt may have accepted an earlier one.
    for (state_now, maybe_accepted, holds) in [
        (DeliveryState::Refused, false, false),
        (DeliveryState::Refused, true, true),
        (DeliveryState::Pending, true, true),
    ] {
        let delivery = &mut state.live[0].deliveries[0];
        (delivery.state, delivery.maybe_accepted) = (state_now, maybe_accepted);
        assert_eq!(removed_at(&state), holds, "{state_now:?} {maybe_accepted}");
    }
}

/// Its consumers kept using the credential, and it may not accept a newer one for long.
#[tokio::test]
async fn a_returned_sink_holds_its_credential_until_it_accepts_a_newer_one() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let mut without = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut without, Duration::ZERO).await;
    drop(without);
    let managed = fakes.managed_key(key(), |_| {});
    fakes.set_unavailable_sinks(&[&sink_id().name]);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::from_secs(3_600)).await;
    let state = engine.state(&key()).unwrap();
    let delivery = &state.live[0].deliveries[0];
    assert_eq!(delivery.state, DeliveryState::Uncertain);
    assert_eq!(delivery.removed_at, None);
    let overlaps = SinkOverlaps::uniform(Duration::from_secs(1));
    assert_eq!(
        delivery_hold(delivery, &state.live[0], state, overlaps),
        SinkHold::Indefinite
    );
    assert_eq!(fakes.journal_details("sink-returned").len(), 1, "once only");
}

#[tokio::test]
async fn a_returned_optional_sink_holds_nothing() {
    let fakes = Fakes::new(&[]);
    let mut state = state_after(current(1)).await;
    assert_eq!(
        state.live[0].deliveries[0].state,
        DeliveryState::Removed,
        "it was opened without any key"
    );
    for (was, is) in [(false, true), (true, false)] {
        state.live[0].deliveries[0].required = was;
        let mut managed = fakes.managed_key(key(), |_| {});
        managed.sinks[0].1 = is;
        assert_eq!(
            sink_changes(&state, Some(&managed.all_sinks()), None, at()),
            []
        );
    }
}

#[tokio::test]
async fn a_sink_with_another_target_is_another_sink() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed_key(key(), |_| {});
    let mut state = state_after(current(1)).await;
    accept_with_requirement(&mut state, true);
    let retargeted = SinkId {
        target: "file:/y".to_owned(),
        ..sink_id()
    };
    state.live[0].deliveries[0].sink = retargeted.clone();
    let expected = Change::from(RemovedSink {
        rotation: rotation(1),
        sink: retargeted,
        removed_at: Some(at()),
    });
    assert_eq!(
        sink_changes(&state, Some(&managed.all_sinks()), None, at()),
        [expected]
    );
}

#[tokio::test]
async fn a_new_sink_joins_only_rotations_opened_by_this_process() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.key_with("@daily", &[("new", false)]);
    let mut state = state_after(delivery_started(1)).await;
    let in_flight = InFlight::new(rotation(1));
    let added = Change::from(AddedSink {
        rotation: rotation(1),
        sink: sink_named("new"),
        required: false,
    });
    for (phase, in_flight, adds) in [
        (Phase::Verified, Some(&in_flight), true),
        (Phase::Verified, None, false),
        (Phase::Current, Some(&in_flight), false),
    ] {
        state.live[0].phase = phase;
        let changes = sink_changes(&state, Some(&managed.all_sinks()), in_flight, at());
        assert_eq!(changes.contains(&added), adds, "{phase}");
    }
}

/// An older ledger does not have each delivery of a rotation that an earlier process created.
#[tokio::test]
async fn a_removed_sink_may_hold_a_secret_that_was_recovered() {
    let mut state = state_after(delivery_started(1)).await;
    state.live[0].phase = Phase::Verified;
    state.live[0].stranded_at = None;
    let delivery = &mut state.live[0].deliveries[0];
    (delivery.state, delivery.removed_at) = (DeliveryState::Pending, None);
    delivery.maybe_accepted = false;
    for is_recovered in [false, true] {
        let in_flight = InFlight {
            is_recovered,
            ..InFlight::new(rotation(1))
        };
        let expected = Change::from(RemovedSink {
            rotation: rotation(1),
            sink: sink_id(),
            removed_at: is_recovered.then(at),
        });
        let changes = sink_changes(&state, None, Some(&in_flight), at());
        assert_eq!(changes, [expected]);
    }
}

#[tokio::test]
async fn retired_credentials_keep_their_revocation_time_only_if_the_key_was_removed() {
    let accepted = |state: &mut KeyState| {
        for rotation in &mut state.live {
            let delivery = &mut rotation.deliveries[0];
            (delivery.state, delivery.removed_at) = (DeliveryState::Accepted, None);
        }
    };
    let mut changes = current(1);
    changes.extend(accepted_rows(2));
    changes.push(Change::from(Transition {
        revoke_after: Some(at() + Duration::from_secs(86_400)),
        ..Transition::new(&rotation(1), LifecycleEvent::Superseded)
    }));
    changes.push(transitioned(2, LifecycleEvent::Delivered));
    let mut state = state_after(changes).await;
    accepted(&mut state);
    let removed = |managed: Option<&ManagedKey>| {
        let sinks = managed.map(ManagedKey::all_sinks);
        let changes = sink_changes(&state, sinks.as_deref(), None, at()).into_iter();
        let removed = changes.filter_map(|change| {
            let Change::Delivery(DeliveryChange::SinkRemoved(removed)) = change else {
                return None;
            };
            Some(removed.rotation)
        });
        removed.collect::<Vec<_>>()
    };
    assert_eq!(removed(None), [rotation(2)]);
    let fakes = Fakes::new(&[]);
    let elsewhere = fakes.key_with("@daily", &[("new", true)]);
    assert_eq!(removed(Some(&elsewhere)), [rotation(1), rotation(2)]);
}
