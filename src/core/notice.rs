//! What people are told: of what, whom, and in which words it stands in the
//! ledger and in the JSON.
//!
//! Deliberately not here: when something is wrong ([`crate::core::cause`]).

use std::collections::BTreeSet;
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

/// Somebody who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Who.
    pub id: NotifierId,
    /// On which occasions.
    pub on: BTreeSet<Occasion>,
    /// Of which keys, besides rekeyd as a whole; none for all.
    pub keys: Option<BTreeSet<KeyName>>,
}

impl Listener {
    fn wants(&self, cause: &Cause) -> bool {
        let of_key = match (&self.keys, &cause.key) {
            (Some(keys), Some(key)) => keys.contains(key),
            (None, _) | (Some(_), None) => true,
        };
        of_key && self.on.contains(&cause.matter.occasion())
    }
}

/// Everybody who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience(Vec<Listener>);

impl Audience {
    /// Of these.
    #[must_use]
    pub const fn new(listeners: Vec<Listener>) -> Self {
        Self(listeners)
    }

    /// Whether nobody is told of anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everybody's id.
    #[must_use]
    pub fn ids(&self) -> Vec<NotifierId> {
        self.0.iter().map(|listener| listener.id.clone()).collect()
    }

    /// Whether anybody is told of this.
    #[must_use]
    pub fn wants(&self, cause: &Cause) -> bool {
        self.0.iter().any(|listener| listener.wants(cause))
    }

    /// Whether anybody is told on this occasion, of whatever key.
    #[must_use]
    pub fn has_ears_for(&self, occasion: Occasion) -> bool {
        self.0
            .iter()
            .any(|listener| listener.on.contains(&occasion))
    }

    /// Who is told of this. Its end is told to who is told of its beginning
    /// and wants to know.
    #[must_use]
    pub fn told_of(&self, cause: &Cause, state: State) -> Vec<NotifierId> {
        let ends = state == State::Over;
        let told = |listener: &&Listener| {
            listener.wants(cause) && (!ends || listener.on.contains(&Occasion::Recovered))
        };
        let told = self.0.iter().filter(told);
        told.map(|listener| listener.id.clone()).collect()
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

    fn listener(on: &[Occasion], keys: Option<&[&str]>) -> Listener {
        let name = |key: &&str| KeyName::new(key).unwrap();
        Listener {
            id: NotifierId::new("command:/bin/page".to_owned()),
            on: on.iter().copied().collect(),
            keys: keys.map(|keys| keys.iter().map(name).collect()),
        }
    }

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
    fn who_is_told_of_what() {
        let of = |key: &str, matter| Cause::of_key(&KeyName::new(key).unwrap(), matter);
        let all = listener(&Occasion::DEFAULT, None);
        let one = listener(&[Occasion::Failure], Some(&["a"]));
        for (listener, cause, state, told) in [
            (&all, of("a", Matter::Failing), State::Begun, true),
            (&all, of("a", Matter::Failing), State::Over, true),
            (&all, of("a", Matter::Rotated), State::Once, false),
            (&all, Cause::of_all(Matter::Provider), State::Begun, true),
            (&all, Cause::of_all(Matter::Clock), State::Begun, false),
            // The end of what it is not told of is nothing to it.
            (&all, Cause::of_all(Matter::Clock), State::Over, false),
            (&one, of("a", Matter::Failing), State::Begun, true),
            (&one, of("b", Matter::Failing), State::Begun, false),
            (&one, of("a", Matter::Failing), State::Over, false),
            // What is wrong with rekeyd is wrong with every key.
            (&one, Cause::of_all(Matter::Provider), State::Begun, true),
        ] {
            let audience = Audience::new(vec![listener.clone()]);
            let found = !audience.told_of(&cause, state).is_empty();
            assert_eq!(found, told, "{listener:?} {cause:?} {state:?}");
        }
    }

    #[test]
    fn the_last_pace_is_kept() {
        for (attempt, seconds) in [(0, 5), (1, 5), (2, 15), (6, 1_800), (u32::MAX, 1_800)] {
            assert_eq!(pause(attempt), Duration::from_secs(seconds), "{attempt}");
        }
    }
}
