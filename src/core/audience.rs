//! Who is told of what.

use std::collections::BTreeSet;

use crate::core::names::KeyName;
use crate::core::notice::{Cause, NotifierId, Occasion, State};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::notice::Matter;

    fn listener(on: &[Occasion], keys: Option<&[&str]>) -> Listener {
        let name = |key: &&str| KeyName::new(key).unwrap();
        Listener {
            id: NotifierId::new("command:/bin/page".to_owned()),
            on: on.iter().copied().collect(),
            keys: keys.map(|keys| keys.iter().map(name).collect()),
        }
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
    fn whether_anybody_listens() {
        assert!(Audience::default().is_empty());
        let audience = Audience::new(vec![listener(&[Occasion::Failure], Some(&["a"]))]);
        assert!(!audience.is_empty());
        // Of whatever key.
        assert!(audience.has_ears_for(Occasion::Failure));
        assert!(!audience.has_ears_for(Occasion::Rotated));
    }
}
