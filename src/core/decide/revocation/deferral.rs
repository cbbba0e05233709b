//! A revocation that is decided again later, and why.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::time;

/// The delay until the revocation of a credential in use is decided again.
pub(super) const IN_USE_RECHECK_PAUSE: Duration = Duration::from_secs(15 * 60);

/// A postponed revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// When it is decided again.
    pub until: Timestamp,
    /// Why it is postponed.
    pub reason: DeferReason,
    /// Whether the credential is in use and revoked within a day.
    pub final_warning: bool,
}

impl Deferral {
    /// Returns the deferral of a credential that rekeyd authenticates with.
    #[must_use]
    pub fn self_credential(now: Timestamp) -> Self {
        Self {
            until: time::after(now, IN_USE_RECHECK_PAUSE),
            reason: DeferReason::SelfCredential,
            final_warning: false,
        }
    }

    /// Returns the reason as text for people.
    #[must_use]
    pub fn message(&self) -> String {
        let hint = if self.final_warning {
            "; see that its consumers read the new one"
        } else {
            ""
        };
        format!("{}{hint}", self.reason)
    }
}

/// The reason to defer a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferReason {
    /// rekeyd authenticates with it.
    SelfCredential,
    /// A consumer used it within `revoke-when-idle-for`.
    RecentlyUsed {
        /// When it was last used.
        last_used_at: Timestamp,
        /// When it is revoked even if it is in use.
        revoked_at: Timestamp,
    },
    /// The provider does not have the credential that replaced it.
    SuccessorMissing,
}

impl fmt::Display for DeferReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfCredential => formatter.write_str("rekeyd itself works with it"),
            Self::RecentlyUsed {
                last_used_at,
                revoked_at,
            } => {
                let (used, last) = (time::to_text(*last_used_at), time::to_text(*revoked_at));
                write!(
                    formatter,
                    "it was used at {used}; it goes at {last} at the latest"
                )
            }
            Self::SuccessorMissing => {
                formatter.write_str("what replaced it is missing at the provider")
            }
        }
    }
}
