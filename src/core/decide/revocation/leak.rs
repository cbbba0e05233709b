//! The end of credentials that may have leaked, at the deadline that an operator set.
//!
//! Only the lack of a verified newer credential delays it; no sink, overlap, use or clock
//! does.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::revocation::candidate::{Candidate, OtherHolder};
use crate::core::decide::revocation::deferral::{DeferReason, Deferral};
use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::ids::CredentialId;
use crate::core::lifecycle::Phase;
use crate::core::policy::plausible_retry;
use crate::core::state::{DeferralKind, KeyState, RevocationDeadline, Rotation, Trigger};
use crate::core::time;

/// The delay until a revocation that is past its deadline is decided again.
const RECHECK_PAUSE: Duration = Duration::from_secs(5);

/// Returns whether rekeyd has verified the secret of a credential that replaces a leaked
/// one: one that is newer and that this deadline does not end. A retired key needs none.
#[must_use]
pub fn has_verified_successor(
    rotation: &Rotation,
    key: &KeyState,
    deadline: RevocationDeadline,
) -> bool {
    let mut live = key.live.iter();
    key.is_retired()
        || live.any(|newer| {
            newer.sequence > rotation.sequence
                && newer.deadline.is_none_or(|other| other.at > deadline.at)
                && was_verified(newer)
        })
}

/// Returns whether an operator has set a deadline, and no rotation has started since that
/// could replace what ends by it. The key is due then, unless it is retired.
#[must_use]
pub fn wants_successor(key: &KeyState) -> bool {
    if key.is_retired() {
        return false;
    }
    let leaked = key.live.iter().filter(|row| row.deadline.is_some());
    let Some(last) = leaked.map(|row| row.sequence).max() else {
        return false;
    };
    let mut live = key.live.iter();
    !live.any(|newer| {
        newer.sequence > last
            && newer.trigger != Trigger::Adopted
            && (newer.phase.is_open() || was_verified(newer))
    })
}

/// Returns when a leaked credential is revoked: none without a deadline, in a phase that
/// ends by itself, and while nothing could replace it.
#[must_use]
pub fn leak_due_at(rotation: &Rotation, key: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let deadline = rotation.deadline?;
    let is_settled = match rotation.phase {
        Phase::Current | Phase::Stranded | Phase::Retired | Phase::Orphaned => true,
        Phase::Intended | Phase::Created | Phase::Verified | Phase::Revoked | Phase::Failed => {
            false
        }
    };
    if !is_settled || !has_verified_successor(rotation, key, deadline) {
        return None;
    }
    let retry_at = plausible_retry(rotation.retry_at, now);
    Some(retry_at.map_or(deadline.at, |retry_at| retry_at.max(deadline.at)))
}

/// Returns the reason to revoke a credential that is past its deadline.
#[must_use]
pub fn leak_reason(
    rotation: &Rotation,
    key: &KeyState,
    now: Timestamp,
) -> Option<RevocationReason> {
    let deadline = rotation.deadline?;
    let due_at = leak_due_at(rotation, key, now)?;
    (due_at <= now).then_some(RevocationReason::Leaked {
        force: deadline.is_forced,
    })
}

/// Returns the next deadline that is to come, of a credential that can end at it.
#[must_use]
pub fn next_deadline(key: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let live = key.live.iter();
    let ending = live.filter(|row| leak_due_at(row, key, now).is_some());
    let deadlines = ending.filter_map(|row| row.deadline);
    let deadlines = deadlines.map(|deadline| deadline.at);
    deadlines.filter(|at| *at > now).min()
}

/// Defers the end of a leaked credential while another configured key that also has it has
/// no verified newer one.
pub(super) fn defer_unreplaced(candidate: &Candidate<'_>, now: Timestamp) -> Option<Deferral> {
    let mut others = candidate.others.iter();
    let is_unreplaced = others.any(|other| is_unreplaced(candidate, other));
    is_unreplaced.then(|| Deferral {
        until: time::after(now, RECHECK_PAUSE),
        reason: DeferReason::UsedByOtherKey,
        final_warning: false,
    })
}

/// Returns whether another configured key of a leaked credential has no verified newer one.
pub(super) fn is_unreplaced(candidate: &Candidate<'_>, other: &OtherHolder) -> bool {
    let own = candidate.rotation.and_then(|rotation| rotation.deadline);
    let deadline = other.rotation.deadline.or(own);
    other.policy.is_some()
        && deadline
            .is_some_and(|deadline| !has_verified_successor(&other.rotation, &other.key, deadline))
}

