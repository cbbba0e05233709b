//! Keys in the order of what is planned for them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::ids::KeyName;

/// Keys, and a time for each.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    sorted: BTreeSet<(Timestamp, KeyName)>,
    /// What has not got its place yet. At a start ten thousand are planned one
    /// after another, and nobody asks for most of them before hours have passed.
    unsorted: Vec<(Timestamp, KeyName)>,
    /// The first time of these.
    first_unsorted: Option<Timestamp>,
}

impl TimerQueue {
    /// Plans `key` for then.
    pub(super) fn insert(&mut self, at: Timestamp, key: KeyName) {
        self.unsorted.push((at, key));
        self.first_unsorted = Some(self.first_unsorted.map_or(at, |first| first.min(at)));
    }

    /// Forgets what was planned. Says whether it was.
    pub(super) fn remove(&mut self, at: Timestamp, key: &KeyName) -> bool {
        self.sort();
        self.sorted.remove(&(at, key.clone()))
    }

    /// Takes the first key out whose time has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<KeyName> {
        if self.first_unsorted.is_some_and(|at| at <= now) {
            self.sort();
        }
        let (at, _) = self.sorted.first()?;
        let is_due = *at <= now;
        let first = is_due.then(|| self.sorted.pop_first()).flatten();
        first.map(|(_, key)| key)
    }

    /// The first key, and its time.
    pub(super) fn first(&self) -> Option<(Timestamp, &KeyName)> {
        let first = self.sorted.first().into_iter().chain(&self.unsorted).min();
        first.map(|(at, key)| (*at, key))
    }

    /// When the first time comes.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let sorted = self.sorted.first().map(|(at, _)| *at);
        sorted.into_iter().chain(self.first_unsorted).min()
    }

    fn sort(&mut self) {
        let new = std::mem::take(&mut self.unsorted).into_iter();
        self.first_unsorted = None;
        if self.sorted.is_empty() {
            // All together are sorted once and need no search for each.
            self.sorted = new.collect();
        } else {
            self.sorted.extend(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsorted_entries_count_like_sorted_ones() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = |name: &str| KeyName::new(name).unwrap();
        let mut planned = TimerQueue::default();
        planned.insert(at(2), key("b"));
        planned.sort();
        planned.insert(at(3), key("c"));
        assert_eq!(planned.first(), Some((at(2), &key("b"))));
        planned.insert(at(1), key("a"));
        assert_eq!(planned.first(), Some((at(1), &key("a"))));
        assert_eq!(planned.next_at(), Some(at(1)));
        assert_eq!(planned.pop_due(at(0)), None);
        assert_eq!(planned.pop_due(at(2)), Some(key("a")));
        assert_eq!(planned.pop_due(at(2)), Some(key("b")));
        assert_eq!(planned.pop_due(at(2)), None);
        planned.insert(at(4), key("d"));
        assert!(planned.remove(at(4), &key("d")));
        assert!(!planned.remove(at(4), &key("d")));
        assert_eq!(planned.next_at(), Some(at(3)));
    }
}
