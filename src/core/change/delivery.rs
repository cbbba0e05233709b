//! Changes to a delivery of a rotation to a sink.

use jiff::Timestamp;

use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::state::{DeliveryState, FileAccess, LeftFile, ModeNarrowing};

/// A change to one delivery of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryChange {
    /// A delivery starts: from now on the sink may hold the secret.
    Started(DeliveryStart),
    /// A delivery attempt ended.
    Finished(DeliveryResult),
    /// An optional sink does not receive this secret any more.
    Skipped(SkippedDelivery),
    /// A sink was configured while the rotation was open.
    SinkAdded(AddedSink),
    /// A sink of this rotation is not configured any more.
    SinkRemoved(RemovedSink),
    /// A removed sink is configured again: it still holds the secret that it held
    /// then.
    SinkReturned(ReturnedSink),
    /// The configuration changed whether this sink is required.
    SinkRequirementChanged(SinkRequirement),
    /// A sink's content is no longer the secret that it accepted.
    SinkDrifted(SinkDrift),
    /// The file of a delivery that recorded no owner, group and mode was checked.
    FileAccessSeen(SeenFileAccess),
    /// Others can get the file of a delivery than it left, or its owner and group cannot any
    /// more; or that is over.
    FileAccessCompared(ComparedFileAccess),
    /// The mode of the file of a delivery was wider than it left it, and is narrowed.
    FileNarrowed(NarrowedFile),
    /// A sink whose content drifted is not repaired yet after all.
    RepairWithdrawn(WithdrawnRepair),
    /// A sink's target holds a retired credential again.
    RetiredSeen(RetiredSighting),
    /// A sink's target does not hold such a credential any more.
    SightingEnded(EndedSighting),
}

/// A delivery that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStart {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
}

/// The state of a delivery after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResult {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// The state after the attempt.
    pub state: DeliveryState,
    /// The state of the sink's `on-change` command.
    pub on_change: OnChangeState,
    /// When the sink accepted the secret: the credential that it held before is
    /// kept for one overlap from then on.
    pub accepted_at: Option<Timestamp>,
    /// The earliest time of the next attempt.
    pub retry_at: Option<Timestamp>,
    /// Why the sink did not accept.
    pub error: Option<String>,
    /// The file that the attempt wrote.
    pub file: Option<LeftFile>,
}

impl DeliveryResult {
    /// Returns the result of an attempt whose outcome is unknown.
    #[must_use]
    pub fn uncertain(rotation: &RotationId, sink: &SinkId) -> Self {
        Self {
            rotation: rotation.clone(),
            sink: sink.clone(),
            state: DeliveryState::Uncertain,
            on_change: OnChangeState::NotPending,
            accepted_at: None,
            retry_at: None,
            error: None,
            file: None,
        }
    }
}

/// The state of a sink's `on-change` command after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChangeState {
    /// No command is pending: the sink's file does not hold the secret, the sink has
    /// no command, or the command succeeded.
    NotPending,
    /// The file was written, and the command has not run since.
    Pending,
    /// The file holds the secret. The command failed and is run again.
    Failed,
}

impl OnChangeState {
    /// Returns whether the file holds the secret and the command has not succeeded.
    #[must_use]
    pub const fn is_outstanding(self) -> bool {
        match self {
            Self::Pending | Self::Failed => true,
            Self::NotPending => false,
        }
    }
}

/// A delivery to an optional sink that is abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedDelivery {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
}

/// A sink that an open rotation is delivered to as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedSink {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
}

/// A sink that left the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSink {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// When it was removed, if it held the secret.
    pub removed_at: Option<Timestamp>,
}

/// A removed sink that is configured again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedSink {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Whether its file is the one that the delivery left, so that the recorded delivery
    /// counts.
    pub is_unchanged: bool,
}

/// Whether a rotation waits for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRequirement {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Whether the sink is required.
    pub required: bool,
}

/// A sink whose content differs from what it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkDrift {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// How the content differs, as text for people.
    pub problem: String,
}

/// The owner, the group and the mode of a file whose delivery recorded none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFileAccess {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Who could get the file.
    pub access: FileAccess,
}

/// How owner, group and mode of the file of an accepted delivery differ from those that it
/// left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedFileAccess {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// The difference, and what to do about it; none if there is none any more.
    pub problem: Option<String>,
}

/// The file of a delivery whose mode was narrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarrowedFile {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Its mode, before and now.
    pub mode: ModeNarrowing,
}

impl NarrowedFile {
    /// Describes for people what was found and done, and what a person does.
    #[must_use]
    pub fn describe(&self, key: &KeyName) -> String {
        let (sink, ModeNarrowing { from, to, .. }) = (&self.sink, self.mode);
        format!(
            "the file of {sink} was open to other users (mode {from:04o}) and is narrowed to \
             {to:04o}; hint: if they are not to have the key, run `rekeyd rotate {key}`"
        )
    }
}

/// A sink whose recorded drift counts no longer: its target holds the current secret, or a
/// retired credential that may stay for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawnRepair {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
}

/// A retired credential that a sink's target holds again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredSighting {
    /// The rotation of the retired credential.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// Whether the sink is required.
    pub required: bool,
}

/// A retired credential that a sink's target no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSighting {
    /// The rotation of the retired credential.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// When the overlap of its consumers begins.
    pub at: Timestamp,
}
