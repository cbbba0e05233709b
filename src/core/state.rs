//! What the ledger remembers of a key, as the decisions need it.

use jiff::Timestamp;

use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;

/// Why a rotation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The key was never rotated before.
    First,
    /// Its schedule fired.
    Schedule,
    /// Its schedule fired while nobody was there.
    CatchUp,
    /// The rotation before this one failed.
    Retry,
    /// A sink or the provider is not as the ledger says it should be.
    Repair,
    /// A person asked.
    Manual,
    /// A credential made by hand was taken over.
    Adopted,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 7] = [
        Self::First,
        Self::Schedule,
        Self::CatchUp,
        Self::Retry,
        Self::Repair,
        Self::Manual,
        Self::Adopted,
    ];

    /// The trigger's word in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Schedule => "schedule",
            Self::CatchUp => "catch-up",
            Self::Retry => "retry",
            Self::Repair => "repair",
            Self::Manual => "manual",
            Self::Adopted => "adopted",
        }
    }

    /// Reads the word that [`Trigger::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|trigger| trigger.as_str() == text)
    }
}

/// What is known of a credential besides its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialMetadata {
    /// Its id at the provider.
    pub id: CredentialId,
    /// Its secret as the provider shows it later, `sk-admin...def`.
    pub redacted_value: Option<String>,
    /// When it was made, by the provider's clock.
    pub created_at: Option<Timestamp>,
    /// When it ends by itself, if it does.
    pub expires_at: Option<Timestamp>,
}

/// One rotation as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id in this ledger.
    pub id: RotationId,
    /// The scope that its credential belongs to.
    pub scope: Scope,
    /// Grows with each rotation of the key: see [`KeyState::next_sequence`].
    pub sequence: u64,
    /// Why it was begun.
    pub trigger: Trigger,
    /// The firing it was begun for.
    pub scheduled_for: Option<Timestamp>,
    /// When it was begun.
    pub started_at: Timestamp,
    /// The name of its credential at the provider; none for one that was
    /// adopted.
    pub label: Option<Label>,
    /// Its credential, once there is one.
    pub credential: Option<CredentialMetadata>,
    /// Where it stands.
    pub phase: Phase,
    /// When it became current.
    pub current_at: Option<Timestamp>,
    /// When it retired.
    pub retired_at: Option<Timestamp>,
    /// When it may be revoked, once it is retired.
    pub revoke_after: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<String>,
    /// How often its present step has failed.
    pub attempt: u32,
    /// Not before this is its present step tried again.
    pub retry_at: Option<Timestamp>,
    /// Since when it is stranded, or was before it retired.
    pub stranded_at: Option<Timestamp>,
    /// The provider said that it has no such credential, and has not been
    /// asked often enough to be believed.
    pub missing: Option<MissingSince>,
    /// A person said that the schedule does not revoke it before this.
    pub hold_until: Option<Timestamp>,
    /// A person said that it goes as soon as a newer one is current, whoever
    /// may hold it.
    pub revoke_now: bool,
    /// Whether its revocation is deferred for the last day, since it is still in
    /// use: [`Rotation::error`] is the reason then.
    pub final_warning: bool,
    /// Whether its create was sent, or maybe sent, and counts as one. An
    /// adopted credential was created by others.
    pub maybe_created: bool,
    /// Its deliveries, in the order they are made.
    pub deliveries: Vec<Delivery>,
}

impl Rotation {
    /// Returns a rotation of which only this is known.
    #[must_use]
    pub fn new(
        id: RotationId,
        scope: Scope,
        sequence: u64,
        trigger: Trigger,
        phase: Phase,
        started_at: Timestamp,
    ) -> Self {
        Self {
            id,
            scope,
            sequence,
            trigger,
            scheduled_for: None,
            started_at,
            label: None,
            credential: None,
            phase,
            current_at: None,
            retired_at: None,
            revoke_after: None,
            revoked_at: None,
            error: None,
            attempt: 0,
            retry_at: None,
            stranded_at: None,
            missing: None,
            hold_until: None,
            revoke_now: false,
            final_warning: false,
            maybe_created: false,
            deliveries: Vec::new(),
        }
    }

