//! What may go wrong with an operation.

/// What the engine asks of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
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
    Post,
    /// What runs once a sink has changed.
    After,
    Look,
    Commit,
}

/// What goes wrong with one operation, or happens at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
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
    SetBack,
    /// The process dies, and the ledger is gone.
    LedgerLost,
    /// The process dies, and the next one has the scenario's other
    /// configuration.
    Reconfigured,
    /// A person does something.
    Act(Act),
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Rotate,
    RotateAndRevoke,
    Revoke,
    RevokeByForce,
    Hold,
    Adopt,
    /// Nothing is begun by schedule for half a period.
    Pause,
    /// The scenario's other configuration, while everything runs.
    Reload,
}

impl Op {
    /// What may go wrong with it alone.
    pub(crate) const fn faults(self) -> &'static [Fault] {
        use Fault as F;
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
            Self::Post => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Refused,
                F::Fails,
                F::Hangs,
                F::LostReply,
                F::LandsLate,
            ],
            Self::After => &[
                F::CrashBefore,
                F::CrashAfter,
                F::Fails,
                F::Hangs,
                F::LostReply,
            ],
            Self::Look => &[],
            Self::Commit => &[F::CrashBefore, F::CrashAfter, F::Fails, F::LostReply],
        }
    }
}

/// Every fault there is, some of them more than once.
pub(crate) fn all() -> impl Iterator<Item = Fault> {
    let ops = [
        Op::Create,
        Op::Check,
        Op::List,
        Op::Retrieve,
        Op::Verify,
        Op::Delete,
        Op::Preflight,
        Op::Deliver,
        Op::Post,
        Op::After,
        Op::Commit,
    ];
    let own = ops.into_iter().flat_map(|op| op.faults().iter().copied());
    own.chain(EVENTS)
}

/// What may happen at any moment.
pub(crate) const EVENTS: [Fault; 13] = [
    Fault::ClockAhead,
    Fault::ClockBehind,
    Fault::SetBack,
    Fault::LedgerLost,
    Fault::Reconfigured,
    Fault::Act(Act::Rotate),
    Fault::Act(Act::RotateAndRevoke),
    Fault::Act(Act::Revoke),
    Fault::Act(Act::RevokeByForce),
    Fault::Act(Act::Hold),
    Fault::Act(Act::Adopt),
    Fault::Act(Act::Pause),
    Fault::Act(Act::Reload),
];
