//! Which keys are to be looked at, and when: what has begun comes first.
//!
//! A key with an open rotation has a secret in memory, or will have one. Were
//! those that wait for their turn put to work before it, thousands of secrets
//! would be made before the first is delivered, and lost with the process.

use jiff::Timestamp;

use crate::core::ids::KeyName;
use crate::engine::timer_queue::TimerQueue;

/// The keys, in the order of their times.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    /// Those with an open rotation.
    priority: TimerQueue,
    normal: TimerQueue,
    /// How many of those that have begun came one after another.
    priority_streak: u8,
}

/// After so many that have begun comes one of the others, if one is due: where
/// a receiver keeps every try waiting, those whose rotations hang on it would
/// take all the room there is, again and again.
const MAX_PRIORITY_STREAK: u8 = 3;

impl RunQueue {
    /// Has `key` looked at then.
    pub(super) fn insert(&mut self, at: Timestamp, key: KeyName, is_begun: bool) {
        let which = if is_begun {
            &mut self.priority
        } else {
            &mut self.normal
        };
        which.insert(at, key);
    }

    /// Forgets what was planned.
    pub(super) fn remove(&mut self, at: Timestamp, key: &KeyName) {
        if !self.priority.remove(at, key) {
            self.normal.remove(at, key);
        }
    }

    /// The next key whose time has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<KeyName> {
        if self.priority_streak >= MAX_PRIORITY_STREAK
            && let Some(other) = self.normal.pop_due(now)
        {
            self.priority_streak = 0;
            return Some(other);
        }
        if let Some(begun) = self.priority.pop_due(now) {
            self.priority_streak = self.priority_streak.saturating_add(1);
            return Some(begun);
        }
        self.priority_streak = 0;
        self.normal.pop_due(now)
    }

    /// When the first time comes.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let first = [&self.priority, &self.normal].map(TimerQueue::next_at);
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
