//! How a process that ends leaves its keys.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::change::{Change, KeyBackoff};
use crate::core::decide::outcome;
use crate::core::lifecycle::Phase;
use crate::core::time;
use crate::engine::key_entry::KeyEntry;
use crate::engine::log;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

impl Engine {
    /// Lets everything at work finish the step it is in, and begins nothing
    /// more.
    pub async fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.process_completions().await {}
    }

    /// Drops the deliveries that still run, and begins nothing any more. What was
    /// begun may have reached its sink; requests to the provider are finished
    /// by [`Engine::stop`].
    pub fn drop_deliveries(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.deliveries_dropped.send_replace(true);
    }

    /// Begins no rotation any more; what is open is gone on with.
    pub fn drain(&mut self) {
        self.is_scheduling = false;
        for slot in self.keys.values_mut() {
            slot.request = None;
        }
    }

    /// Whether this process may know a secret that an open rotation needs:
    /// whoever is at work may have one.
    #[must_use]
    pub fn has_pending_secrets(&self) -> bool {
        self.keys.values().any(|slot| match &slot.parked {
            None => true,
            Some(idle) => {
                let open = idle.state.open_rotation();
                let needs_it = open.is_some_and(|rotation| !rotation.can_finish_without_secret());
                let memory = idle.in_flight.as_ref();
                needs_it && memory.is_some_and(|memory| memory.secret.is_some())
            }
        })
    }

    /// Works on the keys with an orphaned credential once more, after
    /// [`Engine::stop`], for `limit` at most: what no sink can hold need not
    /// wait for the next start.
    pub async fn revoke_orphans(&mut self, limit: Duration) {
        let orphaned = |slot: &KeyEntry| {
            slot.state().is_some_and(|state| {
                let mut live = state.live.iter();
                live.any(|rotation| rotation.phase == Phase::Orphaned)
            })
        };
        let now = self.services.clock.now();
        let keys = self.keys.iter().filter(|(_, slot)| orphaned(slot));
        let keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        self.run_queue.clear();
        self.awaiting_provider.clear();
        for key in self.keys.keys() {
            self.places.leave(key);
        }
        for key in keys {
            self.run_queue.insert(now, key, false);
        }
        self.is_scheduling = false;
        self.stopping.store(false, Ordering::Relaxed);
        let finished = async {
            self.start_due();
            while self.process_completions().await {
                self.start_due();
            }
        };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("an orphaned credential is revoked at the next start");
        }
    }

    /// Gives up every rotation that is open in this process, but for those that
    /// another one can go on with; the next rotation of such a key waits `pause`
    /// at least.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn abandon_open_rotations(
        &mut self,
        why: &str,
        pause: Duration,
    ) -> Result<(), LedgerError> {
        let now = self.services.clock.now();
        for slot in self.keys.values_mut() {
            let Some(idle) = &mut slot.parked else {
                continue;
            };
            let ledger = &self.services.ledger;
            if idle.has_unclear_commit() {
                let state = ledger.key_state(&idle.state.key).await?;
                idle.replace_state(state);
            }
            let Some(open) = idle
                .state
                .open_rotation()
                .filter(|open| !open.can_finish_without_secret())
            else {
                continue;
            };
            let mut changes = if open.credential.is_some() {
                outcome::abandon(open, why)
            } else {
                Vec::new()
            };
            changes.push(Change::from(KeyBackoff {
                attempt: idle.state.attempt.saturating_add(1),
                retry_at: time::after(now, pause),
                problem: why.to_owned(),
            }));
            let state = ledger.record(&idle.state, now, &changes).await?;
            let before = std::mem::replace(&mut idle.state, state);
            idle.in_flight = None;
            log::log_changes(&before, &idle.state, &changes, now);
            self.services.observer.observe(&idle.state, &changes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
