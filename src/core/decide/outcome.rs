//! The changes that follow from a step's outcome.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{
    Change, DeliveryResult, DeliveryStart, ImmediateRevocation, KeyBackoff, PreviousRevocation,
    ScheduleChange, SkippedDelivery, Transition,
};
use crate::core::ids::SinkId;
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{KeyPolicy, SinkHold, key_backoff_delay, plausible_retry, sink_hold};
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation, Trigger};
use crate::core::time;

/// Returns the changes after the new secret worked twice. A delivery that has its
/// place starts in the same transaction, which saves an fsync and loses nothing.
#[must_use]
pub fn finish_verification(rotation: &Rotation, next_sink: Option<&SinkId>) -> Vec<Change> {
    let mut changes = vec![Change::from(Transition::new(
        &rotation.id,
        LifecycleEvent::Verified,
    ))];
    changes.extend(next_sink.map(|sink| start_delivery(rotation, sink)));
    changes
}

/// How long the previous credential stays valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlapBounds {
    /// The overlap by the policy.
    pub duration: Duration,
    /// The earliest revocation that was announced to the receivers of the new
    /// credential: a reload may have shortened the overlap since.
    pub not_before: Option<Timestamp>,
}

impl OverlapBounds {
    /// Returns the bounds by the policy and by the rotation's volatile state.
    #[must_use]
    pub fn new(duration: Duration, in_flight: Option<&InFlight>) -> Self {
        let announced = in_flight.and_then(|in_flight| in_flight.previous.as_ref());
        Self {
            duration,
            not_before: announced.map(|(_, not_before)| *not_before),
        }
    }

    /// Returns the earliest end of an overlap that begins at `now`.
    fn earliest_end(&self, now: Timestamp) -> Timestamp {
        let end = time::after(now, self.duration);
        self.not_before
            .map_or(end, |not_before| not_before.max(end))
    }
}

/// Returns the changes after a delivery ended. The next delivery starts in the same
/// transaction, if it has its place, or the rotation becomes current.
#[must_use]
pub fn finish_delivery(
    rotation: &Rotation,
    result: DeliveryResult,
    key: &KeyState,
    overlap: OverlapBounds,
    next_sink: Option<&SinkId>,
    now: Timestamp,
) -> Vec<Change> {
    let after = with_result(rotation, &result);
    let mut changes = vec![Change::from(result)];
    if after.phase != Phase::Verified {
        return changes;
    }
    if after
        .deliveries
        .iter()
        .any(|delivery| delivery.required && delivery.is_outstanding())
    {
        changes.extend(next_sink.map(|sink| start_delivery(&after, sink)));
    } else {
        changes.extend(make_current(&after, key, overlap, now));
    }
    changes
}

