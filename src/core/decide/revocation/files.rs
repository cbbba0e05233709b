//! Whether a revocation waits because of the files of configured sinks.

use jiff::Timestamp;

use crate::core::decide::revocation::candidate::Candidate;
use crate::core::decide::revocation::deferral::{
    DeferReason, Deferral, FINAL_WARNING_LEAD, IN_USE_RECHECK_PAUSE,
};
use crate::core::decide::revocation::observation::FileEvidence;
use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::policy::DEFAULT_MAX_REVOKE_DELAY;
use crate::core::state::{DeferralKind, Rotation};
use crate::core::time;

/// Returns the deferral of a credential that files keep; none if they no longer count.
pub(super) fn defer_by_files(
    evidence: FileEvidence,
    end: Option<Timestamp>,
    now: Timestamp,
) -> Option<Deferral> {
    let recheck = time::after(now, IN_USE_RECHECK_PAUSE);
    let until = end.map_or(recheck, |end| end.min(recheck));
    if until <= now {
        return None;
    }
    let reason = match (evidence, end) {
        (FileEvidence::Unseen, Some(revoked_at)) => DeferReason::FileUnseen { revoked_at },
        (FileEvidence::Absent | FileEvidence::Unseen | FileEvidence::Holding, revoked_at) => {
            DeferReason::HeldElsewhere { revoked_at }
        }
    };
    Some(Deferral {
        until,
        reason,
        final_warning: end.is_some_and(|end| time::until(now, end) <= FINAL_WARNING_LEAD),
    })
}

/// Returns when the files no longer count: `max-revoke-delay` after they were first seen to
/// hold the credential. None for an adopted credential that a file visibly holds: a person
/// gave it to that consumer. Only rekeyd delivers what it created, so a person who writes a
/// file must not keep such a credential alive.
pub(super) fn end_of_wait(
    candidate: &Candidate<'_>,
    evidence: FileEvidence,
    now: Timestamp,
) -> Option<Timestamp> {
    let rotation = candidate.rotation?;
    let kind = match evidence {
        FileEvidence::Holding if candidate.was_adopted() => return None,
        FileEvidence::Holding => DeferralKind::HeldElsewhere,
        FileEvidence::Unseen => DeferralKind::FileUnseen,
        FileEvidence::Absent => return Some(now),
    };
    let since = if candidate.reason == RevocationReason::Eviction {
        // An eviction is not deferred, so nothing records when it was first refused.
        rotation.stranded_at
    } else {
        first_seen(rotation, kind)
    };
    let delay = candidate
        .policy
        .map_or(DEFAULT_MAX_REVOKE_DELAY, |policy| policy.max_revoke_delay);
    Some(time::after(since.unwrap_or(now), delay))
}

fn first_seen(rotation: &Rotation, kind: DeferralKind) -> Option<Timestamp> {
    let since = rotation.deferred_since;
    since.filter(|_| rotation.deferral == Some(kind))
}
