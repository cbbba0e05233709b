//! A queue of keys by time, in which keys with an open rotation come first.
//!
//! A key with an open rotation has a secret in memory, or soon will. If other keys
//! started before it, the engine would create thousands of credentials before it
//! delivered the first, and lose their secrets if the process ended.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::core::ids::KeyName;

/// Keys by the time at which they run.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    /// The keys with an open rotation.
    priority: TimeQueue,
    normal: TimeQueue,
    /// The number of keys popped from the priority queue since the normal one had one.
    priority_streak: u8,
}

/// Since when each watched key has been due: those at the heads of the queues, until they
/// begin.
pub(super) type DueWatch = BTreeMap<(Timestamp, KeyName), Instant>;

type TimeQueue = BTreeSet<(Timestamp, KeyName)>;

/// The number of keys with an open rotation after which one of the other due keys is
/// popped: rotations that are retried again and again must not block them.
const MAX_PRIORITY_STREAK: u8 = 3;

impl RunQueue {
    /// Queues `key` for `at`.
    pub(super) fn insert(&mut self, at: Timestamp, key: KeyName, is_rotating: bool) {
        let queue = if is_rotating {
            &mut self.priority
        } else {
            &mut self.normal
        };
        queue.insert((at, key));
    }

    /// Removes the entry of `key` for `at`.
    pub(super) fn remove(&mut self, at: Timestamp, key: &KeyName) {
        let entry = (at, key.clone());
        if !self.priority.remove(&entry) {
            self.normal.remove(&entry);
        }
    }

    /// Removes and returns the next due key.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<KeyName> {
        if self.priority_streak >= MAX_PRIORITY_STREAK
            && let Some(key) = pop_due(&mut self.normal, now)
        {
            self.priority_streak = 0;
            return Some(key);
        }
        if let Some(key) = pop_due(&mut self.priority, now) {
            self.priority_streak = self.priority_streak.saturating_add(1);
            return Some(key);
        }
        self.priority_streak = 0;
        pop_due(&mut self.normal, now)
    }

    /// Returns the earliest time of any key.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let first = [&self.priority, &self.normal].map(|queue| queue.first());
        first.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Returns the first key with an open rotation, and the first other one.
    pub(super) fn heads(&self) -> impl Iterator<Item = &(Timestamp, KeyName)> {
        self.priority.first().into_iter().chain(self.normal.first())
    }

    /// Returns whether a key is queued for a time.
    pub(super) fn contains(&self, entry: &(Timestamp, KeyName)) -> bool {
        self.priority.contains(entry) || self.normal.contains(entry)
    }

    /// Removes every key.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn pop_due(queue: &mut TimeQueue, now: Timestamp) -> Option<KeyName> {
    let is_due = queue.first().is_some_and(|(at, _)| *at <= now);
    let first = is_due.then(|| queue.pop_first()).flatten();
    first.map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_rotations_come_before_keys_that_waited_longer() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = |name: &str| KeyName::new(name).unwrap();
        let mut queue = RunQueue::default();
        queue.insert(at(1), key("a"), false);
        queue.insert(at(2), key("b"), false);
        queue.insert(at(3), key("c"), true);
        assert_eq!(queue.next_at(), Some(at(1)));
        assert_eq!(queue.pop_due(at(0)), None);
        queue.remove(at(2), &key("b"));
        let mut order = std::iter::from_fn(|| queue.pop_due(at(3)));
        assert_eq!(order.next(), Some(key("c")));
        assert_eq!(order.next(), Some(key("a")));
        assert_eq!(order.next(), None);
    }

    #[test]
    fn open_rotations_leave_every_fourth_turn_to_other_keys() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut queue = RunQueue::default();
        for number in 0..100 {
            for is_rotating in [true, false] {
                let name = if is_rotating { "rotating" } else { "other" };
                let key = KeyName::new(&format!("{name}-{number}")).unwrap();
                queue.insert(at(number), key, is_rotating);
            }
        }
        let popped: Vec<_> = (0..100).map(|_| queue.pop_due(at(100)).unwrap()).collect();
        let rotating = popped
            .iter()
            .filter(|key| key.as_str().starts_with("rotating"));
        assert_eq!(rotating.count(), 75);
    }
}