    /// Adds a delivery to each sink, with whether it is required.
    pub fn add_deliveries(&mut self, sinks: &[(SinkId, bool)], state: DeliveryState) {
        let added = sinks.iter().map(|(sink, required)| Delivery {
            sink: sink.clone(),
            required: *required,
            state,
            maybe_accepted: false,
            attempts: 0,
            last_attempt_at: None,
            written_at: None,
            accepted_at: None,
            removed_at: None,
            retry_at: None,
            error: None,
        });
        self.deliveries.extend(added);
    }

    /// Whether it can go on without its secret: what is left of it is to run
    /// what follows a file that has changed.
    #[must_use]
    pub fn can_finish_without_secret(&self) -> bool {
        let mut owed = self
            .deliveries
            .iter()
            .filter(|delivery| delivery.required && delivery.is_outstanding())
            .peekable();
        self.phase == Phase::Verified
            && owed.peek().is_some()
            && owed.all(|delivery| delivery.written_at.is_some())
    }
}

/// A credential at the provider that looks like one of a key's and has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookalike {
    /// The key whose labels its name looks like.
    pub key: KeyName,
    /// Its id at the provider.
    pub id: CredentialId,
    /// Its name there.
    pub name: String,
}

/// That the provider answered 404 for a credential that should be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingSince {
    /// When it said so first.
    pub since: Timestamp,
    /// How often in a row it has, at least 1.
    pub checks: u32,
}

/// How a delivery of one rotation to one sink stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Not begun.
    Pending,
    /// Begun or about to, its outcome unknown: the sink holds the secret.
    Uncertain,
    /// The sink took it.
    Accepted,
    /// The sink certainly did not take it.
    Refused,
    /// An optional sink that was given up.
    Missed,
    /// The sink is not in the configuration any more.
    Removed,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Uncertain,
        Self::Accepted,
        Self::Refused,
        Self::Missed,
        Self::Removed,
    ];

    /// The state's word in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Uncertain => "uncertain",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Missed => "missed",
            Self::Removed => "removed",
        }
    }

    /// Reads the word that [`DeliveryState::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// One delivery as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// To which sink.
    pub sink: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
    /// How it stands.
    pub state: DeliveryState,
    /// Whether any try may have been taken: a later refusal does not undo that.
    pub maybe_accepted: bool,
    /// How many attempts were answered, in whatever way.
    pub attempts: u32,
    /// When the last one was.
    pub last_attempt_at: Option<Timestamp>,
    /// Since when it stands where the sink keeps it, if what is to run then is
    /// still owed. The secret is not needed any more.
    pub written_at: Option<Timestamp>,
    /// When the sink accepted it.
    pub accepted_at: Option<Timestamp>,
    /// Since when the sink is not configured any more, if it held the secret.
    pub removed_at: Option<Timestamp>,
    /// Not before this is it tried again.
    pub retry_at: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<String>,
}

impl Delivery {
    /// Whether the sink has not accepted yet and is still to be asked.
    #[must_use]
    pub const fn is_outstanding(&self) -> bool {
        match self.state {
            DeliveryState::Pending | DeliveryState::Uncertain | DeliveryState::Refused => true,
            DeliveryState::Accepted | DeliveryState::Missed | DeliveryState::Removed => false,
        }
    }

    /// Whether the sink may ever have seen the secret.
    #[must_use]
    pub const fn was_started(&self) -> bool {
        match self.state {
            DeliveryState::Pending => false,
            // One that held nothing when it was removed.
            DeliveryState::Removed => self.removed_at.is_some(),
            DeliveryState::Uncertain
            | DeliveryState::Accepted
            | DeliveryState::Refused
            | DeliveryState::Missed => true,
        }
    }

