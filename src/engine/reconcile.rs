//! Makes the ledger agree with the configured sinks.

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::record::{DeliveryState, KeyState};
use crate::core::time;
use crate::engine::worker::ManagedKey;

/// What changes for the deliveries of a key's live rotations: a sink that is
/// not configured any more holds what it held for one more overlap from `now`;
/// one that is required now, or not any more, counts so from now on.
pub(crate) fn sinks(state: &KeyState, managed: Option<&ManagedKey>, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for rotation in &state.live {
        for delivery in &rotation.deliveries {
            let (rotation, sink) = (rotation.id.clone(), delivery.sink.clone());
            let configured = managed.and_then(|managed| {
                managed
                    .sinks
                    .iter()
                    .find(|(sink, _)| *sink.id() == delivery.sink)
            });
            let held = match delivery.state {
                DeliveryState::Removed => continue,
                DeliveryState::Uncertain | DeliveryState::Accepted => true,
                DeliveryState::Pending | DeliveryState::Refused | DeliveryState::Missed => false,
            };
            match configured {
                None => {
                    let held_since = held.then_some(time::next_whole_second(now));
                    changes.push(Change::SinkRemoved {
                        rotation,
                        sink,
                        held_since,
                    });
                }
                Some((_, required)) if *required != delivery.required => {
                    changes.push(Change::SinkRequired {
                        rotation,
                        sink,
                        required: *required,
                    });
                }
                Some(_) => {}
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests;
