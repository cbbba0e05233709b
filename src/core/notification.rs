//! Notifications, and the words for them in the ledger and in the JSON.
//!
//! Deliberately not here: when an alert is active ([`crate::core::alert`]), and
//! which channels receive it ([`crate::core::subscriptions`]).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::scope::Scope;
use crate::core::time::DAY;

/// The age at which an undelivered notification is discarded: `rekeyd status` says
/// more than it by then.
pub const NOTIFICATION_MAX_AGE: Duration = DAY;

/// The events of notifications. A channel subscribes to them with the option `on`, except
/// to tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A key or the daemon is failing.
    Failure,
    /// An alert is resolved.
    Recovered,
    /// A key has been due for too long.
    Overdue,
    /// A credential expires soon and has no successor.
    Expiring,
    /// A rotation became current.
    Rotated,
    /// A credential that no sink accepted is alive.
    Orphan,
    /// A credential at the provider has a name like a label of rekeyd.
    Lookalike,
    /// This host's clock and the provider's disagree.
    Clock,
    /// The hold or delay that keeps a credential alive ends soon.
    Hold,
    /// An operator adopted a credential, had one revoked, or ended its hold.
    Operator,
    /// An operator tests the channel.
    Test,
}

impl EventKind {
    /// Every event. That of a test is the last.
    pub const ALL: [Self; 11] = [
        Self::Failure,
        Self::Recovered,
        Self::Overdue,
        Self::Expiring,
        Self::Rotated,
        Self::Orphan,
        Self::Lookalike,
        Self::Clock,
        Self::Hold,
        Self::Operator,
        Self::Test,
    ];

