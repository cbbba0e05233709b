//! How long to wait, and what may be revoked.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::schedule::timetable::Timetable;
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time::{self, DAY, HOUR, MINUTE};

/// When and how patiently a key rotates.
#[derive(Debug, Clone)]
pub struct KeyPolicy {
    /// When it rotates.
    pub timetable: Timetable,
    /// When a key that was never rotated is due.
    pub initial_rotation: InitialRotation,
    /// A firing that nobody was there for is dropped when it is older than
    /// this; without it, it is made up for.
    pub catch_up_window: Option<Duration>,
    /// How long the previous credential stays valid after a sink took the new
    /// one.
    pub overlap: Duration,
    /// How long the provider may refuse a fresh secret.
    pub verify_timeout: Duration,
    /// The secret must have worked twice, so far apart.
    pub verify_interval: Duration,
    /// After this an undelivered rotation is told of, and tried more slowly.
    pub delivery_deadline: Duration,
    /// Creates made, or maybe made, for this key within 24 hours: no more are
    /// begun by schedule.
    pub max_creates_per_day: u32,
    /// While so many of its credentials are alive, none is made by schedule.
    pub max_live_credentials: usize,
    /// After what time a credential is to end by itself.
    pub expires_after: Option<Duration>,
    /// A retired credential that was used within this time is not revoked yet.
    pub revoke_when_idle_for: Duration,
    /// But no longer than this past its overlap.
    pub max_revoke_delay: Duration,
}

/// When a key that was never rotated is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialRotation {
    /// At once.
    Now,
    /// When its timetable fires for the first time.
    Scheduled,
}

impl KeyPolicy {
    /// The contract's defaults, for a key that rotates by `timetable`.
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
            max_revoke_delay: DAY * 7,
        }
    }
}

/// How often a credential must be missing before it is taken for gone.
pub const CHECKS_UNTIL_GONE: u32 = 3;

/// How far apart the looks for a missing credential are: three of them take a
/// quarter of an hour and a little more.
pub const MISSING_CHECK_INTERVAL: Duration = Duration::from_secs(8 * 60);

/// The overlap of what is no longer configured: nobody says how long its
/// consumers need, so it is the contract's default.
pub const UNMANAGED_OVERLAP: Duration = DAY;

/// The overlap of a key by its policy; none is of one that is not configured any
/// more.
#[must_use]
pub fn overlap_or_default(policy: Option<&KeyPolicy>) -> Duration {
    policy.map_or(UNMANAGED_OVERLAP, |policy| policy.overlap)
}

/// What is waited for, each with its own patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// A rotation failed or could not be begun; the next one of the key.
    NextRotation,
    /// An answer of the provider within a rotation: find, retrieve, delete.
    Provider,
    /// A fresh secret that the provider still refuses: it works within
    /// seconds as a rule.
    Verification,
    /// A sink that did not take the secret and may soon.
    Sink,
    /// A sink that refused, or that has been tried for longer than
    /// `delivery-deadline`.
    FailingSink,
}

/// How long to wait after the `attempt`th failure in a row, counted from 1.
#[must_use]
pub fn backoff_delay(waiting: RetryClass, attempt: u32) -> Duration {
    let backoff = match waiting {
        RetryClass::NextRotation => Backoff(&[10, 60, 300, 900, 3_600, 7_200]),
        RetryClass::Provider => Backoff(&[1, 2, 5, 15, 30, 60, 300]),
        RetryClass::Verification => Backoff(&[1, 1, 2, 5, 10, 30]),
        RetryClass::Sink => Backoff(&[1, 2, 5, 15, 30, 60, 300]),
        RetryClass::FailingSink => Backoff(&[60, 300, 900, 1_800]),
    };
    backoff.delay(attempt)
}

/// How long a key waits after its `attempt`th failure in a row, counted from 1,
/// where so many creates a day are allowed.
///
/// A key that fails all day uses up half of its creates: so the last pace of
/// [`RetryClass::NextRotation`] fits the default of `max-creates-per-day`, and a key
/// that may rotate each minute does not wait for hours.
#[must_use]
pub fn key_backoff_delay(attempt: u32, creates_per_day: u32) -> Duration {
    let pace = DAY * 2 / creates_per_day.max(1);
    let first = backoff_delay(RetryClass::NextRotation, 1);
    backoff_delay(RetryClass::NextRotation, attempt).min(pace.max(first))
}

