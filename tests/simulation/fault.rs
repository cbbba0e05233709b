//! What may go wrong with an operation.

/// What the engine asks of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SimOperation {
    Create,
    Check,
    List,
    Retrieve,
    Verify,
    Delete,
    Preflight,
    /// To a sink that takes what it takes at once.
    Deliver,
    /// To a sink that may apply what it took later.
    DeliverWebhook,
    /// What runs once a sink has changed.
    OnChange,
    CheckDrift,
    Commit,
}

/// What goes wrong with one operation, or happens at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SimFault {
    /// The process dies before it is done.
    CrashBefore,
    /// The process dies after it was done, before it hears of it.
    CrashAfter,
    /// It is refused, and not done.
    Refused,
    /// It fails, and is not done; nobody can tell.
    Fails,
    /// It is done, and the answer is lost.
    LostReply,
    /// Nothing happens until the time is over.
    Hangs,
    /// The time is over, and it is done later.
    LandsLate,
    /// The answer is that of some time ago.
    Stale,
    /// This host's clock steps forward, and back two hours later.
    ClockAhead,
    /// This host's clock steps back, and forward two hours later.
    ClockBehind,
    /// The process dies, and the ledger is that of some time ago.
    LedgerSetBack,
    /// The process dies, and the ledger is gone.
    LedgerLost,
    /// The process dies, and the next one has the scenario's other
    /// configuration.
    Reconfigured,
    /// A person does something.
    Operator(OperatorAction),
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OperatorAction {
    Rotate,
    RotateAndRevoke,
    Revoke,
    ForceRevoke,
    Hold,
    Adopt,
    /// Nothing is begun by schedule for half a period.
    Pause,
    /// The scenario's other configuration, while everything runs.
    Reload,
}

impl SimOperation {
    /// What may go wrong with it alone.
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

/// Every fault there is, some of them more than once.
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

/// What may happen at any moment.
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
