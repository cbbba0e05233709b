//! What can be recorded of a key. All changes of one call stand in the ledger together
//! or not at all.

use jiff::Timestamp;

use crate::core::ids::{CredentialId, Label, RotationId, SinkId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::{CredentialMetadata, DeliveryState, MissingSince, Pause, Trigger};

/// What the reason of [`Change::RevocationDeferred`] says on the last day before the
/// credential goes all the same.
pub const LAST_DAY_REASON: &str = "see that its consumers read the new one";

/// One thing to record about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A rotation is begun; nothing has been sent.
    RotationStarted(RotationIntent),
    /// A rotation moves on by an event.
    Transitioned(Transition),
    /// The present step of a rotation failed and is tried again.
    RetryScheduled {
        /// The rotation.
        rotation: RotationId,
        /// How often it has failed now.
        attempt: u32,
        /// Not before this is it tried again.
        retry_at: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// A person does not want to wait for the next try of a rotation.
    RetryRequested {
        /// The rotation.
        rotation: RotationId,
        /// Who said so, and why.
        operator: Option<OperatorNote>,
    },
    /// A delivery begins: from now on the sink may hold the secret.
    DeliveryStarted(DeliveryStart),
    /// A sink answered, or failed to.
    DeliveryFinished(DeliveryResult),
    /// A sink of this rotation is not configured any more.
    SinkRemoved {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// Since when, if it held the secret.
        removed_at: Option<Timestamp>,
    },
    /// A sink that came into the configuration while a rotation was open.
    SinkAdded {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// Whether the rotation waits for it.
        required: bool,
    },
    /// A sink that was removed is configured again: what it held when it was
    /// removed, it holds as if it had never been away.
    SinkReturned {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// An optional sink did not get the secret and will not.
    DeliverySkipped {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// The configuration now says otherwise whether this sink is required.
    SinkRequirementChanged {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// What it says now.
        required: bool,
    },
    /// A retired credential stays longer than was recorded.
    OverlapExtended {
        /// The rotation.
        rotation: RotationId,
        /// When it may be revoked now.
        revoke_after: Timestamp,
    },
    /// The provider said that it has no such credential.
    CredentialMissing {
        /// The rotation.
        rotation: RotationId,
        /// Since when, and how often in a row now.
        missing: MissingSince,
    },
    /// A credential that was missing is there.
    CredentialFound(RotationId),
    /// What a sink had accepted is not there any more.
    SinkDrifted {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// What was found instead.
        problem: String,
    },
    /// A retired credential is not revoked yet, for a reason that is no
    /// failure.
    RevocationDeferred {
        /// The rotation.
        rotation: RotationId,
        /// When it is looked at again.
        retry_at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A person's word that the schedule does not revoke a credential before
    /// `until`, or with none that it may again.
    HoldSet {
        /// The rotation.
        rotation: RotationId,
        /// Not before this.
        until: Option<Timestamp>,
        /// Who said so, and why.
        operator: Option<OperatorNote>,
    },
    /// A person's word that every older credential goes as soon as a new one
    /// is current, or that this has been done.
    RevokePreviousSet {
        /// Whether it is still to be done.
        is_pending: bool,
        /// Who said so, and why.
        operator: Option<OperatorNote>,
    },
    /// This credential goes as soon as it is retired, whoever may hold it.
    ImmediateRevocationSet(RotationId),
    /// A credential made by hand is taken over.
    CredentialAdopted(Adoption),
    /// Another credential bore the label of a rotation, and was deleted.
    DuplicateRevoked {
        /// The rotation.
        rotation: RotationId,
        /// The other credential.
        credential: CredentialId,
    },
    /// A rotation failed or could not be begun.
    KeyBackedOff {
        /// How often in a row now.
        attempt: u32,
        /// Not before this is another one begun by schedule.
        retry_at: Timestamp,
        /// Why.
        problem: String,
    },
    /// The key has nothing wrong with it any more.
    KeyRecovered,
    /// Firings are counted by this timetable from now on.
    TimetableChanged {
        /// As text.
        timetable: String,
        /// Firings up to this moment do not count.
        counts_from: Option<Timestamp>,
        /// What is to be made up for of the timetable before.
        pending_run: Option<Timestamp>,
    },
    /// A firing that nobody was there for.
    RunMissed {
        /// Which.
        firing: Timestamp,
        /// Why nobody was there.
        reason: DowntimeReason,
        /// Whether it is too old to be made up for.
        is_skipped: bool,
    },
    /// A person's word that nothing is begun by schedule, or that it may be
    /// again.
    PauseSet {
        /// Since when, and until when.
        pause: Pause,
        /// Who said so, and why.
        operator: Option<OperatorNote>,
    },
}

impl Change {
    /// Whether nothing has happened outside yet when it is recorded: where it
    /// cannot be, it is decided anew. A person's word is one, too: whoever gave
    /// it is told that it was not done.
    #[must_use]
    pub const fn is_decision(&self) -> bool {
        matches!(
            self,
            Self::RotationStarted(_)
                | Self::DeliveryStarted(_)
                | Self::TimetableChanged { .. }
                | Self::RunMissed { .. }
                | Self::PauseSet { .. }
                | Self::HoldSet { .. }
                | Self::RevokePreviousSet {
                    is_pending: true,
                    ..
                }
                | Self::CredentialAdopted(_)
        )
    }
}

/// Why nobody was there to see a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DowntimeReason {
    /// No rekeyd was running.
    NotRunning,
    /// The host slept, or its clock was set forward.
    Suspended,
    /// A person had paused the key.
    Paused,
}

impl DowntimeReason {
    /// In words, for the journal and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "rekeyd was not running",
            Self::Suspended => "the host slept, or its clock was set forward",
            Self::Paused => "the key was paused",
        }
    }
}

/// Who decided something by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorNote {
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Who it was.
    pub by: String,
}

