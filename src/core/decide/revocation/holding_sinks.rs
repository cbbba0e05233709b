//! Which sinks may hold a credential.

use jiff::Timestamp;

use crate::core::decide::revocation::candidate::Candidate;
use crate::core::decide::revocation::observation::Observation;
use crate::core::ids::SinkId;
use crate::core::policy::{SinkHold, SinkOverlaps, delivery_hold, overlap_or_default};
use crate::core::time;

/// Returns the sinks that may hold a credential now. While the clock is not
/// trusted, no overlap counts as over.
#[must_use]
pub fn holding_sinks(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Vec<SinkId> {
    let Some(rotation) = candidate.rotation else {
        return Vec::new();
    };
    let is_trusted = candidate.is_clock_trusted && !clock_disagrees(observation, now);
    let overlaps = SinkOverlaps::uniform(overlap_or_default(candidate.policy));
    let deliveries = rotation.deliveries.iter();
    let required = deliveries.filter(|delivery| delivery.required);
    let holding = required.filter(|delivery| {
        if delivery.sighting.is_some_and(|sighting| sighting.is_open()) {
            return true;
        }
        match delivery_hold(delivery, rotation, candidate.key, overlaps) {
            SinkHold::None => false,
            SinkHold::Until(at) => at > now || !is_trusted,
            SinkHold::Indefinite => true,
        }
    });
    holding.map(|delivery| delivery.sink.clone()).collect()
}

fn clock_disagrees(observation: &Observation, now: Timestamp) -> bool {
    observation
        .server_time
        .is_some_and(|server_time| !time::clocks_agree(server_time, now))
}
