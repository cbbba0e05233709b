//! What can be wrong with the daemon as a whole.

use std::time::Duration;

use crate::core::backoff::Backoff;

/// Something that is wrong with the daemon as a whole, worst first.
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
