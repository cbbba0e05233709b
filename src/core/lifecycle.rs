//! The phases of a rotation, its events, and the one table of its transitions.
//!
//! Deliberately not here: what to do next ([`crate::core::decide::next_step`]) and how long
//! to wait ([`crate::core::policy`]).

use std::fmt;

/// The phase of a rotation. Each has one word in SQL, JSON and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Recorded; the create may or may not have been sent.
    Intended,
    /// The provider created the credential; its id is recorded.
    Created,
    /// The provider accepted the new secret twice.
    Verified,
    /// Every required sink has accepted it.
    Current,
    /// A newer rotation is current; the credential stays valid until
    /// `revoke_after`.
    Retired,
    /// Alive, its secret is lost, and a sink may hold it.
    Stranded,
    /// Alive, and no sink accepted it.
    Orphaned,
    /// Deleted at the provider.
    Revoked,
    /// Not seen at the provider.
    Failed,
}

/// An event in the life of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LifecycleEvent {
    /// The rotation starts.
    Started,
    /// The provider created the credential and returned its secret.
    Created,
    /// The provider created the credential, and its response had no secret.
    SecretLost,
    /// The provider certainly did not create the credential.
    NotCreated,
    /// The outcome of the create was unknown, and its label is not at the
    /// provider.
    LabelNotFound,
    /// The outcome of the create was unknown, and its label is at the provider.
    /// This process sent the create and received no secret, so no sink has it.
    LabelFound,
    /// The label of a create sent by an earlier process is at the provider.
    LabelFoundAfterRestart,
    /// The new secret worked twice.
    Verified,
    /// The new secret was refused for all of `verify-timeout`.
    VerificationFailed,
    /// Abandoned by the process that holds the secret, before any delivery started.
    Abandoned,
    /// Abandoned by the process that holds the secret, after a delivery started.
    AbandonedDuringDelivery,
    /// Open at start: the process that held the secret has ended.
    Interrupted,
    /// Every required sink has accepted the secret.
    Delivered,
    /// A newer rotation of the key is current.
    Superseded,
    /// Every sink that may hold it has accepted a newer one.
    Replaced,
    /// Its key is retired: every sink counts as removed.
    RetiredWithKey,
    /// Deleted at the provider, or already gone when it was to be deleted.
    Deleted,
    /// Deleted at the provider by someone other than rekeyd.
    FoundDeleted,
    /// Revoked by an operator.
    RevokedManually,
    /// Alive at the provider although the ledger has it as ended.
    FoundAlive,
    /// Adopted by an operator, and the key has no live current credential.
    Adopted,
    /// Adopted by an operator beside the key's current credential.
    AdoptedAlongside,
}

/// An event that is illegal in a phase: a bug, or a ledger that another program
/// changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rotation that is {} cannot process the event \"{event}\"", .from.map_or("not begun", Phase::as_str))]
pub struct IllegalTransition {
    /// The rotation's phase; none before it starts.
    pub from: Option<Phase>,
    /// The event.
    pub event: LifecycleEvent,
}

