//! What can be recorded of a key. All changes of one call stand in the ledger together
//! or not at all.

use jiff::Timestamp;

use crate::core::names::{CredentialId, Label, RotationId, SinkId};
use crate::core::record::{CredentialFacts, DeliveryState, Missing, Pause, Trigger};
use crate::core::rotation::Event;

/// What the reason of [`Change::HeldBack`] says on the last day before the
/// credential goes all the same.
pub const LAST_DAY: &str = "see that its consumers read the new one";

/// One thing to record about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A rotation is begun; nothing has been sent.
    Intended(Intent),
    /// A rotation moves on by an event.
    Moved(Moved),
    /// The present step of a rotation failed and is tried again.
    Postponed {
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
    TryNow {
        /// The rotation.
        rotation: RotationId,
        /// Who said so, and why.
        by_hand: Option<ByHand>,
    },
    /// A delivery begins: from now on the sink may hold the secret.
    Begun(Begun),
    /// A sink answered, or failed to.
    Answered(Answered),
    /// A sink of this rotation is not configured any more.
    SinkRemoved {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// Since when, if it held the secret.
        held_since: Option<Timestamp>,
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
    SinkMissed {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// The configuration now says otherwise whether this sink is required.
    SinkRequired {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// What it says now.
        required: bool,
    },
    /// A retired credential stays longer than was recorded.
    Extended {
        /// The rotation.
        rotation: RotationId,
        /// When it may be revoked now.
        revoke_after: Timestamp,
    },
    /// The provider said that it has no such credential.
    Missing {
        /// The rotation.
        rotation: RotationId,
        /// Since when, and how often in a row now.
        missing: Missing,
    },
    /// A credential that was missing is there.
    Found(RotationId),
    /// What a sink had accepted is not there any more.
    TargetLost {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
        /// What was found instead.
        problem: String,
    },
    /// A retired credential is not revoked yet, for a reason that is no
    /// failure.
    HeldBack {
        /// The rotation.
        rotation: RotationId,
        /// When it is looked at again.
        retry_at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A person's word that the schedule does not revoke a credential before
    /// `until`, or with none that it may again.
    Hold {
        /// The rotation.
        rotation: RotationId,
        /// Not before this.
        until: Option<Timestamp>,
        /// Who said so, and why.
        by_hand: Option<ByHand>,
    },
    /// A person's word that every older credential goes as soon as a new one
    /// is current, or that this has been done.
    RevokePrevious {
        /// Whether it is still to be done.
        wanted: bool,
        /// Who said so, and why.
        by_hand: Option<ByHand>,
    },
    /// This credential goes as soon as it is retired, whoever may hold it.
    RevokeNow(RotationId),
    /// A credential made by hand is taken over.
    Adopted(Adoption),
    /// Another credential bore the label of a rotation, and was deleted.
    DoubleRevoked {
        /// The rotation.
        rotation: RotationId,
        /// The other credential.
        credential: CredentialId,
    },
    /// A rotation failed or could not be begun.
    Deferred {
        /// How often in a row now.
        attempt: u32,
        /// Not before this is another one begun by schedule.
        retry_at: Timestamp,
        /// Why.
        problem: String,
    },
    /// The key has nothing wrong with it any more.
    Recovered,
    /// Firings are counted by this timetable from now on.
    Timetabled {
        /// As text.
        timetable: String,
        /// Firings up to this moment do not count.
        counts_from: Option<Timestamp>,
        /// What is to be made up for of the timetable before.
        owed: Option<Timestamp>,
    },
    /// A firing that nobody was there for.
    Missed {
        /// Which.
        firing: Timestamp,
        /// Why nobody was there.
        why: Why,
        /// Whether it is too old to be made up for.
        dropped: bool,
    },
    /// A person's word that nothing is begun by schedule, or that it may be
    /// again.
    Paused {
        /// Since when, and until when.
        pause: Pause,
        /// Who said so, and why.
        by_hand: Option<ByHand>,
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
            Self::Intended(_)
                | Self::Begun(_)
                | Self::Timetabled { .. }
                | Self::Missed { .. }
                | Self::Paused { .. }
                | Self::Hold { .. }
                | Self::RevokePrevious { wanted: true, .. }
                | Self::Adopted(_)
        )
    }
}

/// Why nobody was there to see a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No rekeyd was running.
    Down,
    /// The host slept, or its clock was set forward.
    Asleep,
    /// A person had paused the key.
    Paused,
}

impl Why {
    /// In words, for the journal and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "rekeyd was not running",
            Self::Asleep => "the host slept, or its clock was set forward",
            Self::Paused => "the key was paused",
        }
    }
}

