//! Which keys are to be looked at, and when: what has begun comes first.
//!
//! A key with an open rotation has a secret in memory, or will have one. Were
//! those that wait for their turn put to work before it, thousands of secrets
//! would be made before the first is delivered, and lost with the process.

use jiff::Timestamp;

use crate::core::names::KeyName;
use crate::engine::planned::Planned;

/// The keys, in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Those with an open rotation.
    begun: Planned,
    rest: Planned,
}

impl Agenda {
    /// Has `key` looked at then.
    pub(super) fn insert(&mut self, at: Timestamp, key: KeyName, is_begun: bool) {
        let which = if is_begun {
            &mut self.begun
        } else {
            &mut self.rest
        };
        which.insert(at, key);
    }

    /// Forgets what was planned.
    pub(super) fn remove(&mut self, at: Timestamp, key: &KeyName) {
        if !self.begun.remove(at, key) {
            self.rest.remove(at, key);
        }
    }

    /// The next key whose time has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<KeyName> {
        let begun = self.begun.pop_due(now);
        begun.or_else(|| self.rest.pop_due(now))
    }

    /// When the first time comes.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let first = [&self.begun, &self.rest].map(Planned::next_at);
        first.into_iter().flatten().min()
    }

    /// Forgets everything that was planned.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_comes_before_what_has_waited_longer() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = |name: &str| KeyName::new(name).unwrap();
        let mut agenda = Agenda::default();
        agenda.insert(at(1), key("a"), false);
        agenda.insert(at(2), key("b"), false);
        agenda.insert(at(3), key("c"), true);
        assert_eq!(agenda.next_at(), Some(at(1)));
        assert_eq!(agenda.pop_due(at(0)), None);
        agenda.remove(at(2), &key("b"));
        let mut order = std::iter::from_fn(|| agenda.pop_due(at(3)));
        assert_eq!(order.next(), Some(key("c")));
        assert_eq!(order.next(), Some(key("a")));
        assert_eq!(order.next(), None);
    }
}
