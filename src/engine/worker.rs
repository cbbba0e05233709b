//! One key at work: what is known of it, and how its changes are recorded.
//!
//! Deliberately not here: what is done next (`work.rs`) and how (`effects/`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::core::change::{Change, KeyBackoff, RetrySchedule};
use crate::core::decide::due::Downtime;
use crate::core::ids::{RotationId, SinkId};
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::Phase;
use crate::core::policy::{RetryClass, backoff_delay, key_backoff_delay};
use crate::core::scope::Scope;
use crate::core::state::{Delivery, KeyState};
use crate::core::time;
use crate::engine::log;
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::PendingCommand;
use crate::engine::places::{Place, PlacePool, ProviderPlace};
use crate::engine::probe;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::services::Services;
use crate::ledger::{Discrepancy, LedgerError};
use crate::platform::clock::ClockReading;
use crate::provider::{ProviderError, ProviderResponse};
use crate::sink::Destination;

/// What whoever is put to work has to know of the process, as it was then.
pub(crate) struct RunContext {
    pub(crate) stopping: Arc<AtomicBool>,
    /// Whether deliveries that still run are dropped: the process ends.
    pub(crate) deliveries_dropped: watch::Receiver<bool>,
    /// The places at the provider and at the destinations of deliveries.
    pub(crate) places: PlacePool,
    /// Whether rotations are begun by schedule.
    pub(crate) is_scheduling: bool,
    /// When nobody was there last to see a firing.
    pub(crate) downtime: Downtime,
    /// When the clocks were looked at for that.
    pub(crate) clock_reading: ClockReading,
    /// The scope of the key's credentials.
    pub(crate) scope: Scope,
    /// When that scope was reconciled with the provider: before that no rotation
    /// starts, since the ledger may be an older copy.
    pub(crate) reconciled_at: Option<Timestamp>,
}

/// One key at work. It goes in with what is known and comes out with what is
/// known then.
pub(crate) struct Worker {
    pub(crate) services: Arc<Services>,
    pub(crate) context: RunContext,
    pub(crate) managed: Option<Arc<ManagedKey>>,
    pub(crate) state: KeyState,
    pub(crate) in_flight: Option<InFlight>,
    /// What was done and could not be recorded yet.
    pub(crate) unrecorded: Vec<Change>,
    /// The changes of a commit that failed: it may have been done, and
    /// [`Worker::state`] is read before anything else.
    pub(crate) unclear_commit: Option<Vec<Change>>,
    pub(crate) request: Option<RotationRequest>,
    pub(crate) commands: VecDeque<PendingCommand>,
    pub(crate) discrepancies: VecDeque<Discrepancy>,
    /// Whether the ledger is still to be made to agree with the sinks.
    pub(crate) needs_sink_sync: bool,
    /// Whether the sinks are to be asked if they still have what they took.
    pub(crate) needs_drift_check: bool,
    /// Whether to come back after the present step: the key is configured
    /// otherwise.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Whether it is to be compared again before this key can be begun.
    pub(crate) needs_reconciliation: bool,
    /// When there is something to do again.
    pub(crate) wake_at: Option<Timestamp>,
    /// When the key is rotated next.
    pub(crate) rotates_at: Option<Timestamp>,
    /// Whether a create was unclear: the provider is swept again soon.
    pub(crate) needs_follow_up: bool,
    /// Its place among those that work with the provider.
    pub(crate) provider_place: Option<ProviderPlace>,
    /// A place at the destination of the delivery that comes next.
    pub(crate) delivery_place: Option<(Destination, Place)>,
    /// What the key waits for, if the worker ended because there was no place.
    pub(crate) awaits: Option<AwaitedPlace>,
    /// How far the preflight of the next rotation got.
    pub(crate) preflight: Preflight,
}

/// What a key without a place waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AwaitedPlace {
    /// A place among those that work with the provider.
    Provider,
    /// A place at the destination of a delivery.
    Destination,
}

/// The required sinks that passed the preflight of a rotation that has not
/// started yet.
#[derive(Debug, Default)]
pub(crate) struct Preflight {
    pub(crate) passed: Vec<SinkId>,
    /// When the last of them did.
    pub(crate) passed_at: Option<Timestamp>,
}

impl Worker {
    /// Records `changes` after those that could not be recorded before, and logs
    /// them. Those that cannot be recorded now are kept.
    pub(crate) async fn record(&mut self, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.unrecorded.extend(changes);
        let changes = std::mem::take(&mut self.unrecorded);
        let now = self.now();
        let ledger = &self.services.ledger;
        match ledger.record(&self.state, now, &changes).await {
            Ok(state) => {
                self.finish_commit(state, &changes);
                Ok(())
            }
            Err(error) => {
                // What has had no effect outside yet is dropped and decided
                // again; everything else has happened, and is recorded later.
                let kept = changes.iter().filter(|change| !change.is_decision());
                self.unrecorded = kept.cloned().collect();
                // What contradicts the rows is certainly not recorded.
                let is_unclear = !error.is_content_error();
                self.unclear_commit = Some(if is_unclear { changes } else { Vec::new() });
                Err(error)
            }
        }
    }