    /// The words that the option `on` takes, in the same order: a test goes to a channel
    /// whatever it subscribes to.
    pub const NAMES: [&'static str; Self::ALL.len() - 1] = {
        let mut names = [""; Self::ALL.len() - 1];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// The events of a channel without `on`.
    pub const DEFAULT: [Self; 6] = [
        Self::Failure,
        Self::Recovered,
        Self::Overdue,
        Self::Expiring,
        Self::Lookalike,
        Self::Operator,
    ];

    /// Returns the event's word in the configuration and in the JSON.
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
            Self::Operator => "operator",
            Self::Test => "test",
        }
    }

    /// Parses the word that [`EventKind::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The problem or event that an alert is about.
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
    /// The ledger cannot be compared with the provider's list.
    Reconciliation,
    /// The organization or the project has used up its quota.
    Quota,
    /// The organization or the project refuses every create.
    CreateRefusal,
    /// The provider limits the rate of creates.
    CreateLimit,
    /// The provider limits the rate of requests that read.
    ReadLimit,
    /// The provider limits the rate of deletions.
    DeleteLimit,
    /// The daemon cannot listen on its control socket.
    ControlSocket,
    /// The daemon cannot serve its metrics.
    MetricsAddress,
    /// A step of a key fails again and again.
    Failing,
    /// A key has been due for too long.
    Overdue,
    /// A key's current credential expires soon and has no successor.
    Expiring,
    /// A credential that no sink accepted is alive.
    Orphan,
    /// The hold or delay that keeps a credential alive ends soon.
    Hold,
    /// A credential is not revoked because rekeyd may itself work with it.
    MayBeInUse,
    /// A credential is not revoked because the provider shows another name of it.
    OtherName,
    /// The target of a sink holds a retired credential again.
    HeldAgain,
    /// Such a target is given the newest credential soon.
    HeldAgainEnds,
    /// A credential is not revoked because the file of another key holds it.
    HeldElsewhere,
    /// Such a credential is soon revoked nevertheless.
    HeldElsewhereEnds,
    /// A key that is neither configured nor retired has a live credential.
    Unmanaged,
    /// The file of a sink does not have the owner, the group or the mode of its delivery.
    FileAccess,
    /// A rotation became current.
    Rotated,
    /// A credential at the provider has a name like a label of rekeyd.
    Lookalike,
    /// The file of a sink was open to other users, and is narrowed.
    FileExposed,
    /// The process before ended by a panic, or was killed.
    Crashed,
    /// A changed configuration waits for a person: for a reload, or for a correction.
    ConfigurationWaits,
    /// An operator adopted a credential.
    Adopted,
    /// An operator revoked a credential, or ordered the end of a key's.
    RevokedManually,
    /// An operator ended the hold of an adopted credential, or shortened it.
    Released,
    /// An operator tests a channel; nothing happened.
    Test,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 35] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
        Self::Reconciliation,
        Self::Quota,
        Self::CreateRefusal,
        Self::CreateLimit,
        Self::ReadLimit,
        Self::DeleteLimit,
        Self::ControlSocket,
        Self::MetricsAddress,
        Self::Failing,
        Self::Overdue,
        Self::Expiring,
        Self::Orphan,
        Self::Hold,
        Self::MayBeInUse,
        Self::OtherName,
        Self::HeldAgain,
        Self::HeldAgainEnds,
        Self::HeldElsewhere,
        Self::HeldElsewhereEnds,
        Self::Unmanaged,
        Self::FileAccess,
        Self::Rotated,
        Self::Lookalike,
        Self::FileExposed,
        Self::Crashed,
        Self::ConfigurationWaits,
        Self::Adopted,
        Self::RevokedManually,
        Self::Released,
        Self::Test,
    ];

    /// Returns the kind's word in the ledger and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Clock => "clock",
            Self::Provider => "provider",
            Self::Reconciliation => "reconciliation",
            Self::Quota => "quota",
            Self::CreateRefusal => "create-refusal",
            Self::CreateLimit => "create-limit",
            Self::ReadLimit => "read-limit",
            Self::DeleteLimit => "delete-limit",
            Self::ControlSocket => "control-socket",
            Self::MetricsAddress => "metrics-address",
            Self::Failing => "failing",
            Self::Overdue => "overdue",
            Self::Expiring => "expiring",
            Self::Orphan => "orphan",
            Self::Hold => "hold",
            Self::MayBeInUse => "may-be-in-use",
            Self::OtherName => "other-name",
            Self::HeldAgain => "held-again",
            Self::HeldAgainEnds => "held-again-ends",
            Self::HeldElsewhere => "held-elsewhere",
            Self::HeldElsewhereEnds => "held-elsewhere-ends",
            Self::Unmanaged => "unmanaged",
            Self::FileAccess => "file-access",
            Self::Rotated => "rotated",
            Self::Lookalike => "lookalike",
            Self::FileExposed => "file-exposed",
            Self::Crashed => "crashed",
            Self::ConfigurationWaits => "configuration-waits",
            Self::Adopted => "adopted",
            Self::RevokedManually => "revoked-manually",
            Self::Released => "released",
            Self::Test => "test",
        }
    }

    /// Parses the word that [`AlertKind::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Returns the event of a notification that the alert is raised.
    #[must_use]
    pub const fn event_kind(self) -> EventKind {
        match self {
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Provider
            | Self::Reconciliation
            | Self::Quota
            | Self::CreateRefusal
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit
            | Self::ControlSocket
            | Self::MetricsAddress
            | Self::Crashed
            | Self::ConfigurationWaits
            | Self::Failing
            | Self::MayBeInUse
            | Self::OtherName
            | Self::HeldAgain
            | Self::HeldAgainEnds
            | Self::HeldElsewhere
            | Self::HeldElsewhereEnds
            | Self::Unmanaged
            | Self::FileAccess
            | Self::FileExposed => EventKind::Failure,
            Self::Clock => EventKind::Clock,
            Self::Overdue => EventKind::Overdue,
            Self::Expiring => EventKind::Expiring,
            Self::Orphan => EventKind::Orphan,
            Self::Hold => EventKind::Hold,
            Self::Rotated => EventKind::Rotated,
            Self::Lookalike => EventKind::Lookalike,
            Self::Adopted | Self::RevokedManually | Self::Released => EventKind::Operator,
            Self::Test => EventKind::Test,
        }
    }

    /// Returns whether the alert is about a place at which the daemon listens, and not about
    /// rotations.
    #[must_use]
    pub const fn is_about_listener(self) -> bool {
        matches!(self, Self::ControlSocket | Self::MetricsAddress)
    }

    /// Returns whether each event of this kind is news, such as what an operator did: it
    /// leaves nothing behind by which the next one would be known already.
    #[must_use]
    pub const fn is_always_news(self) -> bool {
        matches!(
            self,
            Self::FileExposed
                | Self::Crashed
                | Self::ConfigurationWaits
                | Self::Adopted
                | Self::RevokedManually
                | Self::Released
        )
    }

    /// Returns whether the alert reports an event, and not a state that lasts until
    /// it is resolved.
    #[must_use]
    pub const fn is_one_time(self) -> bool {
        match self {
            Self::Rotated
            | Self::Lookalike
            | Self::FileExposed
            | Self::Crashed
            | Self::ConfigurationWaits
            | Self::Adopted
            | Self::RevokedManually
            | Self::Released
            | Self::Test => true,
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Clock
            | Self::Provider
            | Self::Reconciliation
            | Self::Quota
            | Self::CreateRefusal
            | Self::CreateLimit
            | Self::ReadLimit
            | Self::DeleteLimit
            | Self::ControlSocket
            | Self::MetricsAddress
            | Self::Failing
            | Self::Overdue
            | Self::Expiring
            | Self::Orphan
            | Self::Hold
            | Self::MayBeInUse
            | Self::OtherName
            | Self::HeldAgain
            | Self::HeldAgainEnds
            | Self::HeldElsewhere
            | Self::HeldElsewhereEnds
            | Self::Unmanaged
            | Self::FileAccess => false,
        }
    }
}

