//! How a process that ends leaves its keys.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::change::Change;
use crate::core::rotation::Phase;
use crate::core::{conclude, time};
use crate::engine::{Engine, Slot, tell};
use crate::ledger::LedgerError;

impl Engine {
    /// Lets everything at work finish the step it is in, and begins nothing
    /// more.
    pub async fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.finish_some().await {}
    }

    /// Leaves what is known of the keys to the end of the process, which is now:
    /// to free it one by one takes a tenth of the time of a run that finds
    /// nothing to do for ten thousand.
    pub fn leave(mut self) {
        std::mem::forget(std::mem::take(&mut self.keys));
    }

    /// Begins no rotation any more; what is open is gone on with.
    pub fn begin_nothing(&mut self) {
        self.scheduled = false;
        for slot in self.keys.values_mut() {
            slot.wish = None;
        }
    }

    /// Whether this process may know a secret that an open rotation needs:
    /// whoever is at work may have one.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        self.keys.values().any(|slot| match &slot.idle {
            None => true,
            Some(idle) => {
                let open = idle.state.open();
                let needs_it = open.is_some_and(|rotation| !rotation.is_written());
                let memory = idle.memory.as_ref();
                needs_it && memory.is_some_and(|memory| memory.secret.is_some())
            }
        })
    }

    /// Works on the keys with an orphaned credential once more, after
    /// [`Engine::stop`], for `limit` at most: what no sink can hold need not
    /// wait for the next start.
    pub async fn revoke_orphans(&mut self, limit: Duration) {
        let orphaned = |slot: &Slot| {
            slot.state().is_some_and(|state| {
                let mut live = state.live.iter();
                live.any(|rotation| rotation.phase == Phase::Orphaned)
            })
        };
        let now = self.parts.clock.now();
        let keys = self.keys.iter().filter(|(_, slot)| orphaned(slot));
        let keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        self.agenda.clear();
        for key in keys {
            self.agenda.insert(now, key, false);
        }
        self.scheduled = false;
        self.stopping.store(false, Ordering::Relaxed);
        self.start_due();
        let finished = async { while self.finish_some().await {} };
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
    pub async fn give_up_open(&mut self, why: &str, pause: Duration) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        for slot in self.keys.values_mut() {
            let Some(idle) = &mut slot.idle else { continue };
            let Some(open) = idle.state.open().filter(|open| !open.is_written()) else {
                continue;
            };
            let mut changes = if open.credential.is_some() {
                conclude::given_up(open, why)
            } else {
                Vec::new()
            };
            changes.push(Change::Deferred {
                attempt: idle.state.attempt.saturating_add(1),
                retry_at: time::after(now, pause),
                problem: why.to_owned(),
            });
            let before = idle.state.clone();
            idle.state = self
                .parts
                .ledger
                .record(&before.key, now, changes.clone())
                .await?;
            idle.memory = None;
            tell::tell(&before, &idle.state, &changes, now);
            self.parts.observer.recorded(&idle.state, &changes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
