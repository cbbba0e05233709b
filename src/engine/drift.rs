//! Asks the sinks whether they still have what they took.
//!
//! Nearly all have, and to find that out nobody has to be put to work: the
//! sinks of many keys are asked together. A key that seems to have lost
//! something looks again by itself and records what it sees, for meanwhile it
//! may have been given something else.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::engine::effects::drift::drift_checks;
use crate::engine::key_entry::KeyEntry;
use crate::engine::scheduler::{Completion, Engine};
use crate::sink::DriftCheck;

/// So many keys are looked at together: more would only take more room.
pub(super) const DRIFT_BATCH_SIZE: usize = 256;

/// So many times that: while the files of some keys are looked at, the looks at
/// the next are made ready.
pub(super) const MAX_BATCHES_IN_FLIGHT: usize = 2;

impl Engine {
    /// Looks at the sinks of all keys.
    pub(super) fn start_drift_check(&mut self) {
        self.drift_cursor = Some(Bound::Unbounded);
        for _ in 0..MAX_BATCHES_IN_FLIGHT {
            self.start_next_drift_batch();
        }
    }

    /// Looks at the sinks of the next keys, if there are any.
    fn start_next_drift_batch(&mut self) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Some(from) = self.drift_cursor.take() else {
            return;
        };
        let mut keys = self.keys.range_mut((from, Bound::Unbounded));
        let mut looks = Vec::new();
        let mut last = None;
        for (key, slot) in keys.by_ref().take(DRIFT_BATCH_SIZE) {
            looks.extend(slot.start_drift_checks().map(|look| (key.clone(), look)));
            last = Some(key);
        }
        let last = last.cloned().filter(|_| keys.next().is_some());
        self.drift_cursor = last.map(Bound::Excluded);
        self.running.spawn(async move {
            let mut suspect = Vec::new();
            // They are done in their order: when the last one is, nearly all
            // are, and nobody was waked for each.
            for (key, look) in looks.into_iter().rev() {
                if look.await.is_some() {
                    suspect.push(key);
                }
            }
            Completion::DriftCheck(suspect)
        });
    }

    /// Has the keys looked at that seem to have lost something, and goes on
    /// with the next ones.
    pub(super) fn finish_drift_batch(&mut self, suspect: Vec<KeyName>) {
        let now = self.services.clock.now();
        for key in suspect {
            if let Some(slot) = self.keys.get_mut(&key) {
                slot.needs_drift_check = true;
            }
            self.wake(&key, now);
        }
        self.start_next_drift_batch();
    }
}

impl KeyEntry {
    /// Begins to look at the sinks of the key; whoever works on it looks by
    /// itself.
    fn start_drift_checks(&mut self) -> impl Iterator<Item = DriftCheck> {
        if self.managed.is_some() && self.parked.is_none() {
            self.needs_drift_check = true;
            self.is_dirty = true;
        }
        let current = self.state().and_then(KeyState::current);
        let known = self.managed.as_deref().zip(current);
        let looks = known
            .into_iter()
            .flat_map(|(key, one)| drift_checks(key, one));
        looks.map(|(_, look)| look)
    }
}