/// No back-off is this long: a time to try again that is further ahead was
/// written by a wrong clock, and would silence the key until it came.
const MAX_RETRY_DELAY: Duration = DAY;

/// When something is tried again, as far as that can be believed now.
#[must_use]
pub fn plausible_retry(retry_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    retry_at.filter(|at| *at <= time::after(now, MAX_RETRY_DELAY))
}

/// Until when a sink holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkHold {
    /// It does not.
    None,
    /// Until this moment.
    Until(Timestamp),
    /// Until it accepts a newer one.
    Indefinite,
}

/// Until when any required sink may hold the secret of `rotation`.
///
/// A sink holds a secret from the beginning of its delivery, unless it
/// certainly did not take it, until one overlap after that same sink has
/// accepted a newer one. A removed sink holds it one overlap longer, and if it
/// came back, as if it had never been away: its consumers have gone on with
/// what they had. An optional sink's copy may be dead and counts for nothing.
///
/// What was stranded may have been delivered by a process whose last words are
/// not in this ledger (a restored backup, a lost commit): every sink of it may
/// hold it, whatever stands here.
#[must_use]
pub fn sink_hold(rotation: &Rotation, key: &KeyState, overlap: Duration) -> SinkHold {
    sink_hold_with(rotation, key, SinkOverlaps::uniform(overlap))
}

/// How long a sink holds what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkOverlaps {
    /// After it accepted a newer one.
    pub after_acceptance: Duration,
    /// After it was removed.
    pub after_removal: Duration,
}

impl SinkOverlaps {
    /// The same in both cases.
    #[must_use]
    pub const fn uniform(overlap: Duration) -> Self {
        Self {
            after_acceptance: overlap,
            after_removal: overlap,
        }
    }
}

/// As [`sink_hold`], with one overlap for each case.
#[must_use]
pub fn sink_hold_with(rotation: &Rotation, key: &KeyState, overlaps: SinkOverlaps) -> SinkHold {
    rotation
        .deliveries
        .iter()
        .filter(|delivery| delivery.required)
        .map(|delivery| delivery_hold(delivery, rotation, key, overlaps))
        .max()
        .unwrap_or(SinkHold::None)
}

/// Until when one sink may hold the secret of `rotation`: see [`sink_hold`].
#[must_use]
pub fn delivery_hold(
    delivery: &Delivery,
    rotation: &Rotation,
    key: &KeyState,
    overlaps: SinkOverlaps,
) -> SinkHold {
    let lost = rotation.stranded_at.is_some();
    let newer = || {
        key.live
            .iter()
            .filter(|newer| newer.sequence > rotation.sequence)
            .flat_map(|newer| &newer.deliveries)
            .filter(|newer| newer.sink == delivery.sink)
    };
    let replaced = || {
        newer()
            .filter_map(|newer| newer.accepted_at)
            .min()
            .map_or(SinkHold::Indefinite, |at| {
                SinkHold::Until(time::after(at, overlaps.after_acceptance))
            })
    };
    match delivery.state {
        DeliveryState::Missed => SinkHold::None,
        DeliveryState::Pending | DeliveryState::Refused if !lost => SinkHold::None,
        DeliveryState::Removed => match delivery.removed_at {
            Some(at) => {
                let removed = SinkHold::Until(time::after(at, overlaps.after_removal));
                let came_back = newer().any(|newer| match newer.state {
                    DeliveryState::Removed | DeliveryState::Missed => false,
                    DeliveryState::Pending
                    | DeliveryState::Uncertain
                    | DeliveryState::Accepted
                    | DeliveryState::Refused => true,
                });
                if came_back {
                    replaced().max(removed)
                } else {
                    removed
                }
            }
            None => SinkHold::None,
        },
        DeliveryState::Pending
        | DeliveryState::Refused
        | DeliveryState::Uncertain
        | DeliveryState::Accepted => replaced(),
    }
}

#[cfg(test)]
mod tests;
