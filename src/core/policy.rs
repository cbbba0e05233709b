//! The policy of a key, its back-offs, and how long a sink holds a secret.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::schedule::timetable::Timetable;
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time::{self, DAY, HOUR, MINUTE};

/// The options of a key that decide when it rotates and how long its steps may
/// take.
#[derive(Debug, Clone)]
pub struct KeyPolicy {
    /// When the key rotates.
    pub timetable: Timetable,
    /// When a key that was never rotated is due.
    pub initial_rotation: InitialRotation,
    /// The age above which a missed run is skipped; with none, a rotation follows every
    /// missed run.
    pub catch_up_window: Option<Duration>,
    /// How long the previous credential stays valid after a sink accepted the new
    /// one.
    pub overlap: Duration,
    /// How long the provider may refuse a fresh secret.
    pub verify_timeout: Duration,
    /// The time between the two requests that verify a secret.
    pub verify_interval: Duration,
    /// The age above which an undelivered rotation raises an alert and is retried
    /// less often.
    pub delivery_deadline: Duration,
    /// The number of creates, certain or possible, within 24 hours at which the
    /// schedule starts no more.
    pub max_creates_per_day: u32,
    /// The number of live credentials at which the schedule creates no more.
    pub max_live_credentials: usize,
    /// The lifetime after which the provider expires a credential.
    pub expires_after: Option<Duration>,
    /// How long a retired credential must be unused before it is revoked.
    pub revoke_when_idle_for: Duration,
    /// How long after its overlap a credential is revoked although it is in use.
    pub max_revoke_delay: Duration,
}

/// When a key that was never rotated becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialRotation {
    /// Immediately.
    Now,
    /// When its timetable fires for the first time.
    Scheduled,
}

impl KeyPolicy {
    /// Returns the default policy of a key that rotates by `timetable`.
    #[must_use]
    pub fn new(timetable: impl Into<Timetable>) -> Self {
        Self {
            timetable: timetable.into(),
            initial_rotation: InitialRotation::Now,
            catch_up_window: None,
            overlap: UNMANAGED_OVERLAP,
            verify_timeout: MINUTE * 15,
            verify_interval: Duration::from_secs(2),
            delivery_deadline: HOUR,
            max_creates_per_day: 24,
            max_live_credentials: 6,
            expires_after: None,
            revoke_when_idle_for: HOUR,
            max_revoke_delay: DEFAULT_MAX_REVOKE_DELAY,
        }
    }
}

/// How long a credential in use is kept beyond its overlap, unless a key's policy says
/// otherwise.
pub const DEFAULT_MAX_REVOKE_DELAY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The number of checks that must miss a credential before it is recorded as gone.
pub const CHECKS_UNTIL_GONE: u32 = 3;

/// The time between two checks for a missing credential: three of them take
/// sixteen minutes.
pub const MISSING_CHECK_INTERVAL: Duration = Duration::from_secs(8 * 60);

/// The overlap of a key that is not configured any more: the default, because its
/// own is unknown.
pub const UNMANAGED_OVERLAP: Duration = DAY;

/// Returns the overlap of a policy, or [`UNMANAGED_OVERLAP`] without one.
#[must_use]
pub fn overlap_or_default(policy: Option<&KeyPolicy>) -> Duration {
    policy.map_or(UNMANAGED_OVERLAP, |policy| policy.overlap)
}

/// The failures that are retried, each with its own back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// A rotation failed or could not start; the key's next one is retried.
    NextRotation,
    /// A request to the provider within a rotation failed: find, retrieve or
    /// delete.
    Provider,
    /// The provider still refuses a fresh secret, which usually works within
    /// seconds.
    Verification,
    /// A delivery failed, and the sink may soon accept it.
    Sink,
    /// A sink refused a delivery, or has failed for longer than
    /// `delivery-deadline`.
    FailingSink,
}

/// Returns the delay after the `attempt`th consecutive failure, counted from 1.
#[must_use]
pub fn backoff_delay(class: RetryClass, attempt: u32) -> Duration {
    let backoff = match class {
        RetryClass::NextRotation => Backoff(&[10, 60, 300, 900, 3_600, 7_200]),
        RetryClass::Provider => Backoff(&[1, 2, 5, 15, 30, 60, 300]),
        RetryClass::Verification => Backoff(&[1, 1, 2, 5, 10, 30]),
        RetryClass::Sink => Backoff(&[1, 2, 5, 15, 30, 60, 300]),
        RetryClass::FailingSink => Backoff(&[60, 300, 900, 1_800]),
    };
    backoff.delay(attempt)
}

/// Returns how long a key waits after its `attempt`th consecutive failure, counted
/// from 1, if it may create `creates_per_day` credentials in 24 hours.
///
/// A key that fails all day uses half of its creates: the last delay of
/// [`RetryClass::NextRotation`] fits the default of `max-creates-per-day`, and a key
/// that may rotate every minute does not wait for hours.
#[must_use]
pub fn key_backoff_delay(attempt: u32, creates_per_day: u32) -> Duration {
    let longest = DAY * 2 / creates_per_day.max(1);
    let first = backoff_delay(RetryClass::NextRotation, 1);
    backoff_delay(RetryClass::NextRotation, attempt).min(longest.max(first))
}

