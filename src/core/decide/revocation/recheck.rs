//! Which deferred revocations are decided again before their time, because what they wait
//! for may be over: a person who follows the advice of a deferral sees the result at once.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::change::{Change, DeliveryChange, OperatorChange, RotationChange};
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::{DeferralKind, KeyState};

/// What may have ended the reason of a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecheckCause {
    /// The process started or took a configuration: anything may have changed meanwhile.
    Start,
    /// rekeyd authenticates with another credential.
    OwnCredential,
    /// A sink took a secret, or a key got or lost a credential.
    Targets,
}

impl RecheckCause {
    /// Returns whether the cause may end deferrals of a kind.
    #[must_use]
    pub const fn may_end(self, kind: DeferralKind) -> bool {
        match (self, kind) {
            (Self::Start, _)
            | (Self::OwnCredential, DeferralKind::SelfCredential | DeferralKind::MayBeInUse)
            | (
                Self::Targets,
                DeferralKind::SuccessorMissing
                | DeferralKind::UsedByOtherKey
                | DeferralKind::HeldAgain
                | DeferralKind::HeldElsewhere
                | DeferralKind::FileUnseen,
            ) => true,
            // The provider alone knows.
            (
                Self::OwnCredential | Self::Targets,
                DeferralKind::RecentlyUsed | DeferralKind::UseUnreadable | DeferralKind::OtherName,
            )
            | (
                Self::OwnCredential,
                DeferralKind::SuccessorMissing
                | DeferralKind::UsedByOtherKey
                | DeferralKind::HeldAgain
                | DeferralKind::HeldElsewhere
                | DeferralKind::FileUnseen,
            )
            | (Self::Targets, DeferralKind::SelfCredential | DeferralKind::MayBeInUse) => false,
        }
    }
}

/// Returns the rotations of a key whose deferred revocations are decided again now. A
/// request that failed keeps its back-off.
#[must_use]
pub fn rotations_to_recheck(
    key: &KeyState,
    causes: &BTreeSet<RecheckCause>,
    now: Timestamp,
) -> BTreeSet<RotationId> {
    let rows = key.live.iter().filter(|row| {
        let waits = row.attempt == 0 && row.retry_at.is_some_and(|at| at > now);
        waits
            && row.deferral.is_some_and(|kind| {
                let mut causes = causes.iter();
                causes.any(|cause| cause.may_end(kind))
            })
    });
    rows.map(|row| row.id.clone()).collect()
}

/// Returns the key without the times until which these deferred revocations wait.
#[must_use]
pub fn without_deferrals(key: &KeyState, rotations: &BTreeSet<RotationId>) -> KeyState {
    let mut key = key.clone();
    let deferred = key.live.iter_mut().filter(|row| row.deferral.is_some());
    for row in deferred.filter(|row| rotations.contains(&row.id)) {
        row.retry_at = None;
    }
    key
}