/// The identity of an alert: people are notified of it once while it is active.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// The key; none for an alert of the daemon or of one scope.
    pub key: Option<KeyName>,
    /// The problem or event.
    pub kind: AlertKind,
    /// The scope, if the alert is about a condition of one.
    pub scope: Option<Scope>,
    /// The credential, if the alert is about one.
    pub credential: Option<CredentialId>,
}

impl Alert {
    /// Returns an alert of the daemon.
    #[must_use]
    pub const fn global(kind: AlertKind) -> Self {
        Self {
            key: None,
            kind,
            scope: None,
            credential: None,
        }
    }

    /// Returns the alert of a condition, of one scope or of the daemon.
    #[must_use]
    pub const fn for_condition(kind: AlertKind, scope: Option<Scope>) -> Self {
        Self {
            key: None,
            kind,
            scope,
            credential: None,
        }
    }

    /// Returns an alert of one key.
    #[must_use]
    pub fn for_key(key: &KeyName, kind: AlertKind) -> Self {
        Self {
            key: Some(key.clone()),
            kind,
            scope: None,
            credential: None,
        }
    }

    /// Returns an alert of one credential of a key.
    #[must_use]
    pub fn for_credential(key: &KeyName, kind: AlertKind, credential: &CredentialId) -> Self {
        Self {
            credential: Some(credential.clone()),
            ..Self::for_key(key, kind)
        }
    }
}

/// The change of an alert that a notification reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationState {
    /// The alert became active; a second notification reports its end.
    Raised,
    /// The alert ended.
    Resolved,
    /// An event happened, which has no end.
    OneTime,
}

impl NotificationState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Raised, Self::Resolved, Self::OneTime];

    /// Returns the state's word in the ledger and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "begun",
            Self::Resolved => "over",
            Self::OneTime => "once",
        }
    }

    /// Parses the word that [`NotificationState::as_str`] returns.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The id of a notification: the same in every attempt and for every channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotificationId(String);

impl NotificationId {
    /// Returns a new id from eight random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random)))
    }

    /// Returns an id that was read from the ledger.
    #[must_use]
    pub const fn from_recorded(text: String) -> Self {
        Self(text)
    }

    /// Returns the id as text.
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

/// A message for people about an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// When it was written.
    pub created_at: Timestamp,
    /// Whether the alert is raised or resolved.
    pub state: NotificationState,
    /// The alert.
    pub alert: Alert,
    /// When the alert's problem began.
    pub since: Timestamp,
    /// The message, with secrets redacted.
    pub text: String,
}

impl Notification {
    /// Returns the event whose subscribers receive the notification.
    #[must_use]
    pub const fn event_kind(&self) -> EventKind {
        match self.state {
            NotificationState::Resolved => EventKind::Recovered,
            NotificationState::Raised | NotificationState::OneTime => self.alert.kind.event_kind(),
        }
    }
}

/// The identity of a channel: its type and target, such as
/// `command:/usr/local/bin/page`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId(String);

impl ChannelId {
    /// Returns the id with this text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the id as text.
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

/// Returns the delay after the `attempt`th consecutive failure to send, counted
/// from 1. The last delay repeats until the notification is discarded.
#[must_use]
pub fn retry_delay(attempt: u32) -> Duration {
    Backoff(&[5, 15, 60, 300, 900, 1_800]).delay(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_text(kind.as_str()), Some(kind));
        }
        for kind in AlertKind::ALL {
            assert_eq!(AlertKind::from_text(kind.as_str()), Some(kind));
        }
        for state in NotificationState::ALL {
            assert_eq!(NotificationState::from_text(state.as_str()), Some(state));
        }
        assert_eq!(EventKind::from_text("rotation"), None);
    }

    #[test]
    fn ids_round_trip() {
        let id = NotificationId::new([0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(id.to_string(), "0001020304050607");
        assert_eq!(id, NotificationId::from_recorded(id.as_str().to_owned()));
        let text = "command:/bin/page";
        let channel = ChannelId::new(text.to_owned());
        assert_eq!((channel.as_str(), &*channel.to_string()), (text, text));
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
