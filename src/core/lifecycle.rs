//! A rotation's phases, what can happen to it, and what it becomes: one table,
//! used when a change is recorded and again when the event log is read back.
//!
//! Deliberately not here: what to do next ([`crate::core::decide::next_step`]) and how long
//! to wait ([`crate::core::policy`]).

use std::fmt;

/// Where a rotation stands. One word everywhere: SQL, JSON, logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Recorded; the create may or may not have been sent.
    Intended,
    /// The provider made the credential; its id is recorded.
    Created,
    /// The new secret was seen to work.
    Verified,
    /// Every required sink has accepted it.
    Current,
    /// A newer rotation is current; waits for `revoke_after`.
    Retired,
    /// Alive, its secret is lost, and a sink may hold it.
    Stranded,
    /// Alive, and no sink ever took it.
    Orphaned,
    /// Deleted at the provider.
    Revoked,
    /// Not seen at the provider.
    Failed,
}

/// Something that happened to a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LifecycleEvent {
    /// The key was due and a rotation is begun.
    Started,
    /// The provider made the credential and told its secret.
    Created,
    /// The provider made the credential, and its secret was not in the answer.
    SecretLost,
    /// The create was certainly not done.
    NotCreated,
    /// The create was unclear, and its label is not at the provider.
    LabelNotFound,
    /// The create was unclear, its label is at the provider, and this process
    /// sent the create, so that nobody can have its secret.
    LabelFound,
    /// The label of a create sent by an earlier process is at the provider.
    LabelFoundAfterRestart,
    /// The new secret worked twice.
    Verified,
    /// The new secret was refused for all of `verify-timeout`.
    VerificationFailed,
    /// Given up in the process that holds the secret, no delivery begun.
    Abandoned,
    /// Given up in the process that holds the secret, a delivery begun.
    AbandonedDuringDelivery,
    /// Found open at start: the process that held its secret is gone.
    Interrupted,
    /// Every required sink has accepted the secret.
    Delivered,
    /// A newer rotation of the key is current.
    Superseded,
    /// Every sink that may hold it has accepted a newer one.
    Replaced,
    /// Deleted at the provider, or already gone when it was to be deleted.
    Deleted,
    /// Proved to be gone at the provider without our doing.
    FoundDeleted,
    /// Revoked by hand.
    RevokedManually,
    /// Seen alive at the provider although it should not be.
    FoundAlive,
    /// Taken over by hand, and the key has no live current credential.
    Adopted,
    /// Taken over by hand beside the key's current credential.
    AdoptedAlongside,
}

/// An event that cannot happen in a phase: a mistake in the program or a
/// ledger that was changed by something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rotation that is {} cannot take the event \"{event}\"", .from.map_or("not begun", Phase::as_str))]
pub struct IllegalTransition {
    /// The phase it is in; none before it is begun.
    pub from: Option<Phase>,
    /// What was said to have happened.
    pub event: LifecycleEvent,
}

/// What a rotation in phase `from` (none before it is begun) becomes by
/// `event`.
///
/// # Errors
/// [`IllegalTransition`] for every pair that is not in the table of
/// ARCHITECTURE.md.
pub fn apply(from: Option<Phase>, event: LifecycleEvent) -> Result<Phase, IllegalTransition> {
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

    /// The phase's one word.
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

    /// Reads the word that [`Phase::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Whether its credential is not alive any more, or never was.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Revoked | Self::Failed)
    }

    /// Whether the rotation is still being made: one such a key.
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
    pub const ALL: [Self; 21] = [
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
        Self::Deleted,
        Self::FoundDeleted,
        Self::RevokedManually,
        Self::FoundAlive,
        Self::Adopted,
        Self::AdoptedAlongside,
    ];

    /// The event's word in the event log and in ARCHITECTURE.md.
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
            Self::Deleted => "deleted",
            Self::FoundDeleted => "found-deleted",
            Self::RevokedManually => "revoked-manually",
            Self::FoundAlive => "found-alive",
            Self::Adopted => "adopted",
            Self::AdoptedAlongside => "adopted-alongside",
        }
    }

    /// Reads the word that [`LifecycleEvent::as_str`] gives.
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
