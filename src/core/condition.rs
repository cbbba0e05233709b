//! The conditions that stop every rotation, of the daemon or of one scope.

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::scope::Scope;

/// An active condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveCondition {
    /// The condition.
    pub condition: Condition,
    /// The scope whose keys it stops; none if it stops the daemon.
    pub scope: Option<Scope>,
    /// The problem, and what the operator can do about it.
    pub problem: String,
}

/// A place at which the daemon is to listen and cannot, which stops no rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenerProblem {
    /// The control socket.
    ControlSocket,
    /// The address of the metrics.
    Metrics,
}

impl ListenerProblem {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::ControlSocket, Self::Metrics];

    /// Returns what cannot be listened on, for people.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::ControlSocket => "control socket",
            Self::Metrics => "metrics address",
        }
    }

    /// Returns its name in the ledger and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlSocket => "control-socket",
            Self::Metrics => "metrics-address",
        }
    }
}

/// How long an error must last before people are notified of it: five attempts with
/// back-offs of 1, 2, 5 and 15 s fit into it.
pub const FAILURE_GRACE_PERIOD: Duration = Duration::from_secs(30);

/// How long a limit of the rate lasts before people are notified of it: keys that fall due
/// together often meet one, and it passes.
const LIMIT_GRACE_PERIOD: Duration = Duration::from_secs(5 * 60);

/// The work that a condition holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedWork {
    /// Every rotation, whatever its next step.
    Rotations,
    /// The start of rotations, and the creates that were not sent. A person's request is
    /// carried out.
    Creates,
    /// Whatever begins with a request that reads: the start of a rotation, a verification,
    /// a search, a revocation.
    Reads,
    /// Revocations.
    Revocations,
}

impl BlockedWork {
    /// Returns its label in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rotations => "rotations",
            Self::Creates => "creates",
            Self::Reads => "reads",
            Self::Revocations => "revocations",
        }
    }

    /// Returns what does not happen, for people.
    #[must_use]
    pub const fn blocked_text(self) -> &'static str {
        match self {
            Self::Rotations => "no rotation can start",
            Self::Creates => "no credential is created",
            Self::Reads => "no credential is created, verified or revoked",
            Self::Revocations => "no credential is revoked",
        }
    }

    /// Returns what did not happen for a while, for people.
    #[must_use]
    pub const fn blocked_past_text(self) -> &'static str {
        match self {
            Self::Rotations => "no rotation could start",
            Self::Creates => "no credential could be created",
            Self::Reads => "no credential could be created, verified or revoked",
            Self::Revocations => "no credential could be revoked",
        }
    }

    /// Returns what happens again when the condition has ended, for people.
    #[must_use]
    pub const fn resumed_text(self) -> &'static str {
        match self {
            Self::Rotations | Self::Creates | Self::Reads => "resuming rotations",
            Self::Revocations => "resuming revocations",
        }
    }

    /// Returns what follows for people who are notified of the condition.
    #[must_use]
    pub const fn notified_text(self) -> &'static str {
        match self {
            Self::Rotations => "no rotation starts until this is resolved",
            Self::Creates => {
                "until this is resolved, rekeyd creates no credential by itself; deliveries and \
                 revocations continue"
            }
            Self::Reads => {
                "until this is resolved, rekeyd creates, verifies and revokes no credential; \
                 deliveries continue"
            }
            Self::Revocations => "no credential is revoked until this is resolved",
        }
    }

    /// Returns whether a request for a rotation, and every other work of a person, waits for
    /// the end of the condition.
    #[must_use]
    pub const fn includes_requests(self) -> bool {
        matches!(self, Self::Rotations)
    }

    /// Returns whether rotations do not start, or do not end.
    #[must_use]
    pub const fn includes_rotations(self) -> bool {
        match self {
            Self::Rotations | Self::Creates | Self::Reads => true,
            Self::Revocations => false,
        }
    }
}

/// A condition that stops every rotation of a scope or of the daemon, or a part of it,
/// worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The ledger cannot be written.
    Ledger,
    /// The provider rejects the admin key of rekeyd.
    Credential,
    /// Most keys' credentials are missing at once: the organization may be the wrong one.
    Organization,
    /// The clocks of this host and the provider disagree.
    Clock,
    /// The provider is unreachable, or fails.
    Provider,
    /// The ledger cannot be compared with the provider's list, although the provider
    /// responds.
    Reconciliation,
    /// The organization or the project has used up its quota: it creates nothing.
    Quota,
    /// The organization or the project refuses every create.
    CreateRefusal,
    /// The provider limits the rate of creates.
    CreateLimit,
    /// The provider limits the rate of requests that read.
    ReadLimit,
    /// The provider limits the rate of deletions.
    DeleteLimit,
}

