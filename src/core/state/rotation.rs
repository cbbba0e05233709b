//! A rotation in the ledger: its credential, its times and its deliveries.

use jiff::Timestamp;

use crate::core::creation_time::{earliest_by_host_clock, intended_at, proves_creation};
use crate::core::ids::{CredentialId, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::delivery::{Delivery, DeliveryState};

/// The end of a hold that lasts until an operator releases the credential, in memory
/// alone: neither the ledger nor a person is shown it.
pub const HELD_UNTIL_RELEASED: Timestamp = Timestamp::MAX;

/// Returns the end of a hold as people see it: none for one without an end.
#[must_use]
pub fn visible_hold_end(until: Timestamp) -> Option<Timestamp> {
    (until < HELD_UNTIL_RELEASED).then_some(until)
}

/// A recorded rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id in this ledger.
    pub id: RotationId,
    /// The scope that its credential belongs to.
    pub scope: Scope,
    /// Its sequence, which grows with each rotation of the key: see
    /// [`next_sequence`](crate::core::state::KeyState::next_sequence).
    pub sequence: u64,
    /// Why it started.
    pub trigger: Trigger,
    /// The firing for which it started.
    pub scheduled_for: Option<Timestamp>,
    /// When it started.
    pub started_at: Timestamp,
    /// The earliest time of creation, by the provider's clock, of what its create made.
    pub not_created_before: Option<Timestamp>,
    /// The name of its credential at the provider; none for an adopted one.
    pub label: Option<Label>,
    /// The name of its credential at the provider: the label, the name in the answer to
    /// its create, or the one that was shown at its adoption. None for an adopted one
    /// whose name is not known yet.
    pub name: Option<String>,
    /// Its credential, once the provider created it.
    pub credential: Option<CredentialMetadata>,
    /// Whether the answer to its create redacted its secret to another end than it has.
    pub has_wrong_redaction: bool,
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
    /// before it. [`HELD_UNTIL_RELEASED`] for a hold without an end.
    pub hold_until: Option<Timestamp>,
    /// Whether an operator requested its revocation as soon as it retires, even if a
    /// sink holds it.
    pub revoke_now: bool,
    /// The deadline that an operator set for its end, because it may have leaked.
    pub deadline: Option<RevocationDeadline>,
    /// Since when its revocation is deferred, until the next transition. A request that
    /// fails in between does not end the deferral. What a file shows counts from when it
    /// was first seen.
    pub deferred_since: Option<Timestamp>,
    /// Why its revocation is deferred: [`Rotation::error`] says it for people.
    pub deferral: Option<DeferralKind>,
    /// Whether its revocation is deferred for the last day, because it is in use:
    /// [`Rotation::error`] is the reason then.
    pub final_warning: bool,
    /// Whether the answer to its create could not be true, so that the create counts as
    /// unclear.
    pub is_answer_rejected: bool,
    /// Whether its create was sent, or may have been, so that it counts as one. An
    /// adopted credential was created by an operator.
    pub maybe_created: bool,
    /// Its deliveries, in order.
    pub deliveries: Vec<Delivery>,
}

impl Rotation {
    /// Returns the phase that decides, of the newest rotation, whether a next one is due.
    #[must_use]
    pub const fn phase_as_newest(&self) -> Phase {
        phase_as_newest(self.trigger, self.phase)
    }

    /// Returns the earliest time of creation of what its create made.
    #[must_use]
    pub fn earliest_creation(&self) -> Timestamp {
        let by_host_clock = || earliest_by_host_clock(self.started_at);
        self.not_created_before.unwrap_or_else(by_host_clock)
    }

