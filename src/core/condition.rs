//! What can stop every rotation, of the whole daemon or of one scope.

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::scope::Scope;

/// A condition that is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveCondition {
    /// What is wrong.
    pub condition: Condition,
    /// The scope whose keys it stops; none if it stops the whole daemon.
    pub scope: Option<Scope>,
    /// Why, and what to do about it.
    pub problem: String,
}

/// Something that stops every rotation of a scope or of the daemon, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The ledger cannot be written.
    Ledger,
    /// The provider refuses the credential that rekeyd works with.
    Credential,
    /// Most keys' credentials are gone at once: a wrong organization.
    Organization,
    /// This host's clock and the provider's disagree.
    Clock,
    /// The provider cannot be reached, or fails.
    Provider,
}

impl Condition {
    /// Every condition, worst first.
    pub const ALL: [Self; 5] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
    ];

    /// Its word in the ledger, the log and the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Clock => "clock",
            Self::Provider => "provider",
        }
    }

    /// How long to wait before the `attempt`th probe, counted from 1. The
    /// last pace is kept for ever.
    #[must_use]
    pub fn probe_delay(self, attempt: u32) -> Duration {
        let backoff = match self {
            Self::Ledger => Backoff(&[1, 2, 5]),
            Self::Provider => Backoff(&[1, 2, 5, 15, 30, 60]),
            // A person has to act, and every probe is a refused request.
            Self::Credential => Backoff(&[5, 15, 30, 60, 300]),
            Self::Clock => Backoff(&[30, 60]),
            Self::Organization => Backoff(&[300]),
        };
        backoff.delay(attempt)
    }
}
