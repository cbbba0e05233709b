//! The operations of the simulated world, and their faults.

/// The operations of the engine on the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SimOperation {
    Create,
    Check,
    List,
    Retrieve,
    Verify,
    Delete,
    Preflight,
    /// A delivery to a sink that applies the secret at once.
    Deliver,
    /// A delivery to a sink that may apply the secret later.
    DeliverWebhook,
    /// The `on-change` command of a sink.
    OnChange,
    CheckDrift,
    Commit,
}

/// A fault of one operation, or an event at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SimFault {
    /// The process dies before the operation is applied.
    CrashBefore,
    /// The process dies after the operation was applied, before its result.
    CrashAfter,
    /// The operation is rejected, and not applied.
    Rejection,
    /// The operation fails and is not applied, and the engine cannot know.
    Failure,
    /// The operation is applied, and its response is lost.
    LostResponse,
    /// The operation times out, and is not applied.
    Timeout,
    /// The operation times out, and is applied later.
    LateEffect,
    /// The operation is applied and times out, and its repetition is rejected.
    RejectedRepetition,
    /// The response is stale.
    StaleResponse,
    /// This host's clock steps forward, and back two hours later.
    ClockStepForward,
    /// This host's clock steps back, and forward two hours later.
    ClockStepBack,
    /// The create is applied, and its response is not true.
    FalseAnswer(FalseAnswer),
    /// The process dies, and somebody writes the previous secret into the file of rekeyd's
    /// own credential, if that secret is alive.
    CredentialFileRestore,
    /// Somebody writes the previous secret into a key's file, if that secret is alive.
    FileRestore,
    /// Somebody copies the first key's previous secret into the file of the second, if that
    /// secret is alive.
    FileCopy,
    /// The process dies, and the ledger is replaced by an older backup.
    LedgerRestore,
    /// The process dies, and the ledger is lost.
    LedgerLoss,
    /// The process dies, and the next one has the scenario's other configuration.
    Reconfiguration,
    /// An operator acts.
    Operator(OperatorAction),
}

/// What a response to a create says instead of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FalseAnswer {
    /// The id of a credential that somebody else created.
    UnmanagedId,
    /// The id of a credential of the same key.
    EarlierId,
    /// The name of another credential.
    OtherName,
    /// The secret that rekeyd authenticates with.
    OwnSecret,
    /// The secret of a credential of the same key.
    EarlierSecret,
    /// The id of a credential that somebody else created, and nothing is created.
    NothingCreated,
    /// The id of a live credential of another key.
    OtherKeyId,
    /// The secret of a live credential of another key.
    OtherKeySecret,
    /// The time of creation of a credential of long ago.
    EarlierTime,
    /// An id that no credential has, the same in each answer.
    InventedId,
}

/// The actions of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OperatorAction {
    Rotate,
    RotateAndRevoke,
    /// Ends every present credential at a deadline.
    RotateAfterLeak,
    Revoke,
    ForceRevoke,
    Hold,
    Adopt,
    /// Adopts a credential of the first key into the second, by preference one that is
    /// about to be revoked.
    AdoptShared,
    /// Pauses the schedule for half a period.
    Pause,
    /// Retires the first key for half a period.
    Retire,
    /// Prunes every rotation that may leave the ledger, however lately it ended.
    Prune,
    /// Reloads the scenario's other configuration.
    Reload,
}