    /// Reads the key's state after a commit that failed, or whose outcome is
    /// unknown. Returns whether it differs from the state before: then the
    /// commit was done.
    pub(crate) async fn read_state(&mut self) -> Result<bool, LedgerError> {
        let state = self.services.ledger.key_state(&self.state.key).await?;
        let attempted = self.unclear_commit.take().unwrap_or_default();
        if state == self.state {
            return Ok(false);
        }
        self.unrecorded.clear();
        self.finish_commit(state, &attempted);
        Ok(true)
    }

    /// Takes over the state that `changes` led to, now that they are recorded.
    fn finish_commit(&mut self, state: KeyState, changes: &[Change]) {
        let before = std::mem::replace(&mut self.state, state);
        log::log_changes(&before, &self.state, changes, self.now());
        self.services.observer.observe(&self.state, changes);
        self.drop_unneeded_secret();
    }

    /// Drops the secret as soon as nobody is to get it any more.
    fn drop_unneeded_secret(&mut self) {
        let Some(memory) = &self.in_flight else {
            return;
        };
        let needed = self
            .state
            .rotation(&memory.rotation)
            .is_some_and(|rotation| {
                rotation.phase.is_open()
                    || (rotation.phase == Phase::Current
                        && rotation.deliveries.iter().any(Delivery::needs_secret))
            });
        if !needed {
            self.in_flight = None;
        }
    }

    /// Takes a place among those that work with the provider, or keeps the one
    /// it has. Without one the key waits for it.
    pub(crate) fn take_provider_place(&mut self) -> bool {
        if self.provider_place.is_none() {
            let limit = self.services.max_in_flight;
            self.provider_place = self.context.places.take_at_provider(limit);
        }
        let has_place = self.provider_place.is_some();
        if !has_place {
            self.awaits = Some(AwaitedPlace::Provider);
        }
        has_place
    }

    /// Takes a place at `destination` for the delivery that comes next, or keeps
    /// the one it has. Without one the key waits for it.
    pub(crate) fn take_delivery_place(&mut self, destination: Destination) -> bool {
        if let Some((held, _)) = &self.delivery_place
            && *held == destination
        {
            return true;
        }
        self.delivery_place = None;
        let place = self.context.places.take(&self.state.key, &destination);
        self.delivery_place = place.map(|place| (destination, place));
        let has_place = self.delivery_place.is_some();
        if !has_place {
            self.awaits = Some(AwaitedPlace::Destination);
        }
        has_place
    }

    /// Whether an operator waits for something that this worker has to do.
    pub(crate) fn has_operator_work(&self) -> bool {
        self.request.is_some() || !self.commands.is_empty()
    }

    /// Awaits `attempt` at a sink, without a place at the provider. Returns none
    /// if deliveries are dropped first, because the process ends.
    pub(crate) async fn attempt_at_sink<T>(
        &mut self,
        attempt: impl Future<Output = T>,
    ) -> Option<T> {
        self.provider_place = None;
        let mut dropped = self.context.deliveries_dropped.clone();
        tokio::select! {
            biased;
            outcome = attempt => Some(outcome),
            _ = dropped.wait_for(|dropped| *dropped) => None,
        }
    }

    /// Notes that the provider said something, and what time it has.
    pub(crate) fn observe_response<T>(&self, outcome: &Result<ProviderResponse<T>, ProviderError>) {
        let date = match outcome {
            Ok(answer) => answer.server_time,
            Err(error) if error.server_time.is_some() => error.server_time,
            Err(_) => return,
        };
        let monotonic = self.services.clock.monotonic();
        self.services
            .conditions
            .observe_response(date, self.now(), monotonic);
    }

    /// Whether a failure is the whole daemon's matter. Then it is told once
    /// for all keys, and counts for none of them.
    pub(crate) async fn is_global_failure(&self, error: &ProviderError) -> bool {
        probe::is_global_failure(&self.services, error).await
    }

    /// Records that a rotation failed or could not be begun.
    pub(crate) fn back_off_key(&self, problem: &str, after: Option<Duration>) -> Change {
        let attempt = self.state.attempt.saturating_add(1);
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let creates = policy.map_or(1, |policy| policy.max_creates_per_day);
        let pause = key_backoff_delay(attempt, creates).max(after.unwrap_or_default());
        Change::from(KeyBackoff {
            attempt,
            retry_at: time::after(self.now(), pause),
            problem: problem.to_owned(),
        })
    }

    /// Records that the present step of a rotation failed.
    pub(crate) fn schedule_retry(
        &self,
        rotation: &RotationId,
        waiting: RetryClass,
        error: &str,
        after: Option<Duration>,
    ) -> Change {
        let attempt = self
            .state
            .rotation(rotation)
            .map_or(0, |found| found.attempt)
            + 1;
        let pause = backoff_delay(waiting, attempt).max(after.unwrap_or_default());
        Change::from(RetrySchedule {
            rotation: rotation.clone(),
            attempt,
            retry_at: time::after(self.now(), pause),
            error: error.to_owned(),
        })
    }

    /// From when an overlap counts that begins now.
    pub(crate) fn overlap_start(&self) -> Timestamp {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let now = clock.now();
        let from = conditions.overlap_start(now, clock.monotonic());
        time::next_whole_second(from.unwrap_or(now))
    }

    /// Whether the provider has told its time: before that nothing that counts
    /// from now is recorded, and nothing is revoked either.
    pub(crate) fn has_provider_time(&self) -> bool {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let from = conditions.overlap_start(clock.now(), clock.monotonic());
        from.is_some()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}
