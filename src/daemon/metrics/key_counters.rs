//! The counters of each key: how its rotations and its deliveries ended. A registry would hold
//! several hundred bytes for each sample, and copy them all for each page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::ids::KeyName;
use crate::core::state::DeliveryState;

/// The outcomes of rotations.
pub(super) const ROTATION_OUTCOMES: [&str; 4] = ["current", "failed", "orphaned", "stranded"];

/// The outcomes of deliveries.
pub(super) const DELIVERY_OUTCOMES: [DeliveryState; 3] = [
    DeliveryState::Accepted,
    DeliveryState::Refused,
    DeliveryState::Uncertain,
];

/// The number of a key's rotations with each of [`ROTATION_OUTCOMES`].
pub(super) type RotationCounts = [u64; ROTATION_OUTCOMES.len()];

/// The number of deliveries to a sink with each of [`DELIVERY_OUTCOMES`].
pub(super) type DeliveryCounts = [u64; DELIVERY_OUTCOMES.len()];

/// The counters of all keys since the start of the process. Those of a key that is gone stay,
/// and are not shown.
#[derive(Debug, Default)]
pub(super) struct KeyCounters(Mutex<BTreeMap<KeyName, KeyCounts>>);

#[derive(Debug, Default)]
struct KeyCounts {
    rotations: RotationCounts,
    exposed_files: u64,
    /// By the names of the sinks. A key has few.
    deliveries: Vec<(Arc<str>, DeliveryCounts)>,
}

impl KeyCounters {
    /// Adds the sinks of a key, so that their counters exist with 0.
    pub(super) fn add_sinks<'s>(&self, key: &KeyName, sinks: impl Iterator<Item = &'s str>) {
        let mut keys = self.lock();
        let counts = keys.entry(key.clone()).or_default();
        for sink in sinks {
            counts.of_sink(sink);
        }
    }

    /// Counts a rotation of a key that ended with one of [`ROTATION_OUTCOMES`].
    pub(super) fn count_rotation(&self, key: &KeyName, outcome: &str) {
        let mut outcomes = ROTATION_OUTCOMES.iter();
        if let Some(index) = outcomes.position(|known| *known == outcome) {
            let mut keys = self.lock();
            keys.entry(key.clone()).or_default().rotations[index] += 1;
        }
    }

    /// Counts a delivery that ended with one of [`DELIVERY_OUTCOMES`].
    pub(super) fn count_delivery(&self, key: &KeyName, sink: &str, outcome: DeliveryState) {
        let mut outcomes = DELIVERY_OUTCOMES.iter();
        if let Some(index) = outcomes.position(|known| *known == outcome) {
            let mut keys = self.lock();
            keys.entry(key.clone()).or_default().of_sink(sink)[index] += 1;
        }
    }

    /// Counts a file of a key that was open to other users and was narrowed.
    pub(super) fn count_exposed_file(&self, key: &KeyName) {
        self.lock().entry(key.clone()).or_default().exposed_files += 1;
    }

    /// Returns the number of such files of a key.
    pub(super) fn exposed_files_of(&self, key: &KeyName) -> u64 {
        self.lock()
            .get(key)
            .map_or(0, |counts| counts.exposed_files)
    }

    /// Returns the rotations of a key.
    pub(super) fn rotations_of(&self, key: &KeyName) -> RotationCounts {
        let keys = self.lock();
        let counts = keys.get(key);
        counts.map(|counts| counts.rotations).unwrap_or_default()
    }

    /// Returns the deliveries of a key, by the names of its sinks.
    pub(super) fn deliveries_of(&self, key: &KeyName) -> Vec<(Arc<str>, DeliveryCounts)> {
        let keys = self.lock();
        let counts = keys.get(key);
        counts
            .map(|counts| counts.deliveries.clone())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyName, KeyCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyCounts {
    /// Returns the counts of a sink, which is added if it is new.
    fn of_sink(&mut self, sink: &str) -> &mut DeliveryCounts {
        let found = self
            .deliveries
            .binary_search_by(|(name, _)| (**name).cmp(sink));
        let index = found.unwrap_or_else(|index| {
            let new = (Arc::from(sink), DeliveryCounts::default());
            self.deliveries.insert(index, new);
            index
        });
        &mut self.deliveries[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_configured_sinks_exist_with_0() {
        let (counters, key) = (KeyCounters::default(), KeyName::new("billing").unwrap());
        counters.add_sinks(&key, ["webhook", "file"].into_iter());
        assert_eq!(counters.rotations_of(&key), [0; 4]);
        counters.count_rotation(&key, "failed");
        counters.count_delivery(&key, "webhook", DeliveryState::Refused);
        // A reload adds the same sinks again.
        counters.add_sinks(&key, ["file", "webhook"].into_iter());
        assert_eq!(counters.rotations_of(&key), [0, 1, 0, 0]);
        let deliveries = counters.deliveries_of(&key);
        let names: Vec<_> = deliveries.iter().map(|(sink, _)| &**sink).collect();
        assert_eq!(names, ["file", "webhook"]);
        assert_eq!(deliveries[0].1, [0; 3]);
        assert_eq!(deliveries[1].1, [0, 1, 0]);
    }
}
