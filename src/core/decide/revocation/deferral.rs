//! A revocation that is decided again later, and why.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::active_credential::CredentialUsage;
use crate::core::state::DeferralKind;
use crate::core::time;

/// The delay until the revocation of a credential in use is decided again.
pub(super) const IN_USE_RECHECK_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long before the revocation of a credential in use its final warning is
/// raised.
pub(super) const FINAL_WARNING_LEAD: Duration = time::DAY;

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
    /// Returns the deferral of a credential that rekeyd authenticates with, or may.
    #[must_use]
    pub fn self_credential(usage: CredentialUsage, now: Timestamp) -> Self {
        Self {
            until: time::after(now, IN_USE_RECHECK_PAUSE),
            reason: match usage {
                CredentialUsage::MayBeInUse => DeferReason::MayBeInUse,
                CredentialUsage::InUse | CredentialUsage::Previous | CredentialUsage::Unused => {
                    DeferReason::SelfCredential
                }
            },
            final_warning: false,
        }
    }

    /// Returns the reason as text for people.
    #[must_use]
    pub fn message(&self) -> String {
        let hint = if self.final_warning {
            "; hint: check that its consumers use the new one"
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
    /// rekeyd may authenticate with it: nothing shows that it does not.
    MayBeInUse,
    /// A consumer used it within `revoke-when-idle-for`.
    RecentlyUsed {
        /// When it was last used.
        last_used_at: Timestamp,
        /// When it is revoked even if it is in use.
        revoked_at: Timestamp,
    },
    /// What the provider says of its last use cannot be read, so that it counts as used
    /// now.
    UseUnreadable {
        /// When it is revoked even if it is in use.
        revoked_at: Timestamp,
    },
    /// The provider does not have the credential that replaced it.
    SuccessorMissing,
    /// The provider does not show it under its recorded name.
    OtherName,
    /// Another key also uses it, and has not moved to a newer one.
    UsedByOtherKey,
    /// The target of a sink holds it again.
    HeldAgain {
        /// When that target is given the newest one.
        repaired_at: Timestamp,
    },
    /// The file of another key holds it, and that key has no row of it.
    HeldElsewhere {
        /// When it is revoked nevertheless; none if a person may have given it to that key.
        revoked_at: Option<Timestamp>,
    },
    /// A file that cannot be seen may hold it.
    FileUnseen {
        /// When it is revoked nevertheless.
        revoked_at: Timestamp,
    },
}

impl DeferReason {
    /// Returns when a wait for files ends, if it has an end. None for any other reason.
    #[must_use]
    pub const fn end_by_files(&self) -> Option<Option<Timestamp>> {
        match self {
            Self::HeldElsewhere { revoked_at } => Some(*revoked_at),
            Self::FileUnseen { revoked_at } => Some(Some(*revoked_at)),
            Self::SelfCredential
            | Self::MayBeInUse
            | Self::RecentlyUsed { .. }
            | Self::UseUnreadable { .. }
            | Self::SuccessorMissing
            | Self::OtherName
            | Self::UsedByOtherKey
            | Self::HeldAgain { .. } => None,
        }
    }

    /// Returns the kind that the ledger records.
    #[must_use]
    pub const fn kind(&self) -> DeferralKind {
        match self {
            Self::SelfCredential => DeferralKind::SelfCredential,
            Self::MayBeInUse => DeferralKind::MayBeInUse,
            Self::RecentlyUsed { .. } => DeferralKind::RecentlyUsed,
            Self::UseUnreadable { .. } => DeferralKind::UseUnreadable,
            Self::SuccessorMissing => DeferralKind::SuccessorMissing,
            Self::OtherName => DeferralKind::OtherName,
            Self::UsedByOtherKey => DeferralKind::UsedByOtherKey,
            Self::HeldAgain { .. } => DeferralKind::HeldAgain,
            Self::HeldElsewhere { .. } => DeferralKind::HeldElsewhere,
            Self::FileUnseen { .. } => DeferralKind::FileUnseen,
        }
    }
}

impl fmt::Display for DeferReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfCredential => formatter.write_str("it is rekeyd's own admin key"),
            Self::MayBeInUse => formatter.write_str(
                "it may be rekeyd's own admin key: this process does not know its secret, \
                 and the end that the provider shows does not rule it out",
            ),
            Self::RecentlyUsed {
                last_used_at,
                revoked_at,
            } => {
                let (used, last) = (time::to_text(*last_used_at), time::to_text(*revoked_at));
                write!(
                    formatter,
                    "it was used at {used}; it is revoked at {last} at the latest"
                )
            }
            Self::UseUnreadable { revoked_at } => write!(
                formatter,
                "rekeyd cannot read the times that the provider shows, so it counts as in use; it \
                 is revoked at {} at the latest",
                time::to_text(*revoked_at)
            ),
            Self::SuccessorMissing => {
                formatter.write_str("the provider does not show its successor")
            }
            Self::OtherName => formatter
                .write_str("the provider shows it under another name, so it may not be rekeyd's"),
            Self::UsedByOtherKey => formatter.write_str("another key still uses it"),
            Self::HeldAgain { repaired_at } => write!(
                formatter,
                "a sink holds it again; from {} on, or when the pause ends, rekeyd delivers a \
                 newer one there and revokes this one an overlap later",
                time::to_text(*repaired_at)
            ),
            Self::HeldElsewhere { revoked_at } => {
                formatter.write_str("the file of another key holds it")?;
                let at = revoked_at.map(time::to_text);
                at.map_or(Ok(()), |at| {
                    write!(formatter, "; it is revoked at {at} at the latest")
                })
            }
            Self::FileUnseen { revoked_at } => write!(
                formatter,
                "a file that rekeyd cannot read may hold it; it is revoked at {} at the latest",
                time::to_text(*revoked_at)
            ),
        }
    }
}
