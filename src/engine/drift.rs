//! Checks whether the sinks still hold what they accepted.
//!
//! The sinks of many keys are checked together, without workers for keys that have no
//! drift. A key with drift is checked again by its own worker, which records the
//! result: a delivery may have changed the sink meanwhile.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use crate::core::decide::sightings::has_open_sighting;
use crate::core::ids::KeyName;
use crate::core::state::{CredentialMetadata, Delivery, KeyState};
use crate::engine::effects::drift::accepted_deliveries;
use crate::engine::effects::file_access::{has_file_access, lacks_access};
use crate::engine::key_entry::KeyEntry;
use crate::engine::scheduler::{Completion, Engine};
use crate::sink::Sink;
use crate::sink::drift::{BlockingCheck, find_drift};

/// The number of keys that are checked together; more would only use more memory.
pub(super) const DRIFT_BATCH_SIZE: usize = 256;

/// How many blocking checks of a batch one thread runs: so few that a slow disk reads
/// several files at once, and that a check that hangs delays few others.
const CHECKS_PER_THREAD: usize = 64;

impl Engine {
    /// Checks the sinks of all keys, one batch of keys after the other.
    pub(super) fn start_drift_check(&mut self) {
        self.drift_cursor = Some(Bound::Unbounded);
        self.start_next_drift_batch();
    }

    fn start_next_drift_batch(&mut self) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Some(from) = self.drift_cursor.take() else {
            return;
        };
        let mut keys = self.keys.range_mut((from, Bound::Unbounded));
        let mut checks = JoinSet::new();
        let mut blocking_checks: Vec<(KeyName, BlockingCheck)> = Vec::new();
        let mut last = None;
        // Whether a target still holds the retired credential that was seen there, and who
        // could get a file.
        let mut sighted = BTreeSet::new();
        let provider = &self.services.provider;
        for (key, entry) in keys.by_ref().take(DRIFT_BATCH_SIZE) {
            if entry.state().is_some_and(has_open_sighting) || entry.has_unrecorded_file() {
                sighted.insert(key.clone());
            }
            for check in entry.access_checks() {
                blocking_checks.push((key.clone(), check));
            }
            for (sink, credential) in entry.drift_checks() {
                let key = key.clone();
                let expected = provider.expected_secret(credential);
                if let Some(check) = sink.blocking_drift_check(&expected) {
                    blocking_checks.push((key, Box::new(move || check().is_some())));
                    continue;
                }
                let sink = Arc::clone(sink);
                checks.spawn(async move {
                    let drift = sink.check_drift(&expected).await;
                    drift.map(|_| key).into_iter().collect()
                });
            }
            last = Some(key);
        }
        while !blocking_checks.is_empty() {
            let from = blocking_checks.len().saturating_sub(CHECKS_PER_THREAD);
            checks.spawn(find_drift(blocking_checks.split_off(from)));
        }
        let last = last.cloned().filter(|_| keys.next().is_some());
        self.drift_cursor = last.map(Bound::Excluded);
        self.running.spawn(async move {
            let mut suspect = sighted;
            while let Some(checked) = checks.join_next().await {
                // A check that panicked says nothing about its sink.
                suspect.extend(checked.into_iter().flatten());
            }
            Completion::DriftCheck(suspect)
        });
    }

    /// Wakes the keys with drift, so that their workers check them, and starts the next
    /// batch.
    pub(super) fn finish_drift_batch(&mut self, suspect: BTreeSet<KeyName>) {
        let now = self.services.clock.now();
        for key in suspect {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.needs_drift_check = true;
            }
            self.wake(&key, now);
        }
        self.start_next_drift_batch();
    }
}

impl KeyEntry {
    /// Returns the sinks to check, with the credential that each accepted. A worker that
    /// has the key checks them itself.
    fn drift_checks(&mut self) -> impl Iterator<Item = (&Arc<dyn Sink>, &CredentialMetadata)> {
        if self.managed.is_some() && self.parked.is_none() {
            self.needs_drift_check = true;
            self.is_dirty = true;
        }
        self.accepted_deliveries()
            .map(|(_, sink, credential)| (sink, credential))
    }

    /// Returns the checks of the access to the files, each of which returns whether that
    /// differs from what is recorded.
    fn access_checks(&self) -> Vec<BlockingCheck> {
        let Some(state) = self.state() else {
            return Vec::new();
        };
        let files = self
            .accepted_deliveries()
            .filter(|(delivery, sink, _)| has_file_access(delivery, sink.as_ref()));
        let checks = files.filter_map(|(delivery, sink, _)| {
            let recorded = state.recorded_access(&delivery.sink.target);
            let check = sink.blocking_access_check(recorded)?;
            let known = delivery.error.clone();
            let differs = move || {
                let report = check();
                report.narrowed.is_some() || report.problem != known
            };
            Some(Box::new(differs) as BlockingCheck)
        });
        checks.collect()
    }

    /// Whether the ledger lacks who could get a file of the current credential.
    fn has_unrecorded_file(&self) -> bool {
        let Some(state) = self.state() else {
            return false;
        };
        let mut deliveries = self.accepted_deliveries();
        deliveries.any(|(delivery, sink, _)| lacks_access(state, delivery, sink.as_ref()))
    }

    fn accepted_deliveries(
        &self,
    ) -> impl Iterator<Item = (&Delivery, &Arc<dyn Sink>, &CredentialMetadata)> {
        let current = self.state().and_then(KeyState::current);
        let current = self.managed.as_deref().zip(current).into_iter();
        current.flat_map(|(key, rotation)| accepted_deliveries(key, rotation))
    }
}