/// Returns the phase of a rotation in phase `from` (none before it starts) after
/// `event`.
///
/// # Errors
/// [`IllegalTransition`] for every pair that is not in the table of
/// ARCHITECTURE.md.
pub fn next_phase(from: Option<Phase>, event: LifecycleEvent) -> Result<Phase, IllegalTransition> {
    use LifecycleEvent as E;
    use Phase as P;
    let to = match (from, event) {
        (None, E::Started) => P::Intended,
        (None, E::Adopted) => P::Current,
        (None, E::AdoptedAlongside) => P::Stranded,

        (Some(P::Intended), E::Created) => P::Created,
        (Some(P::Intended), E::SecretLost | E::LabelFound) => P::Orphaned,
        (Some(P::Intended), E::NotCreated | E::LabelNotFound) => P::Failed,
        (Some(P::Intended), E::LabelFoundAfterRestart) => P::Stranded,

        (Some(P::Created), E::Verified) => P::Verified,
        (Some(P::Created), E::VerificationFailed) => P::Orphaned,
        (Some(P::Created | P::Verified), E::Abandoned) => P::Orphaned,
        (Some(P::Created | P::Verified), E::AbandonedDuringDelivery | E::Interrupted) => {
            P::Stranded
        }
        (Some(P::Verified), E::Delivered) => P::Current,

        (Some(P::Current), E::Superseded) => P::Retired,
        (Some(P::Stranded), E::Replaced) => P::Retired,
        (Some(P::Current | P::Stranded), E::RetiredWithKey) => P::Retired,
        (Some(P::Retired | P::Orphaned), E::Deleted) => P::Revoked,
        (
            Some(P::Created | P::Verified | P::Current | P::Stranded | P::Retired),
            E::FoundDeleted | E::RevokedManually,
        ) => P::Revoked,
        (Some(P::Failed | P::Revoked), E::FoundAlive) => P::Orphaned,

        (from, event) => return Err(IllegalTransition { from, event }),
    };
    Ok(to)
}

impl Phase {
    /// Every phase, in the order of a rotation's life.
    pub const ALL: [Self; 9] = [
        Self::Intended,
        Self::Created,
        Self::Verified,
        Self::Current,
        Self::Retired,
        Self::Stranded,
        Self::Orphaned,
        Self::Revoked,
        Self::Failed,
    ];

    /// Returns the phase's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Created => "created",
            Self::Verified => "verified",
            Self::Current => "current",
            Self::Retired => "retired",
            Self::Stranded => "stranded",
            Self::Orphaned => "orphaned",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }

    /// Parses the word that [`Phase::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Returns whether the credential is revoked or was never created.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Revoked | Self::Failed)
    }

    /// Returns whether the rotation is in progress. A key has at most one such
    /// rotation.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Created | Self::Verified)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl LifecycleEvent {
    /// Every event.
    pub const ALL: [Self; 22] = [
        Self::Started,
        Self::Created,
        Self::SecretLost,
        Self::NotCreated,
        Self::LabelNotFound,
        Self::LabelFound,
        Self::LabelFoundAfterRestart,
        Self::Verified,
        Self::VerificationFailed,
        Self::Abandoned,
        Self::AbandonedDuringDelivery,
        Self::Interrupted,
        Self::Delivered,
        Self::Superseded,
        Self::Replaced,
        Self::RetiredWithKey,
        Self::Deleted,
        Self::FoundDeleted,
        Self::RevokedManually,
        Self::FoundAlive,
        Self::Adopted,
        Self::AdoptedAlongside,
    ];

    /// Returns the event's word in the event log and in ARCHITECTURE.md.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Created => "created",
            Self::SecretLost => "secret-lost",
            Self::NotCreated => "not-created",
            Self::LabelNotFound => "label-not-found",
            Self::LabelFound => "label-found",
            Self::LabelFoundAfterRestart => "label-found-after-restart",
            Self::Verified => "verified",
            Self::VerificationFailed => "verification-failed",
            Self::Abandoned => "abandoned",
            Self::AbandonedDuringDelivery => "abandoned-during-delivery",
            Self::Interrupted => "interrupted",
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Replaced => "replaced",
            Self::RetiredWithKey => "retired-with-key",
            Self::Deleted => "deleted",
            Self::FoundDeleted => "found-deleted",
            Self::RevokedManually => "revoked-manually",
            Self::FoundAlive => "found-alive",
            Self::Adopted => "adopted",
            Self::AdoptedAlongside => "adopted-alongside",
        }
    }

    /// Parses the word that [`LifecycleEvent::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

impl fmt::Display for LifecycleEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_displays_its_text() {
        assert_eq!(Phase::Current.to_string(), "current");
        assert_eq!(Phase::Orphaned.to_string(), Phase::Orphaned.as_str());
    }
}