/// Returns whether a change to one key is [`RecheckCause::Targets`] for all.
#[must_use]
pub fn moves_targets(change: &Change) -> bool {
    match change {
        Change::Delivery(DeliveryChange::Finished(result)) => result.accepted_at.is_some(),
        Change::Delivery(DeliveryChange::SightingEnded(_))
        | Change::Rotation(RotationChange::CredentialFound(_))
        | Change::Operator(
            OperatorChange::CredentialAdopted(_)
            | OperatorChange::KeyRetired(_)
            | OperatorChange::RetirementUndone(_),
        ) => true,
        Change::Rotation(RotationChange::Transitioned(transition)) => match transition.event {
            LifecycleEvent::Delivered
            | LifecycleEvent::Superseded
            | LifecycleEvent::Replaced
            | LifecycleEvent::RetiredWithKey
            | LifecycleEvent::Deleted
            | LifecycleEvent::FoundDeleted
            | LifecycleEvent::RevokedManually
            | LifecycleEvent::Adopted
            | LifecycleEvent::AdoptedAlongside => true,
            LifecycleEvent::Started
            | LifecycleEvent::Created
            | LifecycleEvent::SecretLost
            | LifecycleEvent::NotCreated
            | LifecycleEvent::LabelNotFound
            | LifecycleEvent::LabelFound
            | LifecycleEvent::LabelFoundAfterRestart
            | LifecycleEvent::Verified
            | LifecycleEvent::VerificationFailed
            | LifecycleEvent::Abandoned
            | LifecycleEvent::AbandonedDuringDelivery
            | LifecycleEvent::Interrupted
            | LifecycleEvent::FoundAlive => false,
        },
        Change::Delivery(_) | Change::Rotation(_) | Change::Schedule(_) | Change::Operator(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::change::{DeliveryResult, DeliveryStart, Transition};
    use crate::core::ids::{KeyName, SinkId};
    use crate::core::lifecycle::Phase;
    use crate::core::scope::Scope;
    use crate::core::state::{Rotation, Trigger};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_400_000 + seconds).unwrap()
    }

    fn deferred(number: u8, kind: Option<DeferralKind>, retry_at: i64, attempt: u32) -> Rotation {
        Rotation {
            deferral: kind,
            retry_at: Some(at(retry_at)),
            attempt,
            ..Rotation::new(
                RotationId::new([number; 8]),
                Scope::AdminKeys,
                number.into(),
                Trigger::Schedule,
                Phase::Retired,
                at(-100),
            )
        }
    }

    /// Each kind of deferral is decided again after a start, and after one other cause at
    /// most.
    #[test]
    fn each_cause_ends_its_own_kinds() {
        for kind in DeferralKind::ALL {
            let (is_by_credential, is_by_targets) = match kind {
                DeferralKind::SelfCredential | DeferralKind::MayBeInUse => (true, false),
                DeferralKind::SuccessorMissing
                | DeferralKind::UsedByOtherKey
                | DeferralKind::HeldAgain
                | DeferralKind::HeldElsewhere
                | DeferralKind::FileUnseen => (false, true),
                DeferralKind::RecentlyUsed
                | DeferralKind::UseUnreadable
                | DeferralKind::OtherName => (false, false),
            };
            for (cause, expected) in [
                (RecheckCause::Start, true),
                (RecheckCause::OwnCredential, is_by_credential),
                (RecheckCause::Targets, is_by_targets),
            ] {
                assert_eq!(cause.may_end(kind), expected, "{cause:?} {kind:?}");
                let mut key = KeyState::unknown(KeyName::new("k").unwrap());
                key.live = vec![deferred(1, Some(kind), 60, 0)];
                let found = rotations_to_recheck(&key, &BTreeSet::from([cause]), at(0));
                assert_eq!(found.len(), usize::from(expected), "{cause:?} {kind:?}");
                assert_eq!(rotations_to_recheck(&key, &BTreeSet::new(), at(0)).len(), 0);
                let waits = without_deferrals(&key, &found).live[0].retry_at;
                assert_eq!(waits.is_none(), expected, "{cause:?} {kind:?}");
            }
        }
    }

    #[test]
    fn nothing_but_a_deferral_is_decided_before_its_time() {
        let kind = Some(DeferralKind::MayBeInUse);
        let mut key = KeyState::unknown(KeyName::new("k").unwrap());
        key.live = vec![
            // A request that failed, one that has no deferral, and one that is due anyway.
            deferred(1, kind, 60, 1),
            deferred(2, None, 60, 0),
            deferred(3, kind, -1, 0),
            deferred(4, kind, 60, 0),
        ];
        let found = rotations_to_recheck(&key, &BTreeSet::from([RecheckCause::Start]), at(0));
        assert_eq!(found, BTreeSet::from([RotationId::new([4; 8])]));
        let released = without_deferrals(&key, &found);
        let waits = released.live.iter().map(|row| row.retry_at.is_some());
        assert_eq!(waits.collect::<Vec<_>>(), [true, true, true, false]);
    }

    #[test]
    fn only_changes_of_what_others_wait_for_count() {
        let rotation = RotationId::new([1; 8]);
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let uncertain = DeliveryResult::uncertain(&rotation, &sink);
        let accepted = DeliveryResult {
            accepted_at: Some(at(0)),
            ..uncertain.clone()
        };
        let event = |event| Change::from(Transition::new(&rotation, event));
        let start = DeliveryStart {
            rotation: rotation.clone(),
            sink,
        };
        for (change, expected) in [
            (Change::from(accepted), true),
            (uncertain.into(), false),
            (start.into(), false),
            (event(LifecycleEvent::Delivered), true),
            (event(LifecycleEvent::RevokedManually), true),
            (event(LifecycleEvent::Verified), false),
            (event(LifecycleEvent::Created), false),
        ] {
            assert_eq!(moves_targets(&change), expected, "{change:?}");
        }
    }
}