    /// Whether the secret is needed to go on with it.
    #[must_use]
    pub const fn needs_secret(&self) -> bool {
        self.is_outstanding() && self.written_at.is_none()
    }
}

/// Everything the ledger knows of one key that a decision may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// Its name.
    pub key: KeyName,
    /// The sequence of its newest rotation, 0 before the first.
    pub sequence: u64,
    /// How its newest rotation stands; none before the first.
    pub newest_phase: Option<Phase>,
    /// The newest rotation that is or ever was current.
    pub last_current: Option<LastCurrent>,
    /// How often in a row a rotation of this key failed to become current, or
    /// could not be begun.
    pub attempt: u32,
    /// Not before this is a rotation begun by schedule.
    pub retry_at: Option<Timestamp>,
    /// Why the last one failed or could not be begun.
    pub problem: Option<String>,
    /// A person wants every older credential revoked as soon as a new one is
    /// current.
    pub revoke_previous: bool,
    /// The timetable that its firings were last counted by, as text.
    pub timetable: Option<String>,
    /// Firings up to this moment are settled: what they were is told in the
    /// journal, or the timetable was another one then.
    pub counts_from: Option<Timestamp>,
    /// A firing of the timetable before this one that is still to be made up
    /// for.
    pub pending_run: Option<Timestamp>,
    /// A person's word that nothing is begun by schedule.
    pub pause: Option<Pause>,
    /// Its live rotations, oldest first.
    pub live: Vec<Rotation>,
}

/// The newest rotation of a key that is or ever was current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCurrent {
    /// Its sequence.
    pub sequence: u64,
    /// Whether its credential is revoked.
    pub is_revoked: bool,
}

/// That a person paused a key; over, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub from: Timestamp,
    /// Until when; none until a person resumes it.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Whether it is not over yet.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl KeyState {
    /// A key that the ledger has never heard of.
    #[must_use]
    pub fn unknown(key: KeyName) -> Self {
        Self {
            key,
            sequence: 0,
            newest_phase: None,
            last_current: None,
            attempt: 0,
            retry_at: None,
            problem: None,
            revoke_previous: false,
            timetable: None,
            counts_from: None,
            pending_run: None,
            pause: None,
            live: Vec::new(),
        }
    }

    /// The key's current rotation.
    #[must_use]
    pub fn current(&self) -> Option<&Rotation> {
        self.live
            .iter()
            .find(|rotation| rotation.phase == Phase::Current)
    }

    /// The key's open rotation.
    #[must_use]
    pub fn open_rotation(&self) -> Option<&Rotation> {
        self.live.iter().find(|rotation| rotation.phase.is_open())
    }

    /// Whether the credential that was current last is revoked and none is
    /// current now: its consumers hold a dead one, whatever failed since.
    #[must_use]
    pub fn has_lost_credential(&self) -> bool {
        self.current().is_none() && self.last_current.is_some_and(|last| last.is_revoked)
    }

    /// The sequence of a rotation that starts at `now`. It is never less than
    /// the time in seconds, so that a restored ledger, a renamed key or a
    /// database that lost commits counts beyond what sinks have applied.
    #[must_use]
    pub fn next_sequence(&self, now: Timestamp) -> u64 {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        seconds.max(self.sequence.saturating_add(1))
    }

    /// Whether a person has paused it, and the pause is not over.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.pause.is_some_and(|pause| pause.is_active(now))
    }

    /// One live rotation.
    #[must_use]
    pub fn rotation(&self, id: &RotationId) -> Option<&Rotation> {
        self.live.iter().find(|rotation| rotation.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_and_delivery_state_texts_round_trip() {
        for trigger in Trigger::ALL {
            assert_eq!(Trigger::from_text(trigger.as_str()), Some(trigger));
        }
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_text(state.as_str()), Some(state));
        }
        assert_eq!(Trigger::from_text("nonsense"), None);
        assert_eq!(DeliveryState::from_text(""), None);
    }
}
