//! The words of the ledger's event log: its events, and the members of their details.

use crate::core::lifecycle::LifecycleEvent;

/// What an event of the ledger's event log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerEventKind {
    /// A transition of a rotation.
    Lifecycle(LifecycleEvent),
    /// A rotation's secret was read back from a sink.
    SecretRecovered,
    /// The answer to a create cannot be true.
    AnswerRejected,
    /// The provider shows the credential under another name than its label.
    CredentialNamed,
    /// The provider shows other facts of the credential.
    CredentialUpdated,
    /// The provider's list lacks the credential.
    CredentialMissing,
    /// The provider's list has the credential again.
    CredentialFound,
    /// A second credential with the same label was revoked.
    DuplicateRevoked,
    /// A sink holds a retired credential again.
    RetiredSeen,
    /// A sink no longer holds a retired credential.
    SightingEnded,
    /// A revocation waits.
    RevocationDeferred,
    /// An operator set the deadline of a credential that may have leaked.
    RevocationDeadlineSet,
    /// The credential is revoked without waiting for its overlap.
    ImmediateRevocationRequested,
    /// The overlap ends later.
    OverlapExtended,
    /// A delivery starts.
    DeliveryStarted,
    /// A file is written, and its `on-change` program has yet to succeed.
    DeliveryWritten,
    /// The sink accepted the secret.
    DeliveryAccepted,
    /// The sink certainly did not accept the secret.
    DeliveryRefused,
    /// The sink may have accepted the secret.
    DeliveryUncertain,
    /// A newer rotation overtook the delivery to an optional sink.
    DeliverySkipped,
    /// The `on-change` program of a written file failed.
    OnChangeFailed,
    /// A sink was added to the configuration.
    SinkAdded,
    /// A sink was removed from the configuration.
    SinkRemoved,
    /// A removed sink is in the configuration again.
    SinkReturned,
    /// A sink no longer holds what was delivered.
    SinkDrifted,
    /// The owner, the group and the mode of a file were recorded that a delivery of an earlier
    /// version left.
    FileAccessRecorded,
    /// The owner, the group or the mode of a file is not what its delivery left.
    FileAccessDiffers,
    /// They are what the delivery left again, or what is configured.
    FileAccessRestored,
    /// The mode of a file was wider than its delivery left it, and was narrowed.
    FileNarrowed,
    /// The schedule changed.
    TimetableChanged,
    /// A scheduled run fell due, and no rotation can start yet.
    RunDue,
    /// A scheduled run was missed.
    RunMissed,
    /// The key waits before its next rotation, because one failed.
    KeyBackedOff,
    /// An operator requested a rotation for which nobody waits.
    RotationRequested,
    /// An operator requested a retry at once.
    RetryRequested,
    /// An operator requested that the next rotation revokes the previous credential.
    RevokePreviousRequested,
    /// An operator allowed to replace a credential that the ledger does not know.
    ReplacementAllowed,
    /// An operator holds the credential.
    HoldSet,
    /// An operator released the credential.
    HoldReleased,
    /// An operator paused the key.
    Paused,
    /// An operator resumed the key.
    Resumed,
    /// An operator retired the key.
    KeyRetired,
    /// An operator undid the retirement of the key.
    RetirementUndone,
    /// The configuration renamed the key.
    KeyRenamed,
    /// An operator had rotations pruned that are in an archive.
    LedgerPruned,
    /// The credential of a pruned rotation was seen, which has its row again.
    RowReturned,
    /// The process before ended by a panic, or was killed.
    Crashed,
}

impl From<LifecycleEvent> for LedgerEventKind {
    fn from(event: LifecycleEvent) -> Self {
        Self::Lifecycle(event)
    }
}

