//! What can be recorded of a key. All changes of one call stand in the ledger together
//! or not at all.

use jiff::Timestamp;

use crate::core::names::{Label, RotationId, SinkId};
use crate::core::record::{CredentialFacts, DeliveryState, Trigger};
use crate::core::rotation::Event;

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
    /// The sinks it goes to, in order, and which it waits for.
    pub sinks: Vec<(SinkId, bool)>,
    /// The person's reason, and who it was.
    pub reason: Option<String>,
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
    /// Not before this is it tried again.
    pub retry_at: Option<Timestamp>,
    /// Why it was not accepted.
    pub error: Option<String>,
}
