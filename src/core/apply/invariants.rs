//! The rules that every recorded rotation satisfies. The ledger's schema repeats
//! them as constraints.

use crate::core::lifecycle::Phase;
use crate::core::state::{Delivery, DeliveryState, Rotation, Trigger};

/// Returns the rule that `rotation` breaks beside the key's other live rotations.
pub(super) fn broken_invariant(others: &[Rotation], rotation: &Rotation) -> Option<&'static str> {
    broken_uniqueness(others, rotation)
        .or_else(|| broken_row(rotation))
        .or_else(|| rotation.deliveries.iter().find_map(broken_delivery))
}

/// Checks that a key has at most one open rotation and one current credential.
fn broken_uniqueness(others: &[Rotation], rotation: &Rotation) -> Option<&'static str> {
    let is_open = |other: &Rotation| other.phase.is_open();
    if is_open(rotation) && others.iter().any(is_open) {
        return Some("another rotation of the key is open");
    }
    let is_current = |other: &Rotation| other.phase == Phase::Current;
    if is_current(rotation) && others.iter().any(is_current) {
        return Some("another rotation of the key is current");
    }
    None
}

fn broken_row(rotation: &Rotation) -> Option<&'static str> {
    let phase = rotation.phase;
    let may_lack_credential = phase == Phase::Intended || phase == Phase::Failed;
    let rules = [
        (
            rotation.credential.is_some() || may_lack_credential,
            "it has no credential",
        ),
        (
            rotation.credential.is_none() || phase != Phase::Intended,
            "it has a credential already",
        ),
        (
            rotation.label.is_some() || rotation.trigger == Trigger::Adopted,
            "it has no label",
        ),
        (
            rotation.current_at.is_some() || phase != Phase::Current,
            "it has no time of becoming current",
        ),
        (
            (rotation.retired_at.is_some() && rotation.revoke_after.is_some())
                || phase != Phase::Retired,
            "it has no time of its retirement or revocation",
        ),
        (
            rotation.revoked_at.is_some() || phase != Phase::Revoked,
            "it has no time of its revocation",
        ),
        (
            rotation.missing.is_none_or(|missing| missing.checks > 0),
            "it is missing without a response that says so",
        ),
    ];
    let broken = rules.into_iter().find(|(holds, _)| !holds);
    broken.map(|(_, problem)| problem)
}

fn broken_delivery(delivery: &Delivery) -> Option<&'static str> {
    let state = delivery.state;
    let rules = [
        (
            delivery.accepted_at.is_some() || state != DeliveryState::Accepted,
            "a delivery has no time of its acceptance",
        ),
        (
            delivery.removed_at.is_none() || state == DeliveryState::Removed,
            "a removed sink accepts deliveries",
        ),
        (
            delivery.written_at.is_none() || state == DeliveryState::Uncertain,
            "a delivery has ended and its command is pending",
        ),
    ];
    let broken = rules.into_iter().find(|(holds, _)| !holds);
    broken.map(|(_, problem)| problem)
}
