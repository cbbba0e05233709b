//! What people are told, and in which words it stands in the ledger and in the
//! JSON.
//!
//! Deliberately not here: when something is wrong ([`crate::core::alert`]), and
//! who is told ([`crate::core::subscriptions`]).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::scope::Scope;
use crate::core::time::DAY;

/// A notice that cannot be delivered for so long is given up: whoever reads
/// it then learns more from `rekeyd status`.
pub const NOTIFICATION_MAX_AGE: Duration = DAY;

/// On what occasion somebody wants to be told: the words of `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A key is failing, or rekeyd as a whole.
    Failure,
    /// What was told is over.
    Recovered,
    /// A key has been due for too long.
    Overdue,
    /// A credential ends soon and has no successor.
    Expiring,
    /// A rotation has become current.
    Rotated,
    /// A credential that no sink ever took is alive.
    Orphan,
    /// A credential at the provider looks like one of ours.
    Lookalike,
    /// This host's clock and the provider's disagree.
    Clock,
    /// What keeps a credential from being revoked ends soon.
    Hold,
}

impl EventKind {
    /// Every occasion.
    pub const ALL: [Self; 9] = [
        Self::Failure,
        Self::Recovered,
        Self::Overdue,
        Self::Expiring,
        Self::Rotated,
        Self::Orphan,
        Self::Lookalike,
        Self::Clock,
        Self::Hold,
    ];

    /// Those that are told of without an `on`.
    pub const DEFAULT: [Self; 4] = [
        Self::Failure,
        Self::Recovered,
        Self::Overdue,
        Self::Expiring,
    ];

    /// Its word in the configuration and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovered => "recovered",
            Self::Overdue => "overdue",
            Self::Expiring => "expiring",
            Self::Rotated => "rotated",
            Self::Orphan => "orphan",
            Self::Lookalike => "lookalike",
            Self::Clock => "clock",
            Self::Hold => "hold",
        }
    }

    /// Reads the word that [`EventKind::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// The ledger cannot be written.
    Ledger,
    /// The provider refuses the credential that rekeyd works with.
    Credential,
    /// Most keys' credentials are gone at once.
    Organization,
    /// This host's clock and the provider's disagree.
    Clock,
    /// The provider cannot be reached, or fails.
    Provider,
    /// Something of a key fails again and again.
    Failing,
    /// A key has been due for too long.
    Overdue,
    /// A key's current credential ends soon and has no successor.
    Expiring,
    /// A credential that no sink ever took is alive.
    Orphan,
    /// What keeps a credential from being revoked ends soon.
    Hold,
    /// A rotation has become current.
    Rotated,
    /// A credential at the provider looks like one of ours.
    Lookalike,
}

impl AlertKind {
    /// Every matter.
    pub const ALL: [Self; 12] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
        Self::Failing,
        Self::Overdue,
        Self::Expiring,
        Self::Orphan,
        Self::Hold,
        Self::Rotated,
        Self::Lookalike,
    ];

    /// Its word in the ledger and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Clock => "clock",
            Self::Provider => "provider",
            Self::Failing => "failing",
            Self::Overdue => "overdue",
            Self::Expiring => "expiring",
            Self::Orphan => "orphan",
            Self::Hold => "hold",
            Self::Rotated => "rotated",
            Self::Lookalike => "lookalike",
        }
    }

    /// Reads the word that [`AlertKind::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// On which occasion its beginning is told.
    #[must_use]
    pub const fn event_kind(self) -> EventKind {
        match self {
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Provider
            | Self::Failing => EventKind::Failure,
            Self::Clock => EventKind::Clock,
            Self::Overdue => EventKind::Overdue,
            Self::Expiring => EventKind::Expiring,
            Self::Orphan => EventKind::Orphan,
            Self::Hold => EventKind::Hold,
            Self::Rotated => EventKind::Rotated,
            Self::Lookalike => EventKind::Lookalike,
        }
    }

    /// Whether it is something that has happened, and not something that lasts
    /// and will be over.
    #[must_use]
    pub const fn is_one_time(self) -> bool {
        match self {
            Self::Rotated | Self::Lookalike => true,
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Clock
            | Self::Provider
            | Self::Failing
            | Self::Overdue
            | Self::Expiring
            | Self::Orphan
            | Self::Hold => false,
        }
    }
}

