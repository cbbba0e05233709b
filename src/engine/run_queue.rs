//! The keys in the order of their times; keys with an open rotation come first.
//!
//! Such a key has a secret in memory, or is about to. Were the keys that wait
//! for their turn to start before it, thousands of secrets would be made before
//! the first is delivered, and lost with the process.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::ids::KeyName;

/// Keys, each with a time.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    /// Those with an open rotation.
    priority: Lane,
    normal: Lane,
    /// How many keys of the priority lane were popped one after another.
    priority_streak: u8,
}

type Lane = BTreeSet<(Timestamp, KeyName)>;

/// After so many keys with an open rotation comes one of the others, if one is
/// due: rotations that are tried again and again must not take every turn.
const MAX_PRIORITY_STREAK: u8 = 3;

impl RunQueue {
    /// Queues `key` for `at`.
    pub(super) fn insert(&mut self, at: Timestamp, key: KeyName, is_rotating: bool) {
        let lane = if is_rotating {
            &mut self.priority
        } else {
            &mut self.normal
        };
        lane.insert((at, key));
    }

    /// Removes the entry of `key` for `at`.
    pub(super) fn remove(&mut self, at: Timestamp, key: &KeyName) {
        let entry = (at, key.clone());
        if !self.priority.remove(&entry) {
            self.normal.remove(&entry);
        }
    }

    /// Removes and returns the next key whose time has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<KeyName> {
        if self.priority_streak >= MAX_PRIORITY_STREAK
            && let Some(other) = pop_due(&mut self.normal, now)
        {
            self.priority_streak = 0;
            return Some(other);
        }
        if let Some(rotating) = pop_due(&mut self.priority, now) {
            self.priority_streak = self.priority_streak.saturating_add(1);
            return Some(rotating);
        }
        self.priority_streak = 0;
        pop_due(&mut self.normal, now)
    }

    /// The earliest time.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let first = [&self.priority, &self.normal].map(|lane| lane.first());
        first.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Removes every key.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn pop_due(lane: &mut Lane, now: Timestamp) -> Option<KeyName> {
    let is_due = lane.first().is_some_and(|(at, _)| *at <= now);
    let first = is_due.then(|| lane.pop_first()).flatten();
    first.map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_rotations_come_before_keys_that_waited_longer() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = |name: &str| KeyName::new(name).unwrap();
        let mut agenda = RunQueue::default();
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
    fn open_rotations_leave_capacity_for_other_keys() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut agenda = RunQueue::default();
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