impl Deferral {
    /// Returns the deferral with a time that suits the reason of the revocation: what is
    /// past its deadline is decided again soon.
    #[must_use]
    pub fn for_reason(self, reason: RevocationReason, now: Timestamp) -> Self {
        let is_leaked = matches!(reason, RevocationReason::Leaked { .. });
        let soon = time::after(now, RECHECK_PAUSE);
        Self {
            until: if is_leaked {
                self.until.min(soon)
            } else {
                self.until
            },
            ..self
        }
    }
}

fn was_verified(rotation: &Rotation) -> bool {
    rotation.trigger != Trigger::Adopted
        && match rotation.phase {
            Phase::Verified | Phase::Current => true,
            Phase::Retired => rotation.current_at.is_some(),
            Phase::Intended
            | Phase::Created
            | Phase::Stranded
            | Phase::Orphaned
            | Phase::Revoked
            | Phase::Failed => false,
        }
}

/// What the end of a leaked credential waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeakWait {
    /// Its deadline.
    Deadline(Timestamp),
    /// A newer credential that is verified.
    Successor,
    /// What kept it at the last attempt, and why it was deferred, if it was.
    Obstacle(String, Option<DeferralKind>),
    /// The request that revokes it.
    Request,
}

/// Returns what the end of a leaked credential waits for; none for one without a deadline.
#[must_use]
pub fn leak_wait(rotation: &Rotation, key: &KeyState, now: Timestamp) -> Option<LeakWait> {
    let deadline = rotation.deadline?;
    let is_tried = rotation.attempt > 0 || rotation.deferral.is_some();
    Some(if !has_verified_successor(rotation, key, deadline) {
        LeakWait::Successor
    } else if deadline.at > now {
        LeakWait::Deadline(deadline.at)
    } else if let Some(error) = rotation.error.as_ref().filter(|_| is_tried) {
        LeakWait::Obstacle(error.clone(), rotation.deferral)
    } else {
        LeakWait::Request
    })
}

/// Describes the end of a leaked credential by its deadline, which may have passed.
#[must_use]
pub fn describe_deadline(deadline: RevocationDeadline, now: Timestamp) -> String {
    let at = time::to_text(deadline.at);
    if deadline.at > now {
        format!("is revoked at {at}")
    } else {
        format!("was to be revoked at {at}")
    }
}

/// Describes for people what the end of a leaked credential waits for.
#[must_use]
pub fn describe_leak(rotation: &Rotation, key: &KeyState, now: Timestamp) -> Option<String> {
    let id = &rotation.credential.as_ref()?.id;
    let tense = if rotation.deadline?.at > now {
        "is"
    } else {
        "was"
    };
    let deadline = time::to_text(rotation.deadline?.at);
    Some(match leak_wait(rotation, key, now)? {
        LeakWait::Deadline(_) => format!("{id} may have leaked and is revoked at {deadline}"),
        LeakWait::Successor => format!(
            "{id} may have leaked and {tense} to be revoked at {deadline}: waiting for a new \
             credential that is verified; hint: to revoke it without one, run `rekeyd revoke {id} \
             --force`"
        ),
        LeakWait::Obstacle(error, deferral) => {
            let hint = deferral.and_then(|kind| next_step(kind, id));
            let hint = hint
                .map(|hint| format!("; hint: {hint}"))
                .unwrap_or_default();
            format!("{id} may have leaked and was to be revoked at {deadline}: {error}{hint}")
        }
        LeakWait::Request => format!("{id} may have leaked and is being revoked"),
    })
}

/// Returns what a person does about a leaked credential that is kept after its deadline;
/// none where its error says that, or where rekeyd tries again by itself.
fn next_step(kind: DeferralKind, credential: &CredentialId) -> Option<String> {
    Some(match kind {
        DeferralKind::MayBeInUse => {
            format!("if rekeyd uses another one, run `rekeyd revoke {credential} --force`")
        }
        DeferralKind::SelfCredential => "replace rekeyd's own admin key, then run \
                                         `rekeyd reload`"
            .to_owned(),
        DeferralKind::UsedByOtherKey => format!(
            "to revoke it at once, which leaves those consumers with a dead key, run `rekeyd revoke \
             {credential} --force`"
        ),
        DeferralKind::RecentlyUsed
        | DeferralKind::UseUnreadable
        | DeferralKind::SuccessorMissing
        | DeferralKind::OtherName
        | DeferralKind::HeldAgain
        | DeferralKind::HeldElsewhere
        | DeferralKind::FileUnseen => return None,
    })
}

#[cfg(test)]
mod tests;