impl Condition {
    /// Every condition, worst first.
    pub const ALL: [Self; 11] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
        Self::Reconciliation,
        Self::Quota,
        Self::CreateRefusal,
        Self::CreateLimit,
        Self::ReadLimit,
        Self::DeleteLimit,
    ];

    /// Returns its name in the ledger, the log and the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Clock => "clock",
            Self::Provider => "provider",
            Self::Reconciliation => "reconciliation",
            Self::Quota => "quota",
            Self::CreateRefusal => "create-refusal",
            Self::CreateLimit => "create-limit",
            Self::ReadLimit => "read-limit",
            Self::DeleteLimit => "delete-limit",
        }
    }

    /// Returns what is true when the condition has ended, for people.
    #[must_use]
    pub const fn resolved_text(self) -> &'static str {
        match self {
            Self::Ledger => "the ledger is writable again",
            Self::Credential => "the provider accepts rekeyd's admin key again",
            Self::Organization => "the provider shows the keys' credentials again",
            Self::Clock => "the clocks of this host and of the provider agree again",
            Self::Provider => "the provider is available again",
            Self::Reconciliation => "the ledger and the provider's list were compared again",
            // Another of these may have taken its place.
            Self::Quota => "the quota is not used up any more, or no key waits for a credential",
            Self::CreateRefusal => {
                "the provider does not refuse every create any more, or no key waits for one"
            }
            Self::CreateLimit => {
                "the provider does not limit creates any more, or no key waits for one"
            }
            Self::ReadLimit => "the provider answers requests that read again",
            Self::DeleteLimit => "the provider deletes credentials again",
        }
    }

    /// Returns the work that the condition holds back, for people.
    #[must_use]
    pub const fn blocked_work(self) -> BlockedWork {
        match self {
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Clock
            | Self::Provider
            | Self::Reconciliation => BlockedWork::Rotations,
            Self::Quota | Self::CreateRefusal | Self::CreateLimit => BlockedWork::Creates,
            Self::ReadLimit => BlockedWork::Reads,
            Self::DeleteLimit => BlockedWork::Revocations,
        }
    }

    /// Returns whether no request may be sent to the provider, or its result not be
    /// recorded, while the condition is active.
    #[must_use]
    pub const fn stops_reconciliation(self) -> bool {
        match self {
            Self::Ledger | Self::Credential | Self::Provider => true,
            Self::Organization
            | Self::Clock
            | Self::Reconciliation
            | Self::Quota
            | Self::CreateRefusal
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit => false,
        }
    }

    /// Returns how long the condition lasts before people are notified of it.
    #[must_use]
    pub const fn grace_period(self) -> Duration {
        match self {
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Clock
            | Self::Provider
            | Self::Reconciliation => FAILURE_GRACE_PERIOD,
            Self::Quota | Self::CreateRefusal => Duration::ZERO,
            Self::CreateLimit | Self::ReadLimit | Self::DeleteLimit => LIMIT_GRACE_PERIOD,
        }
    }

    /// Returns whether the condition usually passes without a person.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Provider
            | Self::Reconciliation
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit => true,
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Clock
            | Self::Quota
            | Self::CreateRefusal => false,
        }
    }

    /// Returns whether only an answer of the provider can end the condition.
    #[must_use]
    pub const fn awaits_provider(self) -> bool {
        match self {
            Self::Credential | Self::Clock | Self::Provider => true,
            Self::Ledger
            | Self::Organization
            | Self::Reconciliation
            | Self::Quota
            | Self::CreateRefusal
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit => false,
        }
    }

    /// Returns the delay before the `attempt`th probe, counted from 1. The last delay
    /// repeats.
    #[must_use]
    pub fn probe_delay(self, attempt: u32) -> Duration {
        let backoff = match self {
            Self::Ledger => Backoff(&[1, 2, 5]),
            Self::Provider => Backoff(&[1, 2, 5, 15, 30, 60]),
            // An operator must act, and the provider rejects every probe.
            Self::Credential => Backoff(&[5, 15, 30, 60, 300]),
            Self::Clock => Backoff(&[30, 60]),
            // No probe ends these: a reconciliation does, on a schedule of its own, or a
            // request that the gate lets pass.
            Self::Organization
            | Self::Reconciliation
            | Self::Quota
            | Self::CreateRefusal
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit => Backoff(&[300]),
        };
        backoff.delay(attempt)
    }
}
