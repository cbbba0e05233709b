//! What follows from a step's outcome: the changes to record, pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Answered, Begun, Change, Moved};
use crate::core::policy::{Held, held};
use crate::core::record::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::rotation::{Event, Phase};
use crate::core::step::Memory;
use crate::core::time;

/// The new secret worked twice. The first delivery begins in the same
/// transaction, which saves an fsync and loses nothing.
#[must_use]
pub fn worked(rotation: &Rotation) -> Vec<Change> {
    let mut changes = vec![Change::Moved(Moved::new(&rotation.id, Event::Worked))];
    changes.extend(begin_next(rotation));
    changes
}

/// What a key's overlap says, and what receivers were told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// How long the former credential stays.
    pub span: Duration,
    /// Not before this is it revoked, as every receiver was told that has taken
    /// the new one: a reload may have made the overlap shorter since.
    pub not_before: Option<Timestamp>,
}

impl Overlap {
    /// By the policy, and by what this process remembers of the rotation.
    #[must_use]
    pub fn of(span: Duration, memory: Option<&Memory>) -> Self {
        let told = memory.and_then(|memory| memory.previous.as_ref());
        Self {
            span,
            not_before: told.map(|(_, not_before)| *not_before),
        }
    }

    /// When it is over at the earliest if it begins now.
    fn end(&self, now: Timestamp) -> Timestamp {
        let end = time::after(now, self.span);
        self.not_before.map_or(end, |told| told.max(end))
    }
}

/// A sink answered. Where it accepted, the next delivery begins or the
/// rotation becomes current in the same transaction.
#[must_use]
pub fn answered(
    rotation: &Rotation,
    answer: Answered,
    key: &KeyState,
    overlap: Overlap,
    now: Timestamp,
) -> Vec<Change> {
    let after = with_answer(rotation, &answer);
    let mut changes = vec![Change::Answered(answer)];
    if after.phase != Phase::Verified {
        return changes;
    }
    if after
        .deliveries
        .iter()
        .any(|delivery| delivery.required && delivery.is_owed())
    {
        changes.extend(begin_next(&after));
    } else {
        changes.extend(delivered(&after, key, overlap, now));
    }
    changes
}

/// Every required sink has accepted: the rotation is current, the former
/// current one retires, and so does what was stranded before. Where a person
/// wants it so, all of them go at once.
///
/// The former one stays for one overlap from now, whoever held it: its sinks
/// may have been replaced by others, whose consumers had it as well.
#[must_use]
pub fn delivered(
    rotation: &Rotation,
    key: &KeyState,
    overlap: Overlap,
    now: Timestamp,
) -> Vec<Change> {
    let mut after = key.clone();
    if let Some(place) = after.live.iter_mut().find(|other| other.id == rotation.id) {
        *place = rotation.clone();
    }
    let least = if key.revoke_previous {
        now
    } else {
        overlap.end(now)
    };
    let mut changes = Vec::new();
    for older in after
        .live
        .iter()
        .filter(|older| older.sequence < rotation.sequence)
    {
        let until = if key.revoke_previous {
            changes.push(Change::RevokeNow(older.id.clone()));
            Held::Not
        } else {
            held(older, &after, overlap.span)
        };
        match older.phase {
            Phase::Current => {
                let until = until.max(Held::Until(least));
                changes.push(retire(older, Event::Superseded, until, least, now));
                changes.extend(missed(older));
            }
            Phase::Stranded if until != Held::Open => {
                changes.push(retire(older, Event::Replaced, until, least, now));
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
    // After the former one has left the place: there is one current a key.
    changes.push(Change::Moved(Moved::new(&rotation.id, Event::Delivered)));
    changes.push(Change::Recovered);
    if key.revoke_previous {
        changes.push(Change::RevokePrevious {
            wanted: false,
            by_hand: None,
        });
    }
    changes
}

/// What optional sinks have not taken by the time there is a newer one.
fn missed(rotation: &Rotation) -> impl Iterator<Item = Change> {
    let owed = rotation.deliveries.iter();
    let owed = owed.filter(|delivery| !delivery.required && delivery.is_owed());
    owed.map(|delivery| Change::SinkMissed {
        rotation: rotation.id.clone(),
        sink: delivery.sink.clone(),
    })
}

/// A credential retires. What a sink holds without end is not revoked when its
/// time is over, whatever stands as `revoke_after`, which is `least` then: that
/// is asked again.
#[must_use]
pub fn retire(
    rotation: &Rotation,
    event: Event,
    until: Held,
    least: Timestamp,
    now: Timestamp,
) -> Change {
    let revoke_after = match until {
        Held::Not => now,
        Held::Until(at) => at.max(now),
        Held::Open => least,
    };
    Change::Moved(Moved {
        revoke_after: Some(time::next_whole_second(revoke_after)),
        ..Moved::new(&rotation.id, event)
    })
}

/// The process that holds the secret gives the rotation up.
#[must_use]
pub fn given_up(rotation: &Rotation, why: &str) -> Vec<Change> {
    let event = if rotation.deliveries.iter().any(Delivery::was_begun) {
        Event::GivenUpDelivering
    } else {
        Event::GivenUp
    };
    vec![Change::Moved(Moved {
        error: Some(why.to_owned()),
        ..Moved::new(&rotation.id, event)
    })]
}

/// The create of a rotation is not sent any more.
#[must_use]
pub fn not_sent(rotation: &Rotation, why: &str) -> Change {
    Change::Moved(Moved {
        error: Some(why.to_owned()),
        ..Moved::new(&rotation.id, Event::NotDone)
    })
}

/// The beginning of the next required delivery that is not begun.
fn begin_next(rotation: &Rotation) -> Option<Change> {
    rotation
        .deliveries
        .iter()
        .find(|delivery| delivery.required && delivery.state == DeliveryState::Pending)
        .map(|delivery| {
            Change::Begun(Begun {
                rotation: rotation.id.clone(),
                sink: delivery.sink.clone(),
            })
        })
}

fn with_answer(rotation: &Rotation, answer: &Answered) -> Rotation {
    let mut after = rotation.clone();
    for delivery in &mut after.deliveries {
        if delivery.sink == answer.sink {
            delivery.state = answer.state;
            delivery.retry_at = answer.retry_at;
            delivery.accepted_at = answer.accepted_at.or(delivery.accepted_at);
            delivery.written_at = delivery.written_at.filter(|_| answer.written);
        }
    }
    after
}

#[cfg(test)]
mod tests;
