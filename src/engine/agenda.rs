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
    /// How many of those that have begun came one after another.
    in_a_row: u8,
}

/// After so many that have begun comes one of the others, if one is due: where
/// a receiver keeps every try waiting, those whose rotations hang on it would
/// take all the room there is, again and again.
const MOST_IN_A_ROW: u8 = 3;

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
        if self.in_a_row >= MOST_IN_A_ROW
            && let Some(other) = self.rest.pop_due(now)
        {
            self.in_a_row = 0;
            return Some(other);
        }
        if let Some(begun) = self.begun.pop_due(now) {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(begun);
        }
        self.in_a_row = 0;
        self.rest.pop_due(now)
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

    #[test]
    fn what_has_begun_leaves_room_for_the_others() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut agenda = Agenda::default();
        for number in 0..100 {
            for is_begun in [true, false] {
                let name = if is_begun { "begun" } else { "other" };
                let key = KeyName::new(&format!("{name}-{number}")).unwrap();
                agenda.insert(at(number), key, is_begun);
            }
        }
        let popped: Vec<_> = (0..100).map(|_| agenda.pop_due(at(100)).unwrap()).collect();
        let begun = popped
            .iter()
            .filter(|key| key.as_str().starts_with("begun"));
        assert_eq!(begun.count(), 75);
    }
}
