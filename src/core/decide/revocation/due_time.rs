//! From when a credential may be revoked without a command, by the ledger alone.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::lifecycle::Phase;
use crate::core::policy::{
    KeyPolicy, SinkHold, SinkOverlaps, UNMANAGED_OVERLAP, overlap_or_default, sink_hold_with,
};
use crate::core::state::{KeyState, Rotation, Trigger};

/// The earliest time at which a credential may be revoked without a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueTime {
    /// Not before the ledger changes.
    Never,
    /// From this time on; none is immediately.
    From(Option<Timestamp>),
}

/// Returns from when a retired or orphaned credential may be revoked.
///
/// A retired credential is revoked when no sink can hold it any more and a newer one
/// works; by an operator's request, as soon as it is retired. The credential of a retired
/// key needs no newer one. An orphan that no
/// sink received is revoked immediately. An orphan that was recorded as gone while
/// sinks held it has consumers, which get a newer one first.
#[must_use]
pub fn due_time(rotation: &Rotation, key: &KeyState, policy: Option<&KeyPolicy>) -> DueTime {
    let hold = rotation.hold_until;
    let held = sink_hold_with(rotation, key, sink_overlaps(policy));
    match RevocationReason::of_rotation(rotation, key) {
        Some(RevocationReason::KeyRetired { is_immediate }) => {
            let hold = hold.filter(|_| !is_immediate);
            match held {
                _ if is_immediate || rotation.revoke_now => DueTime::From(hold),
                SinkHold::Indefinite => DueTime::Never,
                SinkHold::None => DueTime::From(rotation.revoke_after.max(hold)),
                SinkHold::Until(at) => DueTime::From(rotation.revoke_after.max(hold).max(Some(at))),
            }
        }
        Some(RevocationReason::Superseded) => match held {
            // Without a newer one, it may be the newest working credential.
            _ if !has_newer_current(rotation, key) => DueTime::Never,
            SinkHold::Indefinite => DueTime::Never,
            SinkHold::None => DueTime::From(rotation.revoke_after.max(hold)),
            SinkHold::Until(at) => DueTime::From(rotation.revoke_after.max(hold).max(Some(at))),
        },
        Some(RevocationReason::Orphan) if !rotation.revoke_now => match held {
            SinkHold::None => DueTime::From(hold),
            SinkHold::Until(at) => DueTime::From(hold.max(Some(at))),
            SinkHold::Indefinite => DueTime::Never,
        },
        Some(RevocationReason::Immediate | RevocationReason::Orphan) => DueTime::From(hold),
        Some(
            RevocationReason::DuplicateLabel
            | RevocationReason::Eviction
            | RevocationReason::Leaked { .. }
            | RevocationReason::Operator { .. },
        )
        | None => DueTime::Never,
    }
}

/// Returns whether a revocation without a command depends on a time, so that a
/// wrong clock could cause it.
#[must_use]
pub fn depends_on_time(rotation: &Rotation, key: &KeyState) -> bool {
    if key
        .retirement
        .is_some_and(|retirement| retirement.is_immediate)
    {
        return false;
    }
    let overlap = SinkOverlaps::uniform(UNMANAGED_OVERLAP);
    let is_held = || sink_hold_with(rotation, key, overlap) != SinkHold::None;
    let waits_for_sinks = rotation.phase == Phase::Retired || is_held();
    rotation.hold_until.is_some() || (waits_for_sinks && !rotation.revoke_now)
}

/// Returns the overlaps of a policy's sinks.
#[must_use]
pub fn sink_overlaps(policy: Option<&KeyPolicy>) -> SinkOverlaps {
    SinkOverlaps {
        after_acceptance: policy.map_or(Duration::ZERO, |policy| policy.overlap),
        after_removal: overlap_or_default(policy),
    }
}

/// Returns whether a newer credential of the key is current. One that was passed over is
/// older than the current one, although its row is newer.
#[must_use]
pub fn has_newer_current(rotation: &Rotation, key: &KeyState) -> bool {
    key.current()
        .is_some_and(|current| was_passed_over(rotation) || current.sequence > rotation.sequence)
}

/// Returns whether a credential was adopted while every sink held the current one: it is
/// retired from then on, and has no deliveries.
#[must_use]
pub fn was_passed_over(rotation: &Rotation) -> bool {
    rotation.trigger == Trigger::Adopted
        && rotation.phase == Phase::Retired
        && rotation.deliveries.is_empty()
}
