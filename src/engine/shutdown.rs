//! The shutdown of the engine: it finishes steps, drops deliveries, revokes orphans and
//! abandons open rotations.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, KeyBackoff};
use crate::core::decide::outcome;
use crate::core::decide::secret_source::may_resume;
use crate::core::health::most_urgent_error;
use crate::core::lifecycle::Phase;
use crate::core::policy::plausible_retry;
use crate::core::state::Rotation;
use crate::core::time;
use crate::engine::key_entry::KeyEntry;
use crate::engine::log;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

/// How long a process waits for the record of its end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

impl Engine {
    /// Waits until every worker has finished its current step, and starts no more.
    pub async fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.process_completions().await {}
    }

    /// Records that this process ends in order, if the ledger responds.
    pub async fn record_end(&self) {
        let now = self.services.clock.now();
        let recorded = self.services.ledger.end_run(now);
        match tokio::time::timeout(END_TIMEOUT, recorded).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot record the end of this run"),
            Err(_) => tracing::debug!("the ledger did not record the end of this run in time"),
        }
    }

    /// Drops the running deliveries, and starts no more work. A dropped delivery may have
    /// reached its sink. [`Engine::stop`] finishes the requests to the provider.
    pub fn drop_deliveries(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.deliveries_dropped.send_replace(true);
    }

    /// Starts no more rotations; open ones continue.
    pub fn drain(&mut self) {
        self.is_scheduling = false;
        for (key, entry) in &mut self.keys {
            let is_requested = entry.request.take().is_some();
            // The next process continues with what the ledger has.
            let is_kept = std::mem::take(&mut entry.is_request_recorded);
            if is_kept {
                tracing::info!(%key, "{key}: the next run continues with the requested rotation");
            } else if is_requested {
                tracing::warn!(
                    %key,
                    "{key}: dropped the requested rotation, because rekeyd is stopping"
                );
            }
        }
    }

    /// Returns whether this process may hold a secret that an open rotation needs: any
    /// worker may have one.
    #[must_use]
    pub fn has_pending_secrets(&self) -> bool {
        self.has_secrets_of(|_| true)
    }

    /// Returns whether this process may hold such a secret that it can go on with now. A
    /// receiver that has failed may stay so for longer than a stop can wait.
    #[must_use]
    pub fn has_deliverable_secrets(&self) -> bool {
        let now = self.services.clock.now();
        self.has_secrets_of(|rotation| !waits_for_retries(rotation, now))
    }

    /// Returns whether this process may hold a secret that an open rotation needs, of those
    /// that count.
    fn has_secrets_of(&self, counts: impl Fn(&Rotation) -> bool) -> bool {
        self.keys.values().any(|entry| match &entry.parked {
            None => true,
            Some(parked) => {
                let open = parked.state.open_rotation();
                let needs_secret = open.is_some_and(|rotation| {
                    !rotation.can_finish_without_secret() && counts(rotation)
                });
                let in_flight = parked.in_flight.as_ref();
                needs_secret && in_flight.is_some_and(|in_flight| in_flight.secret.is_some())
            }
        })
    }

    /// Revokes orphaned credentials after [`Engine::stop`], for `limit` at most: those that
    /// no sink can hold need not wait for the next start.
    pub async fn revoke_orphans(&mut self, limit: Duration) {
        let has_orphan = |entry: &KeyEntry| {
            entry.state().is_some_and(|state| {
                let mut live = state.live.iter();
                live.any(|rotation| rotation.phase == Phase::Orphaned)
            })
        };
        let now = self.services.clock.now();
        let keys = self.keys.iter().filter(|(_, entry)| has_orphan(entry));
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
            tracing::warn!("did not revoke every orphaned credential in time; the next start does");
        }
    }

    /// Abandons every open rotation of this process, except those that the next process
    /// can finish without the secret, or with the one in a
    /// file. The next rotation of such a key waits at least
    /// `pause`.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn abandon_open_rotations(
        &mut self,
        reason: &str,
        pause: Duration,
    ) -> Result<(), LedgerError> {
        let now = self.services.clock.now();
        for entry in self.keys.values_mut() {
            let Some(parked) = &mut entry.parked else {
                continue;
            };
            let ledger = &self.services.ledger;
            if parked.has_unclear_commit() {
                let state = ledger.key_state(&parked.state.key).await?;
                parked.replace_state(state);
            }
            let Some(open) = parked
                .state
                .open_rotation()
                .filter(|open| !open.can_finish_without_secret())
                .filter(|open| !may_resume(open, &parked.state, now))
            else {
                continue;
            };
            // The cause is why it was not delivered in time.
            let cause = most_urgent_error(&parked.state);
            let reason = match cause {
                Some(cause) => format!("{reason}: {cause}"),
                None => format!("{reason} before the secret was delivered"),
            };
            let mut changes = if open.credential.is_some() {
                outcome::abandon(open, &reason)
            } else {
                Vec::new()
            };
            changes.push(Change::from(KeyBackoff {
                attempt: parked.state.attempt.saturating_add(1),
                retry_at: time::after(now, pause),
                problem: reason,
                is_before_create: false,
                is_extra: false,
            }));
            let state = ledger.record(&parked.state, now, &changes).await?;
            let before = std::mem::replace(&mut parked.state, state);
            parked.in_flight = None;
            log::log_changes(&before, &parked.state, &changes, now);
            self.services.observer.observe(&parked.state, &changes);
        }
        Ok(())
    }
}

/// Returns whether each delivery that a verified rotation lacks has failed, and waits for its
/// next attempt.
fn waits_for_retries(open: &Rotation, now: Timestamp) -> bool {
    let deliveries = open.deliveries.iter();
    let mut lacking = deliveries.filter(|delivery| delivery.required && delivery.is_outstanding());
    open.phase == Phase::Verified
        && lacking.all(|delivery| {
            plausible_retry(delivery.retry_at, now).is_some_and(|retry_at| retry_at > now)
        })
}

#[cfg(test)]
mod tests;
