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

/// A condition that stops every rotation of a scope or of the daemon, worst first.
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
}

impl Condition {
    /// Every condition, worst first.
    pub const ALL: [Self; 6] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
        Self::Reconciliation,
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
        }
    }

    /// Returns whether no request may be sent to the provider, or its result not be
    /// recorded, while the condition is active.
    #[must_use]
    pub const fn stops_reconciliation(self) -> bool {
        match self {
            Self::Ledger | Self::Credential | Self::Provider => true,
            Self::Organization | Self::Clock | Self::Reconciliation => false,
        }
    }

    /// Returns whether the condition usually passes without a person.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Provider | Self::Reconciliation => true,
            Self::Ledger | Self::Credential | Self::Organization | Self::Clock => false,
        }
    }

    /// Returns whether only an answer of the provider can end the condition.
    #[must_use]
    pub const fn awaits_provider(self) -> bool {
        match self {
            Self::Credential | Self::Clock | Self::Provider => true,
            Self::Ledger | Self::Organization | Self::Reconciliation => false,
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
            // No probe ends these: a reconciliation does, on a schedule of its own.
            Self::Organization | Self::Reconciliation => Backoff(&[300]),
        };
        backoff.delay(attempt)
    }
}
