//! What people are told, and in which words it stands in the ledger and in the
//! JSON.
//!
//! Deliberately not here: when something is wrong ([`crate::core::cause`]), and
//! who is told ([`crate::core::audience`]).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::names::{CredentialId, KeyName};

/// A notice that cannot be delivered for so long is given up: whoever reads
/// it then learns more from `rekeyd status`.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// On what occasion somebody wants to be told: the words of `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Occasion {
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

impl Occasion {
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

    /// Reads the word that [`Occasion::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matter {
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

impl Matter {
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

    /// Reads the word that [`Matter::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// On which occasion its beginning is told.
    #[must_use]
    pub const fn occasion(self) -> Occasion {
        match self {
            Self::Ledger
            | Self::Credential
            | Self::Organization
            | Self::Provider
            | Self::Failing => Occasion::Failure,
            Self::Clock => Occasion::Clock,
            Self::Overdue => Occasion::Overdue,
            Self::Expiring => Occasion::Expiring,
            Self::Orphan => Occasion::Orphan,
            Self::Hold => Occasion::Hold,
            Self::Rotated => Occasion::Rotated,
            Self::Lookalike => Occasion::Lookalike,
        }
    }

    /// Whether it is something that has happened, and not something that lasts
    /// and will be over.
    #[must_use]
    pub const fn happens_once(self) -> bool {
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
pub struct Cause {
    /// The key; none for rekeyd as a whole.
    pub key: Option<KeyName>,
    /// What it is.
    pub matter: Matter,
    /// The credential, where it is about one.
    pub credential: Option<CredentialId>,
}

impl Cause {
    /// A matter of rekeyd as a whole.
    #[must_use]
    pub const fn of_all(matter: Matter) -> Self {
        Self {
            key: None,
            matter,
            credential: None,
        }
    }

    /// A matter of one key.
    #[must_use]
    pub fn of_key(key: &KeyName, matter: Matter) -> Self {
        Self {
            key: Some(key.clone()),
            matter,
            credential: None,
        }
    }

    /// A matter of one credential of a key.
    #[must_use]
    pub fn of_credential(key: &KeyName, matter: Matter, credential: &CredentialId) -> Self {
        Self {
            credential: Some(credential.clone()),
            ..Self::of_key(key, matter)
        }
    }
}

/// Whether what a notice tells of begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It began, and its end is told, too.
    Begun,
    /// It is over.
    Over,
    /// It has happened, and no end follows.
    Once,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Begun, Self::Over, Self::Once];

    /// Its word in the ledger and in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Over => "over",
            Self::Once => "once",
        }
    }

    /// Reads the word that [`State::as_str`] gives.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// The id of a notice: the same in every try and for everybody who is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoticeId(String);

impl NoticeId {
    /// A new id from eight random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random)))
    }

    /// An id as the ledger tells it.
    #[must_use]
    pub const fn recorded(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NoticeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// When it was written.
    pub at: Timestamp,
    /// Whether something begins or ends.
    pub state: State,
    /// What it is about.
    pub cause: Cause,
    /// Since when that has been so.
    pub since: Timestamp,
    /// In words, masked.
    pub text: String,
}

impl Notice {
    /// The occasion on which it is told.
    #[must_use]
    pub const fn occasion(&self) -> Occasion {
        match self.state {
            State::Over => Occasion::Recovered,
            State::Begun | State::Once => self.cause.matter.occasion(),
        }
    }
}

/// Who is told: type and target, such as `command:/usr/local/bin/page`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotifierId(String);

impl NotifierId {
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

impl fmt::Display for NotifierId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How long to wait after the `attempt`th try in a row that failed, counted
/// from 1. The last pace is kept until the notice is given up.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    const SECONDS: [u64; 6] = [5, 15, 60, 300, 900, 1_800];
    let at = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    Duration::from_secs(SECONDS[at.min(SECONDS.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_reads_back() {
        for one in Occasion::ALL {
            assert_eq!(Occasion::from_text(one.as_str()), Some(one));
        }
        for one in Matter::ALL {
            assert_eq!(Matter::from_text(one.as_str()), Some(one));
        }
        for one in State::ALL {
            assert_eq!(State::from_text(one.as_str()), Some(one));
        }
        assert_eq!(Occasion::from_text("rotation"), None);
    }

    #[test]
    fn ids_are_told_as_they_are() {
        let notice = NoticeId::new([0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(notice.to_string(), "0001020304050607");
        assert_eq!(notice, NoticeId::recorded(notice.as_str().to_owned()));
        let text = "command:/bin/page";
        let notifier = NotifierId::new(text.to_owned());
        assert_eq!((notifier.as_str(), &*notifier.to_string()), (text, text));
    }

    #[test]
    fn the_last_pace_is_kept() {
        for (attempt, seconds) in [(0, 5), (1, 5), (2, 15), (6, 1_800), (u32::MAX, 1_800)] {
            assert_eq!(pause(attempt), Duration::from_secs(seconds), "{attempt}");
        }
    }
}
