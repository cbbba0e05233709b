//! When the secret of a rotation may be taken again from a file that rekeyd itself wrote,
//! instead of creating another credential.
//!
//! Deliberately not here: whether the file holds that secret
//! (`engine/effects/take_secret.rs`).

use jiff::Timestamp;

use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::state::{Delivery, FileNote, KeyState, Rotation, Trigger};

/// Returns the sinks whose files a delivery of the rotation left, with what identifies
/// each file.
pub fn noted_files(rotation: &Rotation) -> impl Iterator<Item = (&SinkId, FileNote)> {
    let deliveries = rotation.deliveries.iter();
    deliveries.filter_map(|delivery| Some((&delivery.sink, delivery.file?)))
}

/// Returns whether a verified rotation may continue with a secret from a file: the process
/// that created it has ended.
#[must_use]
pub fn may_resume(rotation: &Rotation, key: &KeyState, now: Timestamp) -> bool {
    rotation.phase == Phase::Verified && may_take(rotation, key, now)
}

/// Returns the required sinks that the current credential was never delivered to, and that
/// may be given it from a file. Empty beside an open rotation.
#[must_use]
pub fn added_sinks(key: &KeyState, required: &[SinkId], now: Timestamp) -> Vec<SinkId> {
    let Some(current) = key.current().filter(|current| may_take(current, key, now)) else {
        return Vec::new();
    };
    if key.open_rotation().is_some() || key.revoke_previous {
        return Vec::new();
    }
    let recorded = |sink: &SinkId| {
        let mut deliveries = current.deliveries.iter();
        deliveries.find(|delivery| delivery.sink == *sink)
    };
    let is_added = |sink: &&SinkId| recorded(sink).is_none_or(is_never_accepted);
    required.iter().filter(is_added).cloned().collect()
}

/// Returns the required sinks that the current credential is being delivered to after it
/// became current. `has_secret` says whether this process has its secret.
#[must_use]
pub fn sinks_in_delivery(key: &KeyState, has_secret: bool) -> Vec<&SinkId> {
    let deliveries = key.current().into_iter().flat_map(|row| &row.deliveries);
    let served = deliveries.filter(|delivery| is_in_delivery(delivery, has_secret));
    served.map(|delivery| &delivery.sink).collect()
}

/// Returns whether a delivery of a current credential to a required sink continues.
#[must_use]
pub const fn is_in_delivery(delivery: &Delivery, has_secret: bool) -> bool {
    delivery.required
        && is_never_accepted(delivery)
        && (has_secret || delivery.written_at.is_some())
}

/// Returns whether a sink that has never accepted a secret still receives it.
const fn is_never_accepted(delivery: &Delivery) -> bool {
    delivery.is_outstanding() && delivery.accepted_at.is_none()
}

/// Returns whether a rotation is the key's newest, was verified and is wanted: nobody
/// asked for its end, and as far as the ledger knows its credential is alive.
fn may_take(rotation: &Rotation, key: &KeyState, now: Timestamp) -> bool {
    let credential = rotation.credential.as_ref();
    let expires_at = credential.and_then(|credential| credential.expires_at);
    rotation.sequence == key.sequence
        && rotation.trigger != Trigger::Adopted
        && !rotation.revoke_now
        && rotation.deadline.is_none()
        && rotation.missing.is_none()
        && credential.is_some()
        && expires_at.is_none_or(|at| at > now)
        && noted_files(rotation).next().is_some()
}

#[cfg(test)]
mod tests;