/// Who decided something by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Who it was.
    pub by: String,
}

/// A rotation that is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
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
    pub by_hand: Option<ByHand>,
}

/// A credential made by hand that is taken over. It gets no label: a name that
/// a person gave may stand on other credentials, and a label claims them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The id of its row.
    pub rotation: RotationId,
    /// The credential.
    pub credential: CredentialFacts,
    /// [`Event::Adopted`] or [`Event::AdoptedBesides`].
    pub event: Event,
    /// The key's sinks: any of them may hold it, since nobody saw how it got
    /// to its consumers.
    pub sinks: Vec<(SinkId, bool)>,
    /// The person who asked for it.
    pub by_hand: Option<ByHand>,
}

/// An event, with what is learnt by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The rotation.
    pub rotation: RotationId,
    /// What happened.
    pub event: Event,
    /// The credential, where the event tells of it first.
    pub credential: Option<CredentialFacts>,
    /// Until when a credential that retires stays.
    pub revoke_after: Option<Timestamp>,
    /// Why it happened, where it is a failure.
    pub error: Option<String>,
    /// The person, where it is an act by hand.
    pub by_hand: Option<ByHand>,
}

impl Moved {
    /// An event with nothing learnt by it.
    #[must_use]
    pub fn new(rotation: &RotationId, event: Event) -> Self {
        Self {
            rotation: rotation.clone(),
            event,
            credential: None,
            revoke_after: None,
            error: None,
            by_hand: None,
        }
    }
}

/// A delivery that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
}

/// How a delivery stands after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The rotation.
    pub rotation: RotationId,
    /// The sink.
    pub sink: SinkId,
    /// How it stands now.
    pub state: DeliveryState,
    /// Whether the secret stands where the sink keeps it, and what is to run
    /// then is owed.
    pub written: bool,
    /// When it was accepted, if it was: from then on what the sink held before
    /// is held for one overlap more. A clock that is behind does not count.
    pub accepted_at: Option<Timestamp>,
    /// Not before this is it tried again.
    pub retry_at: Option<Timestamp>,
    /// Why it was not accepted.
    pub error: Option<String>,
}

impl Answered {
    /// An attempt of which nothing is known yet but that it was made.
    #[must_use]
    pub fn uncertain(rotation: &RotationId, sink: &SinkId) -> Self {
        Self {
            rotation: rotation.clone(),
            sink: sink.clone(),
            state: DeliveryState::Uncertain,
            written: false,
            accepted_at: None,
            retry_at: None,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rotation::Event;

    #[test]
    fn what_has_happened_is_no_decision() {
        let rotation = RotationId::new([1; 8]);
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let begun = Change::Begun(Begun {
            rotation: rotation.clone(),
            sink,
        });
        assert!(begun.is_decision());
        assert!(!Change::Moved(Moved::new(&rotation, Event::Created)).is_decision());
    }

    #[test]
    fn each_absence_has_its_words() {
        for (why, words) in [
            (Why::Down, "rekeyd was not running"),
            (Why::Asleep, "the host slept, or its clock was set forward"),
            (Why::Paused, "the key was paused"),
        ] {
            assert_eq!(why.as_str(), words);
        }
    }
}