impl LedgerEventKind {
    /// Every kind but the transitions.
    pub const OTHER_THAN_LIFECYCLE: [Self; 46] = [
        Self::SecretRecovered,
        Self::AnswerRejected,
        Self::CredentialNamed,
        Self::CredentialUpdated,
        Self::CredentialMissing,
        Self::CredentialFound,
        Self::DuplicateRevoked,
        Self::RetiredSeen,
        Self::SightingEnded,
        Self::RevocationDeferred,
        Self::RevocationDeadlineSet,
        Self::ImmediateRevocationRequested,
        Self::OverlapExtended,
        Self::DeliveryStarted,
        Self::DeliveryWritten,
        Self::DeliveryAccepted,
        Self::DeliveryRefused,
        Self::DeliveryUncertain,
        Self::DeliverySkipped,
        Self::OnChangeFailed,
        Self::SinkAdded,
        Self::SinkRemoved,
        Self::SinkReturned,
        Self::SinkDrifted,
        Self::FileAccessRecorded,
        Self::FileAccessDiffers,
        Self::FileAccessRestored,
        Self::FileNarrowed,
        Self::TimetableChanged,
        Self::RunDue,
        Self::RunMissed,
        Self::KeyBackedOff,
        Self::RotationRequested,
        Self::RetryRequested,
        Self::RevokePreviousRequested,
        Self::ReplacementAllowed,
        Self::HoldSet,
        Self::HoldReleased,
        Self::Paused,
        Self::Resumed,
        Self::KeyRetired,
        Self::RetirementUndone,
        Self::KeyRenamed,
        Self::LedgerPruned,
        Self::RowReturned,
        Self::Crashed,
    ];

    /// Returns every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let transitions = LifecycleEvent::ALL.into_iter().map(Self::Lifecycle);
        transitions.chain(Self::OTHER_THAN_LIFECYCLE)
    }

    /// Returns the kind's word in the event log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle(event) => event.as_str(),
            Self::SecretRecovered => "secret-recovered",
            Self::AnswerRejected => "answer-rejected",
            Self::CredentialNamed => "credential-named",
            Self::CredentialUpdated => "credential-updated",
            Self::CredentialMissing => "credential-missing",
            Self::CredentialFound => "credential-found",
            Self::DuplicateRevoked => "duplicate-revoked",
            Self::RetiredSeen => "retired-seen",
            Self::SightingEnded => "sighting-ended",
            Self::RevocationDeferred => "revocation-deferred",
            Self::RevocationDeadlineSet => "revocation-deadline-set",
            Self::ImmediateRevocationRequested => "immediate-revocation-requested",
            Self::OverlapExtended => "overlap-extended",
            Self::DeliveryStarted => "delivery-started",
            Self::DeliveryWritten => "delivery-written",
            Self::DeliveryAccepted => "delivery-accepted",
            Self::DeliveryRefused => "delivery-refused",
            Self::DeliveryUncertain => "delivery-uncertain",
            Self::DeliverySkipped => "delivery-skipped",
            Self::OnChangeFailed => "on-change-failed",
            Self::SinkAdded => "sink-added",
            Self::SinkRemoved => "sink-removed",
            Self::SinkReturned => "sink-returned",
            Self::SinkDrifted => "sink-drifted",
            Self::FileAccessRecorded => "file-access-recorded",
            Self::FileAccessDiffers => "file-access-differs",
            Self::FileAccessRestored => "file-access-restored",
            Self::FileNarrowed => "file-narrowed",
            Self::TimetableChanged => "timetable-changed",
            Self::RunDue => "run-due",
            Self::RunMissed => "run-missed",
            Self::KeyBackedOff => "key-backed-off",
            Self::RotationRequested => "rotation-requested",
            Self::RetryRequested => "retry-requested",
            Self::RevokePreviousRequested => "revoke-previous-requested",
            Self::ReplacementAllowed => "replacement-allowed",
            Self::HoldSet => "hold-set",
            Self::HoldReleased => "hold-released",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::KeyRetired => "key-retired",
            Self::RetirementUndone => "retirement-undone",
            Self::KeyRenamed => "key-renamed",
            Self::LedgerPruned => "ledger-pruned",
            Self::RowReturned => "row-returned",
            Self::Crashed => "crashed",
        }
    }
}

/// The names of the members that the details of events have.
pub const EVENT_DETAILS: [&str; 32] = [
    "archive",
    "attempt",
    "before",
    "by",
    "checks",
    "counts_from",
    "created_at",
    "credential_id",
    "doubt",
    "expires_at",
    "extra",
    "firing",
    "forced",
    "from",
    "label",
    "location",
    "name",
    "outcome",
    "pending_run",
    "phase",
    "reason",
    "redacted_value",
    "revoke_after",
    "rotations",
    "scheduled_for",
    "sink",
    "target",
    "timetable",
    "to",
    "trigger",
    "until",
    "version",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let words: BTreeSet<_> = LedgerEventKind::all()
            .map(LedgerEventKind::as_str)
            .collect();
        assert_eq!(words.len(), LedgerEventKind::all().count());
    }
}
