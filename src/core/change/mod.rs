//! The changes to a key that the ledger records. It records all changes of one
//! call, or none.

mod delivery;
mod operator;
mod rotation;
mod schedule;

pub use delivery::{
    AddedSink, ComparedFileAccess, DeliveryChange, DeliveryResult, DeliveryStart, EndedSighting,
    NarrowedFile, OnChangeState, RemovedSink, RetiredSighting, ReturnedSink, SeenFileAccess,
    SinkDrift, SinkRequirement, SkippedDelivery, WithdrawnRepair,
};
pub use operator::{
    Adoption, CredentialHold, DeadlineUpdate, ImmediateRevocation, KeyRetirement, OperatorChange,
    OperatorNote, PauseUpdate, PreviousRevocation, ReplacementApproval, RetryRequest, SharedHold,
    UnadoptedHolder, UndoneRetirement,
};
pub use rotation::{
    CredentialName, CredentialUpdate, FoundCredential, MissingCredential, OverlapExtension,
    RecoveredSecret, RejectedAnswer, RetrySchedule, RevocationDeferral, RevokedDuplicate,
    RotationChange, RotationIntent, Transition,
};
pub use schedule::{
    DowntimeReason, DueRun, KeyBackoff, MissedRun, ScheduleChange, TimetableChange,
};

/// One change to a key. Each struct inside converts into it with `From`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A change to a rotation and its credential.
    Rotation(RotationChange),
    /// A change to a delivery of a rotation.
    Delivery(DeliveryChange),
    /// A change to the scheduling of the key.
    Schedule(ScheduleChange),
    /// A change that an operator requested.
    Operator(OperatorChange),
}

impl Change {
    /// Returns whether the change is recorded before it has any effect. Such a change that
    /// cannot be recorded is dropped and decided again. An operator's command is such a
    /// change: the operator receives the error.
    #[must_use]
    pub const fn is_decision(&self) -> bool {
        match self {
            Self::Rotation(change) => matches!(change, RotationChange::Started(_)),
            Self::Delivery(change) => matches!(
                change,
                DeliveryChange::Started(_)
                    | DeliveryChange::FileAccessSeen(_)
                    | DeliveryChange::FileAccessCompared(_)
            ),
            Self::Schedule(change) => match change {
                ScheduleChange::TimetableChanged(_)
                | ScheduleChange::RunDue(_)
                | ScheduleChange::RunMissed(_) => true,
                ScheduleChange::BackedOff(_) | ScheduleChange::Recovered => false,
            },
            Self::Operator(change) => match change {
                OperatorChange::HoldSet(_)
                | OperatorChange::DeadlineSet(_)
                | OperatorChange::CredentialAdopted(_)
                | OperatorChange::ReplacementAllowed(_)
                | OperatorChange::PauseSet(_)
                | OperatorChange::KeyRetired(_)
                | OperatorChange::RetirementUndone(_) => true,
                OperatorChange::RevokePreviousSet(previous) => previous.is_pending,
                OperatorChange::RetryRequested(_) | OperatorChange::ImmediateRevocationSet(_) => {
                    false
                }
            },
        }
    }
}

macro_rules! impl_from_struct {
    ($group:ident: $kind:ident { $($variant:ident($content:ident)),* $(,)? }) => {
        impl From<$kind> for Change {
            fn from(change: $kind) -> Self {
                Self::$group(change)
            }
        }
        $(impl From<$content> for Change {
            fn from(content: $content) -> Self {
                Self::$group($kind::$variant(content))
            }
        })*
    };
}
impl_from_struct!(Rotation: RotationChange {
    Started(RotationIntent),
    Transitioned(Transition),
    CredentialNamed(CredentialName),
    CredentialUpdated(CredentialUpdate),
    AnswerRejected(RejectedAnswer),
    RetryScheduled(RetrySchedule),
    OverlapExtended(OverlapExtension),
    RevocationDeferred(RevocationDeferral),
    CredentialMissing(MissingCredential),
    CredentialFound(FoundCredential),
    SecretRecovered(RecoveredSecret),
    DuplicateRevoked(RevokedDuplicate),
});
impl_from_struct!(Delivery: DeliveryChange {
    Started(DeliveryStart),
    Finished(DeliveryResult),
    Skipped(SkippedDelivery),
    SinkAdded(AddedSink),
    SinkRemoved(RemovedSink),
    SinkReturned(ReturnedSink),
    SinkRequirementChanged(SinkRequirement),
    SinkDrifted(SinkDrift),
    FileAccessSeen(SeenFileAccess),
    FileAccessCompared(ComparedFileAccess),
    FileNarrowed(NarrowedFile),
    RepairWithdrawn(WithdrawnRepair),
    RetiredSeen(RetiredSighting),
    SightingEnded(EndedSighting),
});
impl_from_struct!(Schedule: ScheduleChange {
    BackedOff(KeyBackoff),
    TimetableChanged(TimetableChange),
    RunDue(DueRun),
    RunMissed(MissedRun),
});
impl_from_struct!(Operator: OperatorChange {
    RetryRequested(RetryRequest),
    HoldSet(CredentialHold),
    RevokePreviousSet(PreviousRevocation),
    ReplacementAllowed(ReplacementApproval),
    ImmediateRevocationSet(ImmediateRevocation),
    DeadlineSet(DeadlineUpdate),
    CredentialAdopted(Adoption),
    PauseSet(PauseUpdate),
    KeyRetired(KeyRetirement),
    RetirementUndone(UndoneRetirement),
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{RotationId, SinkId};
    use crate::core::lifecycle::LifecycleEvent;

    #[test]
    fn only_changes_before_an_effect_are_decisions() {
        let rotation = RotationId::new([1; 8]);
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let created = Transition::new(&rotation, LifecycleEvent::Created);
        let previous_revocation = |is_pending| PreviousRevocation {
            is_pending,
            operator: None,
        };
        for (change, is_decision) in [
            (Change::from(created), false),
            (DeliveryResult::uncertain(&rotation, &sink).into(), false),
            (previous_revocation(true).into(), true),
            (previous_revocation(false).into(), false),
            (ScheduleChange::Recovered.into(), false),
            (DeliveryStart { rotation, sink }.into(), true),
        ] {
            assert_eq!(change.is_decision(), is_decision, "{change:?}");
        }
    }
}
