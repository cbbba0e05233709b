//! Why a credential is revoked.

use crate::core::lifecycle::Phase;
use crate::core::state::{KeyState, Rotation};

/// The reason to revoke a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// It retired, its overlap is over, and a newer credential works.
    Superseded,
    /// It retired, and is revoked even if a sink holds it: by `rotate
    /// --revoke-previous-now`, or because it was evicted.
    Immediate,
    /// Its rotation was abandoned, its secret was lost, or it was found alive after
    /// its revocation.
    Orphan,
    /// Its key is retired.
    KeyRetired {
        /// Whether it ends without waiting for an overlap or a hold.
        is_immediate: bool,
    },
    /// It has the label of another credential and no row.
    DuplicateLabel,
    /// It is stranded, and a new rotation would exceed `max-live-credentials`.
    Eviction,
    /// It may have leaked, and the deadline that an operator set for it is over.
    Leaked {
        /// Whether the operator insisted although rekeyd may itself work with it.
        force: bool,
    },
    /// An operator ran `rekeyd revoke`.
    Operator {
        /// Whether sinks may be left with a revoked credential.
        force: bool,
    },
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::Superseded,
        Self::Immediate,
        Self::Orphan,
        Self::KeyRetired {
            is_immediate: false,
        },
        Self::KeyRetired { is_immediate: true },
        Self::DuplicateLabel,
        Self::Eviction,
        Self::Leaked { force: false },
        Self::Leaked { force: true },
        Self::Operator { force: false },
        Self::Operator { force: true },
    ];

    /// Returns the reason to revoke a rotation's credential without a command; none
    /// in a phase whose credentials are kept.
    #[must_use]
    pub const fn of_rotation(rotation: &Rotation, key: &KeyState) -> Option<Self> {
        match (rotation.phase, key.retirement) {
            (Phase::Retired | Phase::Orphaned, Some(retirement)) => Some(Self::KeyRetired {
                is_immediate: retirement.is_immediate,
            }),
            (Phase::Retired, None) if rotation.revoke_now => Some(Self::Immediate),
            (Phase::Retired, None) => Some(Self::Superseded),
            (Phase::Orphaned, None) => Some(Self::Orphan),
            (
                Phase::Intended
                | Phase::Created
                | Phase::Verified
                | Phase::Current
                | Phase::Stranded
                | Phase::Revoked
                | Phase::Failed,
                _,
            ) => None,
        }
    }

    /// Returns whether an operator asked for it: the ledger repeats no such revocation
    /// by itself.
    #[must_use]
    pub const fn is_by_operator(self) -> bool {
        match self {
            Self::Leaked { .. } | Self::Operator { .. } => true,
            Self::Superseded
            | Self::Immediate
            | Self::Orphan
            | Self::KeyRetired { .. }
            | Self::DuplicateLabel
            | Self::Eviction => false,
        }
    }

    /// Returns its word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Immediate => "immediate",
            Self::Orphan => "orphan",
            Self::KeyRetired {
                is_immediate: false,
            } => "key-retired",
            Self::KeyRetired { is_immediate: true } => "key-retired-now",
            Self::DuplicateLabel => "duplicate-label",
            Self::Eviction => "eviction",
            Self::Leaked { force: false } => "leaked",
            Self::Leaked { force: true } => "leaked-force",
            Self::Operator { force: false } => "operator",
            Self::Operator { force: true } => "operator-force",
        }
    }
}
