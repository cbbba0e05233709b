//! The changes by which the deliveries of a key's live rotations follow the
//! configured sinks.

use jiff::Timestamp;

use crate::core::change::{AddedSink, Change, RemovedSink, ReturnedSink, SinkRequirement};
use crate::core::ids::SinkId;
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::Phase;
use crate::core::policy::{SinkHold, SinkOverlaps, UNMANAGED_OVERLAP, delivery_hold};
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;

/// Returns the changes to the deliveries of a key's live rotations. `sinks` are the
/// configured ones, and whether each is required; none for a key that is not
/// configured any more.
///
/// A removed sink holds its secret for one more overlap from `now`; if it comes
/// back, until it accepts a newer credential. A sink that became required or
/// optional counts as such from now on. A new sink joins the rotation that this
/// process has open.
#[must_use]
pub fn sink_changes(
    state: &KeyState,
    sinks: Option<&[(SinkId, bool)]>,
    in_flight: Option<&InFlight>,
    now: Timestamp,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for rotation in &state.live {
        let is_in_flight = in_flight.is_some_and(|in_flight| in_flight.rotation == rotation.id);
        // A rotation of an earlier process may have been delivered without a record.
        let is_of_this_process =
            is_in_flight && in_flight.is_some_and(|in_flight| !in_flight.is_recovered);
        let maybe_delivered =
            rotation.stranded_at.is_some() || (rotation.phase.is_open() && !is_of_this_process);
        for delivery in &rotation.deliveries {
            changes.extend(existing_sink_change(
                state,
                rotation,
                delivery,
                maybe_delivered,
                sinks,
                now,
            ));
        }
        if rotation.phase.is_open() && is_in_flight {
            changes.extend(new_sink_changes(rotation, sinks));
        }
    }
    changes
}

fn existing_sink_change(
    state: &KeyState,
    rotation: &Rotation,
    delivery: &Delivery,
    maybe_delivered: bool,
    sinks: Option<&[(SinkId, bool)]>,
    now: Timestamp,
) -> Option<Change> {
    let mut configured = sinks.unwrap_or_default().iter();
    let configured = configured.find(|(sink, _)| *sink == delivery.sink);
    let may_hold = match delivery.state {
        DeliveryState::Removed => {
            // Its consumers still use the old secret. A sink that returns during an
            // open rotation receives the next one.
            let holds = delivery.removed_at.is_some() && !rotation.phase.is_open();
            let is_required =
                delivery.required && configured.is_some_and(|(_, required)| *required);
            return (holds && is_required).then(|| {
                Change::from(ReturnedSink {
                    rotation: rotation.id.clone(),
                    sink: delivery.sink.clone(),
                    is_unchanged: false,
                })
            });
        }
        DeliveryState::Uncertain | DeliveryState::Accepted => true,
        DeliveryState::Pending | DeliveryState::Refused => {
            maybe_delivered || delivery.may_have_received()
        }
        DeliveryState::Missed => false,
    };
    match configured {
        // A retired credential keeps its revocation time if the sink accepted a
        // newer one.
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
            removed_at: may_hold.then_some(time::next_whole_second(now)),
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
    // A sink that was removed and came back joins the next rotation.
    let has_delivery = |sink: &SinkId| {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.any(|delivery| delivery.sink == *sink)
    };
    sinks
        .unwrap_or_default()
        .iter()
        .filter(|(sink, _)| !has_delivery(sink))
        .map(|(sink, required)| {
            Change::from(AddedSink {
                rotation: rotation.id.clone(),
                sink: sink.clone(),
                required: *required,
            })
        })
        .collect()
}
