//! Whether a revocation waits because the target of a sink holds the credential again.

use jiff::Timestamp;

use crate::core::decide::revocation::candidate::Candidate;
use crate::core::decide::revocation::deferral::{
    DeferReason, Deferral, FINAL_WARNING_LEAD, IN_USE_RECHECK_PAUSE,
};
use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::decide::sightings::{open_sightings, repair_time};
use crate::core::policy::{KeyPolicy, overlap_or_default};
use crate::core::state::Rotation;
use crate::core::time;

/// Defers the revocation of a credential that a target holds again. From the bound on, it
/// waits until a required sink has accepted a newer one; a target of an optional sink gets
/// none, so one overlap passes instead. Only the schedule waits for the key's own targets.
pub(super) fn defer_sighted(candidate: &Candidate<'_>, now: Timestamp) -> Option<Deferral> {
    let is_scheduled = candidate.reason == RevocationReason::Superseded;
    let own = candidate.rotation.filter(|_| is_scheduled);
    let own = own.map(|rotation| (rotation, candidate.policy));
    let others = candidate.others.iter();
    let others = others.map(|other| (&other.rotation, other.policy.as_deref()));
    let waits = own.into_iter().chain(others);
    let repaired_at = waits
        .filter_map(|(rotation, policy)| last_repair(rotation, policy, now))
        .max()?;
    let recheck = time::after(now, IN_USE_RECHECK_PAUSE);
    Some(Deferral {
        until: if repaired_at > now {
            recheck.min(repaired_at)
        } else {
            recheck
        },
        reason: DeferReason::HeldAgain { repaired_at },
        final_warning: time::until(now, repaired_at) <= FINAL_WARNING_LEAD,
    })
}

/// Returns when the last target that a rotation's credential waits for is repaired.
fn last_repair(
    rotation: &Rotation,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Option<Timestamp> {
    let waits = open_sightings(rotation).filter_map(|delivery| {
        let repaired_at = repair_time(policy, delivery.sighting?.since);
        let is_over = now >= time::after(repaired_at, overlap_or_default(policy));
        (delivery.required || !is_over).then_some(repaired_at)
    });
    waits.max()
}