impl SimOperation {
    /// Returns the faults of this operation alone.
    pub(crate) const fn faults(self) -> &'static [SimFault] {
        use SimFault as F;
        match self {
            Self::Create => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Rejection,
                F::Failure,
                F::LostResponse,
                F::LateEffect,
                F::FalseAnswer(FalseAnswer::UnmanagedId),
                F::FalseAnswer(FalseAnswer::EarlierId),
                F::FalseAnswer(FalseAnswer::OtherName),
                F::FalseAnswer(FalseAnswer::OwnSecret),
                F::FalseAnswer(FalseAnswer::EarlierSecret),
                F::FalseAnswer(FalseAnswer::NothingCreated),
            ],
            Self::Check => &[F::CrashBefore, F::Rejection, F::Failure],
            Self::List => &[
                F::CrashBefore,
                F::Rejection,
                F::Failure,
                F::Timeout,
                F::StaleResponse,
            ],
            Self::Retrieve => &[F::CrashBefore, F::Failure],
            Self::Verify => &[F::CrashBefore, F::Rejection, F::Failure],
            Self::Delete => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Failure,
                F::LostResponse,
                F::Timeout,
            ],
            Self::Preflight => &[F::CrashBefore, F::Rejection],
            Self::Deliver => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Rejection,
                F::Failure,
                F::Timeout,
                F::LostResponse,
            ],
            Self::DeliverWebhook => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Rejection,
                F::Failure,
                F::Timeout,
                F::LostResponse,
                F::LateEffect,
                F::RejectedRepetition,
            ],
            Self::OnChange => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Failure,
                F::Timeout,
                F::LostResponse,
            ],
            Self::CheckDrift => &[],
            Self::Commit => &[F::CrashBefore, F::CrashAfter, F::Failure, F::LostResponse],
        }
    }
}

/// The answers to creates for which a scenario needs several keys, or none is in doubt.
pub(crate) const ANSWERS_OF_OTHERS: [SimFault; 3] = [
    SimFault::FalseAnswer(FalseAnswer::OtherKeyId),
    SimFault::FalseAnswer(FalseAnswer::OtherKeySecret),
    SimFault::FalseAnswer(FalseAnswer::EarlierTime),
];

/// Returns every fault; one that several operations have is repeated.
pub(crate) fn all_faults() -> impl Iterator<Item = SimFault> {
    let operations = [
        SimOperation::Create,
        SimOperation::Check,
        SimOperation::List,
        SimOperation::Retrieve,
        SimOperation::Verify,
        SimOperation::Delete,
        SimOperation::Preflight,
        SimOperation::Deliver,
        SimOperation::DeliverWebhook,
        SimOperation::OnChange,
        SimOperation::Commit,
    ];
    let specific = operations
        .into_iter()
        .flat_map(|operation| operation.faults().iter().copied());
    let invented = SimFault::FalseAnswer(FalseAnswer::InventedId);
    let others = ANSWERS_OF_OTHERS.into_iter().chain([invented]);
    specific
        .chain(EVENTS)
        .chain([SimFault::FileRestore, SimFault::FileCopy])
        .chain(others)
}

impl SimFault {
    /// Returns whether the operation fails, and the process continues.
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::Rejection | Self::Failure | Self::Timeout => true,
            Self::CrashBefore
            | Self::CrashAfter
            | Self::LostResponse
            | Self::LateEffect
            | Self::RejectedRepetition
            | Self::StaleResponse
            | Self::FalseAnswer(_)
            | Self::CredentialFileRestore
            | Self::FileRestore
            | Self::FileCopy
            | Self::ClockStepForward
            | Self::ClockStepBack
            | Self::LedgerRestore
            | Self::LedgerLoss
            | Self::Reconfiguration
            | Self::Operator(_) => false,
        }
    }
}

/// The events, which may occur at any operation.
pub(crate) const EVENTS: [SimFault; 18] = [
    SimFault::CredentialFileRestore,
    SimFault::ClockStepForward,
    SimFault::ClockStepBack,
    SimFault::LedgerRestore,
    SimFault::LedgerLoss,
    SimFault::Reconfiguration,
    SimFault::Operator(OperatorAction::Rotate),
    SimFault::Operator(OperatorAction::RotateAndRevoke),
    SimFault::Operator(OperatorAction::RotateAfterLeak),
    SimFault::Operator(OperatorAction::Revoke),
    SimFault::Operator(OperatorAction::ForceRevoke),
    SimFault::Operator(OperatorAction::Hold),
    SimFault::Operator(OperatorAction::Adopt),
    SimFault::Operator(OperatorAction::AdoptShared),
    SimFault::Operator(OperatorAction::Pause),
    SimFault::Operator(OperatorAction::Retire),
    SimFault::Operator(OperatorAction::Prune),
    SimFault::Operator(OperatorAction::Reload),
];