/// Makes a rotation current that every required sink accepted: the previous current
/// one retires, and so do stranded ones. If an operator requested it, all of them
/// are revoked immediately.
///
/// The previous one stays valid for one overlap from `now`, whichever sinks held
/// it: other sinks, whose consumers used it too, may have replaced them.
#[must_use]
pub fn make_current(
    rotation: &Rotation,
    key: &KeyState,
    overlap: OverlapBounds,
    now: Timestamp,
) -> Vec<Change> {
    let mut after = key.clone();
    if let Some(recorded) = after.live.iter_mut().find(|other| other.id == rotation.id) {
        *recorded = rotation.clone();
    }
    let earliest = if key.revoke_previous {
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
                let until = until.max(SinkHold::Until(earliest));
                changes.push(retire(
                    older,
                    LifecycleEvent::Superseded,
                    until,
                    earliest,
                    now,
                ));
                changes.extend(skip_optional_deliveries(older));
            }
            Phase::Stranded if until != SinkHold::Indefinite => {
                changes.push(retire(
                    older,
                    LifecycleEvent::Replaced,
                    until,
                    earliest,
                    now,
                ));
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
    // Only after the previous one has retired: a key has one current rotation.
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

/// Skips the optional deliveries of a superseded rotation that are outstanding.
fn skip_optional_deliveries(rotation: &Rotation) -> impl Iterator<Item = Change> {
    let deliveries = rotation.deliveries.iter();
    let outstanding = deliveries.filter(|delivery| !delivery.required && delivery.is_outstanding());
    outstanding.map(|delivery| {
        Change::from(SkippedDelivery {
            rotation: rotation.id.clone(),
            sink: delivery.sink.clone(),
        })
    })
}

/// Retires a credential. If a sink holds it indefinitely, `revoke_after` is
/// `earliest`, and the revocation is decided again then.
#[must_use]
pub fn retire(
    rotation: &Rotation,
    event: LifecycleEvent,
    until: SinkHold,
    earliest: Timestamp,
    now: Timestamp,
) -> Change {
    let revoke_after = match until {
        SinkHold::None => now,
        SinkHold::Until(at) => at.max(now),
        SinkHold::Indefinite => earliest,
    };
    Change::from(Transition {
        revoke_after: Some(time::next_whole_second(revoke_after)),
        ..Transition::new(&rotation.id, event)
    })
}

/// Abandons a rotation in the process that holds its secret.
#[must_use]
pub fn abandon(rotation: &Rotation, reason: &str) -> Vec<Change> {
    let event = if rotation.deliveries.iter().any(Delivery::may_have_received) {
        LifecycleEvent::AbandonedDuringDelivery
    } else {
        LifecycleEvent::Abandoned
    };
    vec![Change::from(Transition {
        error: Some(reason.to_owned()),
        ..Transition::new(&rotation.id, event)
    })]
}

/// Retires the credential of a retired key, one overlap after the retirement of the key, or
/// at once. Nothing is delivered to an optional sink any more.
#[must_use]
pub fn retire_with_key(
    rotation: &Rotation,
    key: &KeyState,
    overlap: Duration,
    now: Timestamp,
) -> Vec<Change> {
    let until = match key.retirement {
        Some(retirement) if !retirement.is_immediate => {
            let counts_from = time::after(retirement.at, overlap);
            sink_hold(rotation, key, overlap).max(SinkHold::Until(counts_from))
        }
        Some(_) | None => SinkHold::None,
    };
    let retired = retire(rotation, LifecycleEvent::RetiredWithKey, until, now, now);
    let skipped = skip_optional_deliveries(rotation);
    std::iter::once(retired).chain(skipped).collect()
}

/// Strands a rotation whose secret was lost with its process. If a required sink had not
/// accepted it, the next rotation waits: it would meet the same sink. It also waits if the
/// rotation before was lost in the same way.
#[must_use]
pub fn interrupt(
    rotation: &Rotation,
    key: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Vec<Change> {
    let interrupted = Transition::new(&rotation.id, LifecycleEvent::Interrupted);
    let mut changes = vec![Change::from(interrupted)];
    // What leaked is replaced without a delay.
    let Some(policy) = policy.filter(|_| rotation.deadline.is_none()) else {
        return changes;
    };
    let attempt = key.attempt.saturating_add(1);
    let pause = key_backoff_delay(attempt, policy.max_creates_per_day);
    let backoff = |retry_at, problem| KeyBackoff {
        attempt,
        retry_at,
        problem,
        is_before_create: false,
        is_extra: false,
    };
    let mut deliveries = rotation.deliveries.iter();
    let failed = deliveries.find(|delivery| {
        let is_failing = delivery.attempts > 0 || is_hanging(delivery, now);
        delivery.required && delivery.is_outstanding() && is_failing
    });
    if let Some(failed) = failed {
        let retry_at = plausible_retry(failed.retry_at, now);
        let error = failed.error.as_deref();
        let error = error.unwrap_or("the delivery was still running when rekeyd stopped");
        // Nothing failed yet, so that the time since its begin has been waited.
        let is_first = failed.attempts == 0;
        let begun_at = failed.last_attempt_at.filter(|at| is_first && *at <= now);
        changes.push(Change::from(backoff(
            time::after(begun_at.unwrap_or(now), pause).max(retry_at.unwrap_or(now)),
            failed.describe_failure(error),
        )));
    } else if follows_interrupted(rotation, key) {
        let problem = "rekeyd was killed during this rotation and the one before it";
        changes.push(Change::from(backoff(
            time::after(now, pause),
            problem.to_owned(),
        )));
    }
    changes
}

/// Returns whether the rotation before was also interrupted, and none was delivered since:
/// a process that is killed again and again must not create a credential each time.
fn follows_interrupted(rotation: &Rotation, key: &KeyState) -> bool {
    let current = key.current().map_or(0, |current| current.sequence);
    let mut live = key.live.iter();
    live.any(|row| {
        row.phase == Phase::Stranded
            && row.trigger != Trigger::Adopted
            && row.sequence > current
            && row.sequence < rotation.sequence
    })
}

/// The time from which on an attempt that has not ended counts as one that hangs.
const HANGING_ATTEMPT: Duration = Duration::from_secs(5);

/// Returns whether the first attempt of a delivery had not ended when its process did, and
/// began so long ago that the sink may hang: the next secret would meet the same sink.
fn is_hanging(delivery: &Delivery, now: Timestamp) -> bool {
    let began_at = delivery.last_attempt_at;
    delivery.state == DeliveryState::Uncertain
        && delivery.attempts == 0
        && began_at.is_some_and(|at| time::until(at, now) >= HANGING_ATTEMPT)
}

/// Cancels a rotation whose create was not sent.
#[must_use]
pub fn cancel_create(rotation: &Rotation, reason: &str) -> Change {
    Change::from(Transition {
        error: Some(reason.to_owned()),
        ..Transition::new(&rotation.id, LifecycleEvent::NotCreated)
    })
}

/// Returns the sink of the next required delivery that has not started.
#[must_use]
pub fn next_pending_sink(rotation: &Rotation) -> Option<&SinkId> {
    let mut deliveries = rotation.deliveries.iter();
    let next =
        deliveries.find(|delivery| delivery.required && delivery.state == DeliveryState::Pending);
    next.map(|delivery| &delivery.sink)
}

/// Records that a delivery starts: from now on the sink may hold the secret.
#[must_use]
pub fn start_delivery(rotation: &Rotation, sink: &SinkId) -> Change {
    Change::from(DeliveryStart {
        rotation: rotation.id.clone(),
        sink: sink.clone(),
    })
}

fn with_result(rotation: &Rotation, result: &DeliveryResult) -> Rotation {
    let mut after = rotation.clone();
    for delivery in &mut after.deliveries {
        if delivery.sink == result.sink {
            delivery.state = result.state;
            delivery.retry_at = result.retry_at;
            delivery.accepted_at = result.accepted_at.or(delivery.accepted_at);
            delivery.written_at = delivery
                .written_at
                .filter(|_| result.on_change.is_outstanding());
        }
    }
    after
}

#[cfg(test)]
mod tests;
