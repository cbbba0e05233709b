//! The changes that follow from a step's outcome.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{
    Change, DeliveryResult, DeliveryStart, ImmediateRevocation, PreviousRevocation, ScheduleChange,
    SkippedDelivery, Transition,
};
use crate::core::ids::SinkId;
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{SinkHold, sink_hold};
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;

/// The new secret worked twice. A delivery that has its place starts in the same
/// transaction, which saves an fsync and loses nothing.
#[must_use]
pub fn finish_verification(rotation: &Rotation, starts: Option<&SinkId>) -> Vec<Change> {
    let mut changes = vec![Change::from(Transition::new(
        &rotation.id,
        LifecycleEvent::Verified,
    ))];
    changes.extend(starts.map(|sink| start_delivery(rotation, sink)));
    changes
}

/// How long the former credential stays, and what receivers were sent about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlapBounds {
    /// How long the former credential stays.
    pub duration: Duration,
    /// Not before this is it revoked, as every receiver was sent that accepted the
    /// new one: a reload may have made the overlap shorter since.
    pub not_before: Option<Timestamp>,
}

impl OverlapBounds {
    /// Returns the bounds by the policy and by the rotation's volatile state.
    #[must_use]
    pub fn new(span: Duration, memory: Option<&InFlight>) -> Self {
        let told = memory.and_then(|memory| memory.previous.as_ref());
        Self {
            duration: span,
            not_before: told.map(|(_, not_before)| *not_before),
        }
    }

    /// Returns the earliest end of an overlap that begins now.
    fn earliest_end(&self, now: Timestamp) -> Timestamp {
        let end = time::after(now, self.duration);
        self.not_before.map_or(end, |told| told.max(end))
    }
}

/// A sink answered. The next delivery starts in the same transaction, if it has
/// its place, or the rotation becomes current.
#[must_use]
pub fn finish_delivery(
    rotation: &Rotation,
    answer: DeliveryResult,
    key: &KeyState,
    overlap: OverlapBounds,
    starts: Option<&SinkId>,
    now: Timestamp,
) -> Vec<Change> {
    let after = with_result(rotation, &answer);
    let mut changes = vec![Change::from(answer)];
    if after.phase != Phase::Verified {
        return changes;
    }
    if after
        .deliveries
        .iter()
        .any(|delivery| delivery.required && delivery.is_outstanding())
    {
        changes.extend(starts.map(|sink| start_delivery(&after, sink)));
    } else {
        changes.extend(make_current(&after, key, overlap, now));
    }
    changes
}

/// Makes a rotation current that every required sink has accepted: the former
/// current one retires, and so do stranded ones. Where an operator requested it,
/// all of them are revoked at once.
///
/// The former one stays for one overlap from now, whichever sinks held it: they
/// may have been replaced by others, whose consumers had it as well.
#[must_use]
pub fn make_current(
    rotation: &Rotation,
    key: &KeyState,
    overlap: OverlapBounds,
    now: Timestamp,
) -> Vec<Change> {
    let mut after = key.clone();
    if let Some(place) = after.live.iter_mut().find(|other| other.id == rotation.id) {
        *place = rotation.clone();
    }
    let least = if key.revoke_previous {
        now
    } else {
        overlap.earliest_end(now)
    };
    let mut changes = Vec::new();
    for older in after
        .live
        .iter()
        .filter(|older| older.sequence < rotation.sequence)
    {
        let until = if key.revoke_previous {
            changes.push(Change::from(ImmediateRevocation {
                rotation: older.id.clone(),
            }));
            SinkHold::None
        } else {
            sink_hold(older, &after, overlap.duration)
        };
        match older.phase {
            Phase::Current => {
                let until = until.max(SinkHold::Until(least));
                changes.push(retire(older, LifecycleEvent::Superseded, until, least, now));
                changes.extend(skip_optional_deliveries(older));
            }
            Phase::Stranded if until != SinkHold::Indefinite => {
                changes.push(retire(older, LifecycleEvent::Replaced, until, least, now));
            }
            Phase::Stranded
            | Phase::Intended
            | Phase::Created
            | Phase::Verified
            | Phase::Retired
            | Phase::Orphaned
            | Phase::Revoked
            | Phase::Failed => {}
        }
    }
    // After the former one has retired: a key has one current rotation.
    changes.push(Change::from(Transition::new(
        &rotation.id,
        LifecycleEvent::Delivered,
    )));
    changes.push(Change::Schedule(ScheduleChange::Recovered));
    if key.revoke_previous {
        changes.push(Change::from(PreviousRevocation {
            is_pending: false,
            operator: None,
        }));
    }
    changes
}

/// What optional sinks have not taken by the time there is a newer one.
fn skip_optional_deliveries(rotation: &Rotation) -> impl Iterator<Item = Change> {
    let owed = rotation.deliveries.iter();
    let owed = owed.filter(|delivery| !delivery.required && delivery.is_outstanding());
    owed.map(|delivery| {
        Change::from(SkippedDelivery {
            rotation: rotation.id.clone(),
            sink: delivery.sink.clone(),
        })
    })
}

/// Retires a credential. One that a sink holds indefinitely is not revoked at its
/// `revoke_after`, which is `least` then: that is decided again.
#[must_use]
pub fn retire(
    rotation: &Rotation,
    event: LifecycleEvent,
    until: SinkHold,
    least: Timestamp,
    now: Timestamp,
) -> Change {
    let revoke_after = match until {
        SinkHold::None => now,
        SinkHold::Until(at) => at.max(now),
        SinkHold::Indefinite => least,
    };
    Change::from(Transition {
        revoke_after: Some(time::next_whole_second(revoke_after)),
        ..Transition::new(&rotation.id, event)
    })
}

/// Abandons a rotation in the process that holds its secret.
#[must_use]
pub fn abandon(rotation: &Rotation, why: &str) -> Vec<Change> {
    let event = if rotation.deliveries.iter().any(Delivery::was_started) {
        LifecycleEvent::AbandonedDuringDelivery
    } else {
        LifecycleEvent::Abandoned
    };
    vec![Change::from(Transition {
        error: Some(why.to_owned()),
        ..Transition::new(&rotation.id, event)
    })]
}

/// Cancels a rotation whose create was not sent.
#[must_use]
pub fn cancel_create(rotation: &Rotation, why: &str) -> Change {
    Change::from(Transition {
        error: Some(why.to_owned()),
        ..Transition::new(&rotation.id, LifecycleEvent::NotCreated)
    })
}

/// The sink of the next required delivery that has not been started.
#[must_use]
pub fn next_pending_sink(rotation: &Rotation) -> Option<&SinkId> {
    let mut deliveries = rotation.deliveries.iter();
    let next =
        deliveries.find(|delivery| delivery.required && delivery.state == DeliveryState::Pending);
    next.map(|delivery| &delivery.sink)
}

/// That a delivery starts: from now on the sink may hold the secret.
#[must_use]
pub fn start_delivery(rotation: &Rotation, sink: &SinkId) -> Change {
    Change::from(DeliveryStart {
        rotation: rotation.id.clone(),
        sink: sink.clone(),
    })
}

fn with_result(rotation: &Rotation, answer: &DeliveryResult) -> Rotation {
    let mut after = rotation.clone();
    for delivery in &mut after.deliveries {
        if delivery.sink == answer.sink {
            delivery.state = answer.state;
            delivery.retry_at = answer.retry_at;
            delivery.accepted_at = answer.accepted_at.or(delivery.accepted_at);
            delivery.written_at = delivery.written_at.filter(|_| answer.is_written);
        }
    }
    after
}

#[cfg(test)]
mod tests;