/// A rotation that is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationIntent {
    /// Its id.
    pub rotation: RotationId,
    /// The name that its credential will bear.
    pub label: Label,
    /// Why it is begun.
    pub trigger: Trigger,
    /// The firing it is begun for.
    pub scheduled_for: Option<Timestamp>,
    /// The timetable it is begun by, as text.
    pub timetable: String,
    /// The sinks it goes to, in order, and which it waits for.
    pub sinks: Vec<(SinkId, bool)>,
    /// The person who asked for it.
    pub operator: Option<OperatorNote>,
}

/// A credential made by hand that is taken over. It gets no label: a name that
/// a person gave may stand on other credentials, and a label claims them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The id of its row.
    pub rotation: RotationId,
    /// The credential.
    pub credential: CredentialMetadata,
    /// [`LifecycleEvent::Adopted`] or [`LifecycleEvent::AdoptedAlongside`].
    pub event: LifecycleEvent,
    /// The key's sinks: any of them may hold it, since nobody saw how it got
    /// to its consumers.
    pub sinks: Vec<(SinkId, bool)>,
    /// The person who asked for it.
    pub operator: Option<OperatorNote>,
}

/// An event, with what is learnt by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The rotation.
    pub rotation: RotationId,
    /// What happened.
    pub event: LifecycleEvent,
    /// The credential, where the event tells of it first.
    pub credential: Option<CredentialMetadata>,
    /// Until when a credential that retires stays.
    pub revoke_after: Option<Timestamp>,
    /// Why it happened, where it is a failure.
    pub error: Option<String>,
    /// The person, where it is an act by hand.
    pub operator: Option<OperatorNote>,
}

impl Transition {
    /// An event with nothing learnt by it.
    #[must_use]
    pub fn new(rotation: &RotationId, event: LifecycleEvent) -> Self {
        Self {
            rotation: rotation.clone(),
            event,
            credential: None,
            revoke_after: None,
            error: None,
            operator: None,
        }
    }
}

/// A delivery that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStart {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
}

/// How a delivery stands after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResult {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// How it stands now.
    pub state: DeliveryState,
    /// Whether the secret stands where the sink keeps it, and what is to run
    /// then is owed.
    pub is_written: bool,
    /// When it was accepted, if it was: from then on what the sink held before
    /// is held for one overlap more. A clock that is behind does not count.
    pub accepted_at: Option<Timestamp>,
    /// Not before this is it tried again.
    pub retry_at: Option<Timestamp>,
    /// Why it was not accepted.
    pub error: Option<String>,
}

impl DeliveryResult {
    /// An attempt of which nothing is known yet but that it was made.
    #[must_use]
    pub fn uncertain(rotation: &RotationId, sink: &SinkId) -> Self {
        Self {
            rotation: rotation.clone(),
            sink: sink.clone(),
            state: DeliveryState::Uncertain,
            is_written: false,
            accepted_at: None,
            retry_at: None,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lifecycle::LifecycleEvent;

    #[test]
    fn only_changes_before_an_effect_are_decisions() {
        let rotation = RotationId::new([1; 8]);
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let begun = Change::DeliveryStarted(DeliveryStart {
            rotation: rotation.clone(),
            sink,
        });
        assert!(begun.is_decision());
        assert!(
            !Change::Transitioned(Transition::new(&rotation, LifecycleEvent::Created))
                .is_decision()
        );
    }

    #[test]
    fn each_downtime_reason_has_its_text() {
        for (why, words) in [
            (DowntimeReason::NotRunning, "rekeyd was not running"),
            (
                DowntimeReason::Suspended,
                "the host slept, or its clock was set forward",
            ),
            (DowntimeReason::Paused, "the key was paused"),
        ] {
            assert_eq!(why.as_str(), words);
        }
    }
}