    /// Returns whether its credential is known by the recorded time of its creation where
    /// the provider shows no name: the answer to a create may have been that to another.
    /// A person has named the id of an adopted one.
    #[must_use]
    pub fn is_proven_by_time(&self, shows_precise_times: bool) -> bool {
        let created_at = self
            .credential()
            .and_then(|credential| credential.created_at);
        self.trigger == Trigger::Adopted
            || proves_creation(
                created_at,
                intended_at(self.not_created_before, self.started_at),
                shows_precise_times,
            )
    }

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
            not_created_before: None,
            label: None,
            name: None,
            credential: None,
            has_wrong_redaction: false,
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
            deadline: None,
            deferred_since: None,
            deferral: None,
            final_warning: false,
            is_answer_rejected: false,
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
            sighting: None,
            file: None,
            file_access: None,
            accepted_at: None,
            removed_at: None,
            retry_at: None,
            error: None,
        });
        self.deliveries.extend(added);
    }

    /// Returns its credential, once the provider created it.
    #[must_use]
    pub const fn credential(&self) -> Option<&CredentialMetadata> {
        self.credential.as_ref()
    }

    /// Returns the end of an operator's hold that is not over: none without a hold, and
    /// `Some(None)` for one that lasts until an operator releases the credential.
    #[must_use]
    pub fn hold(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        let until = self.hold_until.filter(|until| *until > now)?;
        Some(visible_hold_end(until))
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

impl CredentialMetadata {
    /// Fills what the provider does not show with what rows of the same credential have:
    /// of several ends the earliest.
    #[must_use]
    pub fn completed_by<'r>(mut self, rows: impl Iterator<Item = &'r Rotation>) -> Self {
        let (mut recorded_end, mut is_misleading) = (None, false);
        for row in rows {
            is_misleading |= row.has_wrong_redaction;
            let Some(recorded) = row.credential.as_ref() else {
                continue;
            };
            self.created_at = self.created_at.or(recorded.created_at);
            let redacted = || recorded.redacted_value.clone();
            self.redacted_value = self.redacted_value.or_else(redacted);
            let ends = [recorded_end, recorded.expires_at];
            recorded_end = ends.into_iter().flatten().min();
        }
        self.expires_at = self.expires_at.or(recorded_end);
        // What holds the secret would not match it.
        self.redacted_value = self.redacted_value.filter(|_| !is_misleading);
        self
    }
}

/// When a credential that may have leaked ends, whatever may still use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationDeadline {
    /// The time, in whole seconds.
    pub at: Timestamp,
    /// Whether the operator insisted although rekeyd may itself work with it.
    pub is_forced: bool,
}

/// The provider's consecutive answers of 404 for a credential that should be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingSince {
    /// The time of the first one.
    pub since: Timestamp,
    /// Their number, at least 1.
    pub checks: u32,
}

/// Why the revocation of a credential is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeferralKind {
    /// rekeyd authenticates with it.
    SelfCredential,
    /// rekeyd may authenticate with it: nothing shows that it does not.
    MayBeInUse,
    /// A consumer used it lately.
    RecentlyUsed,
    /// What the provider says of its last use cannot be read.
    UseUnreadable,
    /// The provider does not have the credential that replaced it.
    SuccessorMissing,
    /// The provider does not show it under the recorded name.
    OtherName,
    /// Another key also uses it, and has not moved to a newer one.
    UsedByOtherKey,
    /// The target of a sink holds it again.
    HeldAgain,
    /// The file of another key holds it, and that key has no row of it.
    HeldElsewhere,
    /// A file that cannot be seen may hold it, and its key has no row there.
    FileUnseen,
}

impl DeferralKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::SelfCredential,
        Self::MayBeInUse,
        Self::RecentlyUsed,
        Self::UseUnreadable,
        Self::SuccessorMissing,
        Self::OtherName,
        Self::UsedByOtherKey,
        Self::HeldAgain,
        Self::HeldElsewhere,
        Self::FileUnseen,
    ];

    /// Returns the kind's word in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SelfCredential => "self-credential",
            Self::MayBeInUse => "may-be-in-use",
            Self::RecentlyUsed => "recently-used",
            Self::UseUnreadable => "use-unreadable",
            Self::SuccessorMissing => "successor-missing",
            Self::OtherName => "other-name",
            Self::UsedByOtherKey => "used-by-other-key",
            Self::HeldAgain => "held-again",
            Self::HeldElsewhere => "held-elsewhere",
            Self::FileUnseen => "file-unseen",
        }
    }

    /// Whether the file of another key is the reason.
    #[must_use]
    pub const fn is_by_files(self) -> bool {
        matches!(self, Self::HeldElsewhere | Self::FileUnseen)
    }

    /// Parses the word that [`DeferralKind::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

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

/// Returns the phase that decides whether a rotation is due after one with this trigger.
/// An adopted credential that ended was no attempt, so nothing is retried: it counts as
/// retired.
pub(crate) const fn phase_as_newest(trigger: Trigger, phase: Phase) -> Phase {
    if matches!((trigger, phase), (Trigger::Adopted, Phase::Revoked)) {
        Phase::Retired
    } else {
        phase
    }
}