/// What a notice is about, and whose matter it is: what is told once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// The key; none for the whole daemon or one scope.
    pub key: Option<KeyName>,
    /// What it is.
    pub kind: AlertKind,
    /// The scope, where it is a condition of one.
    pub scope: Option<Scope>,
    /// The credential, where it is about one.
    pub credential: Option<CredentialId>,
}

impl Alert {
    /// Returns an alert of the whole daemon.
    #[must_use]
    pub const fn global(kind: AlertKind) -> Self {
        Self {
            key: None,
            kind,
            scope: None,
            credential: None,
        }
    }

    /// Returns the alert of a condition, of one scope or of the whole daemon.
    #[must_use]
    pub const fn for_condition(kind: AlertKind, scope: Option<Scope>) -> Self {
        Self {
            key: None,
            kind,
            scope,
            credential: None,
        }
    }

    /// A matter of one key.
    #[must_use]
    pub fn for_key(key: &KeyName, matter: AlertKind) -> Self {
        Self {
            key: Some(key.clone()),
            kind: matter,
            scope: None,
            credential: None,
        }
    }

    /// A matter of one credential of a key.
    #[must_use]
    pub fn for_credential(key: &KeyName, matter: AlertKind, credential: &CredentialId) -> Self {
        Self {
            credential: Some(credential.clone()),
            ..Self::for_key(key, matter)
        }
    }
}

/// Whether what a notice tells of begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationState {
    /// It began, and its end is told, too.
    Raised,
    /// It is over.
    Resolved,
    /// It has happened, and no end follows.
    OneTime,
}

impl NotificationState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Raised, Self::Resolved, Self::OneTime];

    /// Its word in the ledger and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "begun",
            Self::Resolved => "over",
            Self::OneTime => "once",
        }
    }

    /// Reads the word that [`NotificationState::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// The id of a notice: the same in every try and for everybody who is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotificationId(String);

impl NotificationId {
    /// A new id from eight random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random)))
    }

    /// An id as the ledger tells it.
    #[must_use]
    pub const fn from_recorded(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// When it was written.
    pub created_at: Timestamp,
    /// Whether something begins or ends.
    pub state: NotificationState,
    /// What it is about.
    pub alert: Alert,
    /// Since when that has been so.
    pub since: Timestamp,
    /// In words, masked.
    pub text: String,
}

impl Notification {
    /// The occasion on which it is told.
    #[must_use]
    pub const fn event_kind(&self) -> EventKind {
        match self.state {
            NotificationState::Resolved => EventKind::Recovered,
            NotificationState::Raised | NotificationState::OneTime => self.alert.kind.event_kind(),
        }
    }
}

/// Who is told: type and target, such as `command:/usr/local/bin/page`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId(String);

impl ChannelId {
    /// From its text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How long to wait after the `attempt`th try in a row that failed, counted
/// from 1. The last pace is kept until the notice is given up.
#[must_use]
pub fn retry_delay(attempt: u32) -> Duration {
    Backoff(&[5, 15, 60, 300, 900, 1_800]).delay(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for one in EventKind::ALL {
            assert_eq!(EventKind::from_text(one.as_str()), Some(one));
        }
        for one in AlertKind::ALL {
            assert_eq!(AlertKind::from_text(one.as_str()), Some(one));
        }
        for one in NotificationState::ALL {
            assert_eq!(NotificationState::from_text(one.as_str()), Some(one));
        }
        assert_eq!(EventKind::from_text("rotation"), None);
    }

    #[test]
    fn ids_round_trip() {
        let notice = NotificationId::new([0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(notice.to_string(), "0001020304050607");
        assert_eq!(
            notice,
            NotificationId::from_recorded(notice.as_str().to_owned())
        );
        let text = "command:/bin/page";
        let notifier = ChannelId::new(text.to_owned());
        assert_eq!((notifier.as_str(), &*notifier.to_string()), (text, text));
    }

    #[test]
    fn last_retry_delay_repeats() {
        for (attempt, seconds) in [(0, 5), (1, 5), (2, 15), (6, 1_800), (u32::MAX, 1_800)] {
            assert_eq!(
                retry_delay(attempt),
                Duration::from_secs(seconds),
                "{attempt}"
            );
        }
    }
}
