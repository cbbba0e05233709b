//! The state of a key in the ledger, as the decisions need it.

use jiff::Timestamp;

use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;

/// Why a rotation started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The key was never rotated before.
    First,
    /// Its schedule fired.
    Schedule,
    /// Its schedule fired while the daemon could not rotate it.
    CatchUp,
    /// The previous rotation failed.
    Retry,
    /// A sink or the provider disagrees with the ledger.
    Repair,
    /// An operator requested it.
    Manual,
    /// An operator adopted a manually created credential.
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

    /// Returns the trigger's word in the ledger.
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

    /// Parses the word that [`Trigger::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|trigger| trigger.as_str() == text)
    }
}

/// The facts about a credential beside its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialMetadata {
    /// Its id at the provider.
    pub id: CredentialId,
    /// Its secret as the provider lists it, `sk-admin...def`.
    pub redacted_value: Option<String>,
    /// When the provider created it, by the provider's clock.
    pub created_at: Option<Timestamp>,
    /// When it expires, if it does.
    pub expires_at: Option<Timestamp>,
}

/// A recorded rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id in this ledger.
    pub id: RotationId,
    /// The scope that its credential belongs to.
    pub scope: Scope,
    /// Its sequence, which grows with each rotation of the key: see
    /// [`KeyState::next_sequence`].
    pub sequence: u64,
    /// Why it started.
    pub trigger: Trigger,
    /// The firing for which it started.
    pub scheduled_for: Option<Timestamp>,
    /// When it started.
    pub started_at: Timestamp,
    /// The name of its credential at the provider; none for an adopted one.
    pub label: Option<Label>,
    /// Its credential, once the provider created it.
    pub credential: Option<CredentialMetadata>,
    /// Its phase.
    pub phase: Phase,
    /// When it became current.
    pub current_at: Option<Timestamp>,
    /// When it retired.
    pub retired_at: Option<Timestamp>,
    /// When it may be revoked, once it is retired.
    pub revoke_after: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Its latest error.
    pub error: Option<String>,
    /// The number of consecutive failures of its current step.
    pub attempt: u32,
    /// The earliest time of the next attempt at its current step.
    pub retry_at: Option<Timestamp>,
    /// When it was stranded, even if it retired since.
    pub stranded_at: Option<Timestamp>,
    /// The provider's answers that it has no such credential, while they are too few
    /// to prove it.
    pub missing: Option<MissingSince>,
    /// The end of an operator's hold: the schedule does not revoke the credential
    /// before it.
    pub hold_until: Option<Timestamp>,
    /// Whether an operator requested its revocation as soon as it retires, even if a
    /// sink holds it.
    pub revoke_now: bool,
    /// Whether its revocation is deferred for the last day, because it is in use:
    /// [`Rotation::error`] is the reason then.
    pub final_warning: bool,
    /// Whether its create was sent, or may have been, so that it counts as one. An
    /// adopted credential was created by an operator.
    pub maybe_created: bool,
    /// Its deliveries, in order.
    pub deliveries: Vec<Delivery>,
}

impl Rotation {
    /// Returns a rotation with these facts and no others.
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

    /// Adds a delivery in `state` for each sink, with whether it is required.
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

    /// Returns whether the rotation can finish without its secret: every outstanding
    /// delivery is written and waits for its `on-change` command alone.
    #[must_use]
    pub fn can_finish_without_secret(&self) -> bool {
        let mut outstanding = self
            .deliveries
            .iter()
            .filter(|delivery| delivery.required && delivery.is_outstanding())
            .peekable();
        self.phase == Phase::Verified
            && outstanding.peek().is_some()
            && outstanding.all(|delivery| delivery.written_at.is_some())
    }
}

/// A credential at the provider whose name has the form of a key's label, and that has
/// no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookalike {
    /// The key whose labels have that form.
    pub key: KeyName,
    /// Its id at the provider.
    pub id: CredentialId,
    /// Its name there.
    pub name: String,
}

/// The provider's consecutive answers of 404 for a credential that should be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingSince {
    /// The time of the first one.
    pub since: Timestamp,
    /// Their number, at least 1.
    pub checks: u32,
}

