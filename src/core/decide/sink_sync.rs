//! What the ledger records when the configured sinks are not those of a key's
//! live rotations.

use jiff::Timestamp;

use crate::core::change::{AddedSink, Change, RemovedSink, ReturnedSink, SinkRequirement};
use crate::core::ids::SinkId;
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::Phase;
use crate::core::policy::{SinkHold, SinkOverlaps, UNMANAGED_OVERLAP, delivery_hold};
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;

/// Returns what changes for the deliveries of a key's live rotations. `sinks`
/// are the configured ones, and whether each is required; none for a key that
/// is not configured any more.
///
/// A sink that is not configured any more holds what it held for one more
/// overlap from `now`, and until it accepts a newer credential if it comes back.
/// A sink that became required or optional counts so from now on. A new sink
/// takes part in the rotation that this process has open.
#[must_use]
pub fn sink_changes(
    state: &KeyState,
    sinks: Option<&[(SinkId, bool)]>,
    memory: Option<&InFlight>,
    now: Timestamp,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for rotation in &state.live {
        let ours = memory.is_some_and(|memory| memory.rotation == rotation.id);
        // What was found open or stranded may have reached its sinks unrecorded.
        let lost = rotation.stranded_at.is_some() || (rotation.phase.is_open() && !ours);
        for delivery in &rotation.deliveries {
            changes.extend(existing_sink_change(
                state, rotation, delivery, lost, sinks, now,
            ));
        }
        if rotation.phase.is_open() && ours {
            changes.extend(new_sink_changes(rotation, sinks));
        }
    }
    changes
}

fn existing_sink_change(
    state: &KeyState,
    rotation: &Rotation,
    delivery: &Delivery,
    lost: bool,
    sinks: Option<&[(SinkId, bool)]>,
    now: Timestamp,
) -> Option<Change> {
    let mut configured = sinks.unwrap_or_default().iter();
    let configured = configured.find(|(sink, _)| *sink == delivery.sink);
    let held = match delivery.state {
        DeliveryState::Removed => {
            // Its consumers still use what it held. An open rotation goes on
            // without it: it receives the next one.
            let holds = delivery.removed_at.is_some() && !rotation.phase.is_open();
            let counts = delivery.required && configured.is_some_and(|(_, required)| *required);
            return (holds && counts).then(|| {
                Change::from(ReturnedSink {
                    rotation: rotation.id.clone(),
                    sink: delivery.sink.clone(),
                })
            });
        }
        DeliveryState::Uncertain | DeliveryState::Accepted => true,
        DeliveryState::Pending | DeliveryState::Refused => lost,
        DeliveryState::Missed => false,
    };
    match configured {
        // A retired credential keeps its revocation time where its sink has
        // accepted a newer one.
        None if sinks.is_none() && rotation.phase == Phase::Retired && {
            let until = delivery_hold(
                delivery,
                rotation,
                state,
                SinkOverlaps::uniform(UNMANAGED_OVERLAP),
            );
            matches!(until, SinkHold::Until(_))
        } =>
        {
            None
        }
        None => Some(Change::from(RemovedSink {
            rotation: rotation.id.clone(),
            sink: delivery.sink.clone(),
            removed_at: held.then_some(time::next_whole_second(now)),
        })),
        Some((_, required)) if *required != delivery.required => {
            Some(Change::from(SinkRequirement {
                rotation: rotation.id.clone(),
                sink: delivery.sink.clone(),
                required: *required,
            }))
        }
        Some(_) => None,
    }
}

fn new_sink_changes(rotation: &Rotation, sinks: Option<&[(SinkId, bool)]>) -> Vec<Change> {
    // A sink that was removed and came back takes part in the next rotation.
    let known = |sink: &SinkId| {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.any(|delivery| delivery.sink == *sink)
    };
    sinks
        .unwrap_or_default()
        .iter()
        .filter(|(sink, _)| !known(sink))
        .map(|(sink, required)| {
            Change::from(AddedSink {
                rotation: rotation.id.clone(),
                sink: sink.clone(),
                required: *required,
            })
        })
        .collect()
}