/// A bound above every back-off. A retry time further in the future was written by
/// a wrong clock, and would stop the key until then.
pub const MAX_RETRY_DELAY: Duration = DAY;

/// Returns `retry_at` unless it is implausibly far in the future.
#[must_use]
pub fn plausible_retry(retry_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    retry_at.filter(|at| *at <= time::after(now, MAX_RETRY_DELAY))
}

/// How long a sink holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkHold {
    /// The sink does not hold it.
    None,
    /// The sink holds it until this time.
    Until(Timestamp),
    /// The sink holds it until it accepts a newer one.
    Indefinite,
}

/// Returns until when any required sink may hold the secret of `rotation`.
///
/// A sink holds a secret from the start of its delivery, unless the delivery
/// certainly failed, until one overlap after that same sink accepted a newer one.
/// A removed sink holds it for one more overlap. If that sink comes back, its hold
/// continues as before, because its consumers kept using the secret. Optional sinks
/// do not count: their copy may be revoked.
///
/// A stranded credential may have been delivered by a process whose last commits
/// are not in this ledger (a restored backup, a lost commit). Every one of its sinks
/// may therefore hold it, whatever the recorded state of the delivery.
#[must_use]
pub fn sink_hold(rotation: &Rotation, key: &KeyState, overlap: Duration) -> SinkHold {
    sink_hold_with(rotation, key, SinkOverlaps::uniform(overlap))
}

/// The overlaps for which a sink still holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkOverlaps {
    /// The overlap after the sink accepted a newer one.
    pub after_acceptance: Duration,
    /// The overlap after the sink was removed.
    pub after_removal: Duration,
}

impl SinkOverlaps {
    /// Returns the same overlap for both cases.
    #[must_use]
    pub const fn uniform(overlap: Duration) -> Self {
        Self {
            after_acceptance: overlap,
            after_removal: overlap,
        }
    }
}

/// Returns what [`sink_hold`] does, with one overlap for each case.
#[must_use]
pub fn sink_hold_with(rotation: &Rotation, key: &KeyState, overlaps: SinkOverlaps) -> SinkHold {
    rotation
        .deliveries
        .iter()
        .map(|delivery| {
            if delivery.required {
                delivery_hold(delivery, rotation, key, overlaps)
            } else {
                sighting_hold(delivery, overlaps)
            }
        })
        .max()
        .unwrap_or(SinkHold::None)
}

/// Returns until when the consumers of a target may use a credential that somebody
/// restored: one overlap after the target no longer held it.
fn sighting_hold(delivery: &Delivery, overlaps: SinkOverlaps) -> SinkHold {
    let until = delivery.sighting.and_then(|sighting| sighting.until);
    until.map_or(SinkHold::None, |at| {
        SinkHold::Until(time::after(at, overlaps.after_removal))
    })
}

/// Returns until when one sink may hold the secret of `rotation`: see
/// [`sink_hold`].
#[must_use]
pub fn delivery_hold(
    delivery: &Delivery,
    rotation: &Rotation,
    key: &KeyState,
    overlaps: SinkOverlaps,
) -> SinkHold {
    let held = hold_of_delivery(delivery, rotation, key, overlaps);
    // Every sink of a retired key counts as removed since then: none accepts a newer one.
    let held = key.retirement.map_or(held, |retirement| {
        let end = time::after(retirement.at, overlaps.after_removal);
        held.min(SinkHold::Until(end))
    });
    held.max(sighting_hold(delivery, overlaps))
}

fn hold_of_delivery(
    delivery: &Delivery,
    rotation: &Rotation,
    key: &KeyState,
    overlaps: SinkOverlaps,
) -> SinkHold {
    let is_stranded = rotation.stranded_at.is_some();
    let newer = || {
        key.live
            .iter()
            .filter(|newer| newer.sequence > rotation.sequence)
            .flat_map(|newer| &newer.deliveries)
            .filter(|newer| newer.sink == delivery.sink)
    };
    let until_replaced = || {
        newer()
            .filter_map(|newer| newer.accepted_at)
            .min()
            .map_or(SinkHold::Indefinite, |at| {
                SinkHold::Until(time::after(at, overlaps.after_acceptance))
            })
    };
    match delivery.state {
        DeliveryState::Missed => SinkHold::None,
        DeliveryState::Pending | DeliveryState::Refused
            if !is_stranded && !delivery.may_have_received() =>
        {
            SinkHold::None
        }
        DeliveryState::Removed => match delivery.removed_at {
            Some(at) => {
                let until_removal_overlap =
                    SinkHold::Until(time::after(at, overlaps.after_removal));
                let has_returned = newer().any(|newer| match newer.state {
                    DeliveryState::Removed | DeliveryState::Missed => false,
                    DeliveryState::Pending
                    | DeliveryState::Uncertain
                    | DeliveryState::Accepted
                    | DeliveryState::Refused => true,
                });
                if has_returned {
                    until_replaced().max(until_removal_overlap)
                } else {
                    until_removal_overlap
                }
            }
            None => SinkHold::None,
        },
        DeliveryState::Pending
        | DeliveryState::Refused
        | DeliveryState::Uncertain
        | DeliveryState::Accepted => until_replaced(),
    }
}

#[cfg(test)]
mod tests;
