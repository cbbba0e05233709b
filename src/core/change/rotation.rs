//! Changes to a rotation and its credential.

use jiff::Timestamp;

use crate::core::change::operator::OperatorNote;
use crate::core::ids::{CredentialId, Label, RotationId, SinkId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, DeferralKind, MissingSince, Rotation, Trigger};

/// A change to one rotation of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationChange {
    /// A rotation starts; nothing has been sent to the provider.
    Started(RotationIntent),
    /// A lifecycle event moves a rotation to another phase.
    Transitioned(Transition),
    /// The name of an adopted credential is seen for the first time.
    CredentialNamed(CredentialName),
    /// The provider shows other facts of a credential than the row of another key has.
    CredentialUpdated(CredentialUpdate),
    /// The answer to the create of a rotation cannot be true.
    AnswerRejected(RejectedAnswer),
    /// The current step of a rotation failed and is retried.
    RetryScheduled(RetrySchedule),
    /// A retired credential stays longer than was recorded.
    OverlapExtended(OverlapExtension),
    /// A retired credential is not revoked yet, for a reason that is no failure.
    RevocationDeferred(RevocationDeferral),
    /// The provider answered that it has no such credential.
    CredentialMissing(MissingCredential),
    /// A credential that was missing is there again.
    CredentialFound(FoundCredential),
    /// The secret of a rotation was taken again from a file.
    SecretRecovered(RecoveredSecret),
    /// Another credential with the label of a rotation was deleted.
    DuplicateRevoked(RevokedDuplicate),
}

/// The intent of a rotation, recorded before its create is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationIntent {
    /// Its id.
    pub rotation: RotationId,
    /// The scope that its credential will belong to.
    pub scope: Scope,
    /// Its sequence, by [`crate::core::state::KeyState::next_sequence`].
    pub sequence: u64,
    /// The name of its credential at the provider.
    pub label: Label,
    /// Why it starts.
    pub trigger: Trigger,
    /// The scheduled run that it starts for.
    pub scheduled_for: Option<Timestamp>,
    /// The earliest time of creation, by the provider's clock, of what its create makes.
    pub not_created_before: Option<Timestamp>,
    /// The timetable that it starts by, as text.
    pub timetable: String,
    /// The sinks to deliver to, in order, and whether each is required.
    pub sinks: Vec<(SinkId, bool)>,
    /// The operator who requested it.
    pub operator: Option<OperatorNote>,
}

/// A lifecycle event, with the facts about the rotation that come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The rotation.
    pub rotation: RotationId,
    /// The event.
    pub event: LifecycleEvent,
    /// The credential, if the event is the first to name it.
    pub credential: Option<CredentialMetadata>,
    /// The name of the credential at the provider, if the event is the first to show it.
    pub name: Option<String>,
    /// Whether the answer with the credential redacted its secret to another end than
    /// it has.
    pub has_wrong_redaction: bool,
    /// When a credential that retires may be revoked.
    pub revoke_after: Option<Timestamp>,
    /// The error, if the event is a failure.
    pub error: Option<String>,
    /// The operator, if one requested it.
    pub operator: Option<OperatorNote>,
    /// The rotation as recorded, if it ended earlier and is not among the key's
    /// live ones.
    pub ended_row: Option<Box<Rotation>>,
}

impl Transition {
    /// Returns a transition with no further facts.
    #[must_use]
    pub fn new(rotation: &RotationId, event: LifecycleEvent) -> Self {
        Self {
            rotation: rotation.clone(),
            event,
            credential: None,
            name: None,
            has_wrong_redaction: false,
            revoke_after: None,
            error: None,
            operator: None,
            ended_row: None,
        }
    }
}

/// The name of an adopted credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialName {
    /// The rotation.
    pub rotation: RotationId,
    /// The name that the provider shows.
    pub name: String,
}

/// An answer to a create that cannot be true, so that the create counts as unclear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedAnswer {
    /// The rotation.
    pub rotation: RotationId,
    /// Why it cannot be true, for people.
    pub problem: String,
    /// Whether it may be true nevertheless.
    pub is_doubt: bool,
}

/// What the provider shows of a credential now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialUpdate {
    /// The rotation.
    pub rotation: RotationId,
    /// The credential; what is not shown stays as it was.
    pub credential: CredentialMetadata,
    /// Whether the provider shows that it has no end, so that a recorded one is removed.
    pub is_endless: bool,
}

/// The next attempt at the current step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The rotation.
    pub rotation: RotationId,
    /// How often the step has failed.
    pub attempt: u32,
    /// The earliest time of the next attempt.
    pub retry_at: Timestamp,
    /// Why it failed.
    pub error: String,
}

/// A later end of a retired credential's overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapExtension {
    /// The rotation.
    pub rotation: RotationId,
    /// When the credential may be revoked.
    pub revoke_after: Timestamp,
}

/// Why and how long the revocation of a credential is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationDeferral {
    /// The rotation.
    pub rotation: RotationId,
    /// When the revocation is decided again.
    pub retry_at: Timestamp,
    /// The kind of reason.
    pub kind: DeferralKind,
    /// The reason, for people.
    pub reason: String,
    /// Whether the credential is revoked within a day although it is in use.
    pub final_warning: bool,
}

/// A live credential that the provider does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingCredential {
    /// The rotation.
    pub rotation: RotationId,
    /// When the provider first answered so, and the number of consecutive answers.
    pub missing: MissingSince,
}

/// A missing credential that the provider has again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCredential {
    /// The rotation.
    pub rotation: RotationId,
}

/// A secret that was taken again from the file that a delivery of its rotation left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredSecret {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink with that file.
    pub sink: SinkId,
}

/// A deleted credential that had another credential's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedDuplicate {
    /// The rotation with that label.
    pub rotation: RotationId,
    /// The deleted credential.
    pub credential: CredentialId,
}
