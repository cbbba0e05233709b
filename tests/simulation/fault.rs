//! The faults of an operation.

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
    Refused,
    /// The operation fails and is not applied, and the engine cannot know.
    Fails,
    /// The operation is applied, and its response is lost.
    LostReply,
    /// The operation times out, and is not applied.
    Hangs,
    /// The operation times out, and is applied later.
    LandsLate,
    /// The response is stale.
    Stale,
    /// This host's clock steps forward, and back two hours later.
    ClockAhead,
    /// This host's clock steps back, and forward two hours later.
    ClockBehind,
    /// The process dies, and the ledger is replaced by an older backup.
    LedgerSetBack,
    /// The process dies, and the ledger is lost.
    LedgerLost,
    /// The process dies, and the next one has the scenario's other configuration.
    Reconfigured,
    /// An operator acts.
    Operator(OperatorAction),
}

/// The actions of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OperatorAction {
    Rotate,
    RotateAndRevoke,
    Revoke,
    ForceRevoke,
    Hold,
    Adopt,
    /// Pauses the schedule for half a period.
    Pause,
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
                F::Refused,
                F::Fails,
                F::LostReply,
                F::LandsLate,
            ],
            Self::Check => &[F::CrashBefore, F::Fails],
            Self::List => &[F::CrashBefore, F::Fails, F::Hangs, F::Stale],
            Self::Retrieve => &[F::CrashBefore, F::Fails],
            Self::Verify => &[F::CrashBefore, F::Refused, F::Fails],
            Self::Delete => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Fails,
                F::LostReply,
                F::Hangs,
            ],
            Self::Preflight => &[F::CrashBefore, F::Refused],
            Self::Deliver => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Refused,
                F::Fails,
                F::Hangs,
                F::LostReply,
            ],
            Self::DeliverWebhook => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Refused,
                F::Fails,
                F::Hangs,
                F::LostReply,
                F::LandsLate,
            ],
            Self::OnChange => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Fails,
                F::Hangs,
                F::LostReply,
            ],
            Self::CheckDrift => &[],
            Self::Commit => &[F::CrashBefore, F::CrashAfter, F::Fails, F::LostReply],
        }
    }
}

/// Returns every fault, some of them more than once.
pub(crate) fn all_faults() -> impl Iterator<Item = SimFault> {
    let ops = [
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
    let own = ops.into_iter().flat_map(|op| op.faults().iter().copied());
    own.chain(EVENTS)
}

/// Returns the faults of any operation.
pub(crate) const EVENTS: [SimFault; 13] = [
    SimFault::ClockAhead,
    SimFault::ClockBehind,
    SimFault::LedgerSetBack,
    SimFault::LedgerLost,
    SimFault::Reconfigured,
    SimFault::Operator(OperatorAction::Rotate),
    SimFault::Operator(OperatorAction::RotateAndRevoke),
    SimFault::Operator(OperatorAction::Revoke),
    SimFault::Operator(OperatorAction::ForceRevoke),
    SimFault::Operator(OperatorAction::Hold),
    SimFault::Operator(OperatorAction::Adopt),
    SimFault::Operator(OperatorAction::Pause),
    SimFault::Operator(OperatorAction::Reload),
];