/// The state of a delivery of one rotation to one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// The delivery has not started.
    Pending,
    /// The delivery has started or is about to, and its outcome is unknown: the sink
    /// may hold the secret.
    Uncertain,
    /// The sink accepted the secret.
    Accepted,
    /// The sink certainly did not accept the secret.
    Refused,
    /// The delivery to an optional sink was skipped.
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

    /// Returns the state's word in the ledger.
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

    /// Parses the word that [`DeliveryState::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A recorded delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its sink.
    pub sink: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
    /// Its state.
    pub state: DeliveryState,
    /// Whether the sink may have accepted any attempt: a later refusal does not undo
    /// that.
    pub maybe_accepted: bool,
    /// The number of attempts that ended.
    pub attempts: u32,
    /// When the latest attempt ended.
    pub last_attempt_at: Option<Timestamp>,
    /// When the sink's file was written, while its `on-change` command is pending. The
    /// secret is not needed any more then.
    pub written_at: Option<Timestamp>,
    /// When the sink accepted the secret.
    pub accepted_at: Option<Timestamp>,
    /// When the sink was removed from the configuration, if it held the secret.
    pub removed_at: Option<Timestamp>,
    /// The earliest time of the next attempt.
    pub retry_at: Option<Timestamp>,
    /// Its latest error.
    pub error: Option<String>,
}

impl Delivery {
    /// Returns whether the sink has not accepted the secret and still receives it.
    #[must_use]
    pub const fn is_outstanding(&self) -> bool {
        match self.state {
            DeliveryState::Pending | DeliveryState::Uncertain | DeliveryState::Refused => true,
            DeliveryState::Accepted | DeliveryState::Missed | DeliveryState::Removed => false,
        }
    }

    /// Returns whether the sink may ever have received the secret.
    #[must_use]
    pub const fn was_started(&self) -> bool {
        match self.state {
            DeliveryState::Pending => false,
            // A sink without the secret was removed without a time.
            DeliveryState::Removed => self.removed_at.is_some(),
            DeliveryState::Uncertain
            | DeliveryState::Accepted
            | DeliveryState::Refused
            | DeliveryState::Missed => true,
        }
    }

    /// Returns whether the delivery still needs the secret.
    #[must_use]
    pub const fn needs_secret(&self) -> bool {
        self.is_outstanding() && self.written_at.is_none()
    }
}

/// The state of one key in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// Its name.
    pub key: KeyName,
    /// The sequence of its newest rotation, 0 before the first.
    pub sequence: u64,
    /// The phase of its newest rotation; none before the first.
    pub newest_phase: Option<Phase>,
    /// The newest rotation that is or was current.
    pub last_current: Option<LastCurrent>,
    /// The number of consecutive rotations that failed to become current or could not
    /// start.
    pub attempt: u32,
    /// The earliest time of the next scheduled rotation.
    pub retry_at: Option<Timestamp>,
    /// Why the last rotation failed or could not start.
    pub problem: Option<String>,
    /// Whether an operator requested the revocation of every older credential as soon
    /// as a new one is current.
    pub revoke_previous: bool,
    /// The timetable that its firings were last counted by, as text.
    pub timetable: Option<String>,
    /// The time up to which firings are settled: recorded as events, or before the
    /// present timetable.
    pub counts_from: Option<Timestamp>,
    /// A missed run of the previous timetable that is still to be made up for.
    pub pending_run: Option<Timestamp>,
    /// An operator's pause: the schedule starts no rotation during it.
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

/// An operator's pause of a key, which may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Its start.
    pub from: Timestamp,
    /// Its end; none until an operator resumes the key.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Returns whether the pause is not over.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl KeyState {
    /// Returns the state of a key without rows in the ledger.
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

    /// Returns the key's current rotation.
    #[must_use]
    pub fn current(&self) -> Option<&Rotation> {
        self.live
            .iter()
            .find(|rotation| rotation.phase == Phase::Current)
    }

    /// Returns the key's open rotation.
    #[must_use]
    pub fn open_rotation(&self) -> Option<&Rotation> {
        self.live.iter().find(|rotation| rotation.phase.is_open())
    }

    /// Returns whether the last current credential is revoked and no other is current:
    /// the consumers have no working credential.
    #[must_use]
    pub fn has_lost_credential(&self) -> bool {
        self.current().is_none() && self.last_current.is_some_and(|last| last.is_revoked)
    }

    /// Returns the sequence of a rotation that starts at `now`. It is at least the time
    /// in seconds, so that a restored ledger, a renamed key or a database that lost
    /// commits counts beyond the sequences that sinks have applied.
    #[must_use]
    pub fn next_sequence(&self, now: Timestamp) -> u64 {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        seconds.max(self.sequence.saturating_add(1))
    }

    /// Returns whether an operator's pause of the key is not over.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.pause.is_some_and(|pause| pause.is_active(now))
    }

    /// Returns the live rotation with this id.
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
