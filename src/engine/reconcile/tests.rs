//! What changes when other sinks are configured.

use std::time::Duration;

use super::*;
use crate::core::change::Moved;
use crate::core::names::SinkId;
use crate::core::rotation::Event;
use crate::engine::Course;
use crate::engine::tests::fake::{Fakes, at, key, sink_id, sink_named};
use crate::engine::tests::rows::{
    accepted as accepted_rows, begun, created, current, moved, rotation,
};

/// A key's state after these changes.
async fn state(changes: Vec<Change>) -> KeyState {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), changes)]).await;
    let mut engine = fakes.open(Vec::new(), Course::Daemon).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    engine.state(&key()).unwrap().clone()
}

fn required(state: &mut KeyState, required: bool) {
    state.live[0].deliveries[0].required = required;
    state.live[0].deliveries[0].state = DeliveryState::Accepted;
}

#[tokio::test]
async fn what_is_configured_as_it_was_changes_nothing() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed(key(), |_| {});
    let mut state = state(current(1)).await;
    required(&mut state, true);
    assert_eq!(sinks(&state, Some(&managed), None, at()), []);
}

#[tokio::test]
async fn whether_a_sink_is_required_counts_from_now_on() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed(key(), |_| {});
    let mut state = state(current(1)).await;
    required(&mut state, false);
    let expected = Change::SinkRequired {
        rotation: rotation(1),
        sink: sink_id(),
        required: true,
    };
    assert_eq!(sinks(&state, Some(&managed), None, at()), [expected]);
}

#[tokio::test]
async fn a_sink_that_is_gone_holds_what_it_held_from_now_on() {
    // What was found open is stranded, and may be anywhere.
    for changes in [begun(1), current(1), created(1)] {
        // Opened without any key, it is gone as soon as the time is known.
        let state = state(changes).await;
        let delivery = &state.live[0].deliveries[0];
        assert_eq!(delivery.state, DeliveryState::Removed);
        assert_eq!(delivery.removed_at, Some(at()));
        // And once only.
        assert_eq!(sinks(&state, None, None, at()), []);
    }
    // What was never begun, in the process that knows, is held by nobody.
    let mut state = state(current(1)).await;
    let delivery = &mut state.live[0].deliveries[0];
    (delivery.state, delivery.removed_at) = (DeliveryState::Pending, None);
    let expected = Change::SinkRemoved {
        rotation: rotation(1),
        sink: sink_id(),
        held_since: None,
    };
    assert_eq!(sinks(&state, None, None, at()), [expected]);
}

/// Its consumers have gone on with what they had, and it may be long until it
/// takes something newer.
#[tokio::test]
async fn a_sink_that_comes_back_holds_what_it_held_until_it_has_a_newer_one() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.ledger(vec![(key(), current(1))]).await;
    let mut without = fakes.open(Vec::new(), Course::Daemon).await;
    fakes.run(&mut without, Duration::ZERO).await;
    drop(without);
    let managed = fakes.managed(key(), |_| {});
    fakes.away(&[&sink_id().name]);
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, Duration::from_secs(3_600)).await;
    let state = engine.state(&key()).unwrap();
    let delivery = &state.live[0].deliveries[0];
    assert_eq!(delivery.state, DeliveryState::Uncertain);
    assert_eq!(delivery.removed_at, None);
    let overlaps = Overlaps::of(Duration::from_secs(1));
    assert_eq!(
        held_by(delivery, &state.live[0], state, overlaps),
        Held::Open
    );
    assert_eq!(fakes.told("sink-returned").len(), 1, "once only");
}

#[tokio::test]
async fn an_optional_sink_that_comes_back_holds_nothing() {
    let fakes = Fakes::new(&[]);
    let mut state = state(current(1)).await;
    assert_eq!(
        state.live[0].deliveries[0].state,
        DeliveryState::Removed,
        "it was opened without any key"
    );
    for (was, is) in [(false, true), (true, false)] {
        state.live[0].deliveries[0].required = was;
        let mut managed = fakes.managed(key(), |_| {});
        managed.sinks[0].1 = is;
        assert_eq!(sinks(&state, Some(&managed), None, at()), []);
    }
}

#[tokio::test]
async fn a_sink_with_another_target_is_another_sink() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed(key(), |_| {});
    let mut state = state(current(1)).await;
    required(&mut state, true);
    let moved = SinkId {
        target: "file:/y".to_owned(),
        ..sink_id()
    };
    state.live[0].deliveries[0].sink = moved.clone();
    let expected = Change::SinkRemoved {
        rotation: rotation(1),
        sink: moved,
        held_since: Some(at()),
    };
    assert_eq!(sinks(&state, Some(&managed), None, at()), [expected]);
}

#[tokio::test]
async fn a_new_sink_takes_part_in_what_is_open_in_this_process_alone() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.key_with("@daily", &[("new", false)]);
    let mut state = state(begun(1)).await;
    let memory = Memory::new(rotation(1));
    let added = Change::SinkAdded {
        rotation: rotation(1),
        sink: sink_named("new"),
        required: false,
    };
    for (phase, memory, adds) in [
        (Phase::Verified, Some(&memory), true),
        (Phase::Verified, None, false),
        (Phase::Current, Some(&memory), false),
    ] {
        state.live[0].phase = phase;
        let changes = sinks(&state, Some(&managed), memory, at());
        assert_eq!(changes.contains(&added), adds, "{phase}");
    }
}

#[tokio::test]
async fn what_is_retired_goes_as_planned_only_where_its_key_is_gone() {
    let accepted = |state: &mut KeyState| {
        for rotation in &mut state.live {
            let delivery = &mut rotation.deliveries[0];
            (delivery.state, delivery.removed_at) = (DeliveryState::Accepted, None);
        }
    };
    let mut changes = current(1);
    changes.extend(accepted_rows(2));
    changes.push(Change::Moved(Moved {
        revoke_after: Some(at() + Duration::from_secs(86_400)),
        ..Moved::new(&rotation(1), Event::Superseded)
    }));
    changes.push(moved(2, Event::Delivered));
    let mut state = state(changes).await;
    accepted(&mut state);
    let removed = |managed: Option<&ManagedKey>| {
        let changes = sinks(&state, managed, None, at()).into_iter();
        let removed = changes.filter_map(|change| {
            let Change::SinkRemoved { rotation, .. } = change else {
                return None;
            };
            Some(rotation)
        });
        removed.collect::<Vec<_>>()
    };
    assert_eq!(removed(None), [rotation(2)]);
    let fakes = Fakes::new(&[]);
    let elsewhere = fakes.key_with("@daily", &[("new", true)]);
    assert_eq!(removed(Some(&elsewhere)), [rotation(1), rotation(2)]);
}
