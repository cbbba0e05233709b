//! A delivery of a rotation to one sink in the ledger.

use jiff::Timestamp;

use crate::core::ids::SinkId;
use crate::core::state::file_access::FileAccess;
use crate::core::state::file_note::FileNote;
use crate::core::state::sighting::Sighting;

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
    /// What identifies the file that the latest attempt left, if that wrote one.
    pub file: Option<FileNote>,
    /// Who could get the file that the latest attempt left, or that the first check found.
    pub file_access: Option<FileAccess>,
    /// When the sink's target held the secret again, after a newer one.
    pub sighting: Option<Sighting>,
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

    /// Returns whether the sink may ever have received the secret: one that certainly
    /// refused each attempt has not.
    #[must_use]
    pub const fn may_have_received(&self) -> bool {
        match self.state {
            DeliveryState::Pending | DeliveryState::Refused => {
                self.maybe_accepted || self.accepted_at.is_some()
            }
            // A sink without the secret was removed without a time.
            DeliveryState::Removed => self.removed_at.is_some(),
            DeliveryState::Uncertain | DeliveryState::Accepted | DeliveryState::Missed => true,
        }
    }

    /// Returns whether the sink's target may hold this secret or a newer one.
    #[must_use]
    pub const fn was_written(&self) -> bool {
        match self.state {
            DeliveryState::Uncertain | DeliveryState::Accepted => true,
            DeliveryState::Pending
            | DeliveryState::Refused
            | DeliveryState::Missed
            | DeliveryState::Removed => self.maybe_accepted || self.accepted_at.is_some(),
        }
    }

    /// Returns whether what the target holds is rekeyd's own, and a rotation repairs any
    /// change of it: the secret was written while the sink was configured, and the sink
    /// was not removed since. What came into the target meanwhile is unknown.
    #[must_use]
    pub const fn was_written_and_kept(&self) -> bool {
        match self.state {
            DeliveryState::Removed => false,
            DeliveryState::Uncertain => self.accepted_at.is_none() || self.maybe_accepted,
            DeliveryState::Pending
            | DeliveryState::Accepted
            | DeliveryState::Refused
            | DeliveryState::Missed => self.was_written(),
        }
    }

    /// Returns when the sink accepted the secret, for people. [`Self::accepted_at`] may be up
    /// to a second later, or by the provider's clock, so that no overlap is too short.
    #[must_use]
    pub fn delivered_at(&self, now: Timestamp) -> Option<Timestamp> {
        let accepted_at = self.accepted_at?.min(now);
        Some(
            self.last_attempt_at
                .map_or(accepted_at, |at| accepted_at.min(at)),
        )
    }

    /// Returns whether the target no longer holds the secret that the sink once accepted.
    #[must_use]
    pub const fn has_drifted(&self) -> bool {
        matches!(self.state, DeliveryState::Uncertain)
            && self.accepted_at.is_some()
            && self.maybe_accepted
    }

    /// Describes an error of the delivery. A file that is written lacks only the success of
    /// its `on-change` program.
    #[must_use]
    pub fn describe_failure(&self, error: &str) -> String {
        let sink = &self.sink;
        if self.written_at.is_some() {
            format!("wrote {sink}, but its on-change program failed: {error}")
        } else {
            format!("not delivered to {sink}: {error}")
        }
    }

    /// Returns whether the delivery still needs the secret.
    #[must_use]
    pub const fn needs_secret(&self) -> bool {
        self.is_outstanding() && self.written_at.is_none()
    }
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
