//! Changes that an operator requests.

use jiff::Timestamp;

use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, Pause, Retirement, RevocationDeadline};

/// A change that carries out an operator's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorChange {
    /// A rotation does not wait for its next attempt.
    RetryRequested(RetryRequest),
    /// The schedule may not revoke a credential before a time, or may again.
    HoldSet(CredentialHold),
    /// The revocation of every older credential, once a new one is current, was
    /// requested or done.
    RevokePreviousSet(PreviousRevocation),
    /// A rotation may replace keys that this ledger did not write.
    ReplacementAllowed(ReplacementApproval),
    /// A credential is revoked as soon as it retires, even if a sink holds it.
    ImmediateRevocationSet(ImmediateRevocation),
    /// A credential that may have leaked ends at a deadline.
    DeadlineSet(DeadlineUpdate),
    /// A credential that was created manually is adopted.
    CredentialAdopted(Adoption),
    /// Scheduled rotations are paused or resumed.
    PauseSet(PauseUpdate),
    /// The key is retired.
    KeyRetired(KeyRetirement),
    /// The key is no longer retired.
    RetirementUndone(UndoneRetirement),
}

/// The operator of a request, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorNote {
    /// The operator's reason.
    pub reason: Option<String>,
    /// The operator's name.
    pub by: String,
}

/// A request to retry an open rotation now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRequest {
    /// The rotation.
    pub rotation: RotationId,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// An operator's hold on a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialHold {
    /// The rotation.
    pub rotation: RotationId,
    /// The end of the hold; none releases the credential.
    pub until: Option<Timestamp>,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// Whether a key's older credentials are revoked when a new one is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousRevocation {
    /// Whether it is still to be done.
    pub is_pending: bool,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// An operator's approval that a rotation replaces keys that this ledger did not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacementApproval {
    /// The targets that the key's sinks had when it was given.
    pub targets: Vec<String>,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// A credential that is revoked as soon as it retires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImmediateRevocation {
    /// The rotation.
    pub rotation: RotationId,
}

/// The deadline of a credential that may have leaked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlineUpdate {
    /// The rotation.
    pub rotation: RotationId,
    /// The deadline. One that was set before and is earlier stays.
    pub deadline: RevocationDeadline,
    /// The other keys whose files hold the credential, although they did not adopt it: the
    /// same commit adopts it into them, so that it ends for them as for every other key.
    pub holders: Vec<UnadoptedHolder>,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// A key whose files hold a credential that it has no row of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnadoptedHolder {
    /// The key.
    pub key: KeyName,
    /// The id of its row.
    pub rotation: RotationId,
    /// The sinks whose files hold the credential, and whether each is required.
    pub sinks: Vec<(SinkId, bool)>,
}

/// A manually created credential that is adopted. It has no label: a label would
/// claim every credential with the name that a person gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The id of its row.
    pub rotation: RotationId,
    /// The scope of the credential.
    pub scope: Scope,
    /// Its sequence, by [`crate::core::state::KeyState::next_sequence`].
    pub sequence: u64,
    /// The credential.
    pub credential: CredentialMetadata,
    /// Its name at the provider.
    pub name: Option<String>,
    /// [`LifecycleEvent::Adopted`] or [`LifecycleEvent::AdoptedAlongside`].
    pub event: LifecycleEvent,
    /// An operator's hold on the credential, of another key that has it.
    pub hold: Option<Box<SharedHold>>,
    /// The key's sinks: any of them may hold it, since no delivery of it was
    /// recorded.
    pub sinks: Vec<(SinkId, bool)>,
    /// The sinks whose targets were seen to hold it, and no key that is unknown. If it
    /// becomes current, they count as having accepted it.
    pub seen_in: Vec<SinkId>,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// An operator's hold on a credential, as another key's row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedHold {
    /// The end of the hold, as the row has it.
    pub until: Timestamp,
    /// The operator who holds it, and the reason.
    pub operator: Option<OperatorNote>,
}

/// The state of an operator's pause of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseUpdate {
    /// Its start and end.
    pub pause: Pause,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// A key that is retired, or whose retirement is made immediate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRetirement {
    /// Its start, and how its credentials end.
    pub retirement: Retirement,
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}

/// The end of a key's retirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneRetirement {
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
}
