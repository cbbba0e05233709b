//! The worker of one key: its state, its places, and how it records changes.
//!
//! Deliberately not here: which work is next (`next_work.rs`) and how it is performed
//! (`effects/`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::core::change::{Change, KeyBackoff, RetrySchedule};
use crate::core::decide::due::{Downtime, Due, check_due};
use crate::core::decide::revocation::{OtherHolder, moves_targets, next_deadline};
use crate::core::decide::sightings;
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, RotationId, SinkId};
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::Phase;
use crate::core::policy::{RetryClass, backoff_delay, key_backoff_delay, plausible_retry};
use crate::core::scope::Scope;
use crate::core::state::{Delivery, KeyState, Rotation, Trigger};
use crate::core::time;
use crate::engine::activity::ActivityCell;
use crate::engine::credential_locks::{CredentialLocks, LockedCredential};
use crate::engine::file_search::FileSearch;
use crate::engine::gates::{GatePass, HeldBack};
use crate::engine::log;
use crate::engine::managed_key::{ConfiguredKeys, ManagedKey};
use crate::engine::operator_command::PendingCommand;
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::places::{Place, PlacePool, ProviderPlace};
use crate::engine::probe;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::services::Services;
use crate::engine::shared_view::SharedView;
use crate::ledger::{Discrepancy, LedgerError};
use crate::platform::clock::ClockReading;
use crate::provider::{ProviderError, ProviderResponse};
use crate::sink::Destination;

/// The state of the engine when it dispatched a worker.
pub(crate) struct RunContext {
    pub(crate) stopping: Arc<AtomicBool>,
    /// Whether running deliveries are dropped, because the process ends.
    pub(crate) deliveries_dropped: watch::Receiver<bool>,
    /// The places at the provider and at the destinations of deliveries.
    pub(crate) places: PlacePool,
    /// Whether the schedule starts rotations.
    pub(crate) is_scheduling: bool,
    /// Whether the process only shows what a command would do.
    pub(crate) only_proposes: bool,
    /// The latest time in which no process could start a scheduled run.
    pub(crate) downtime: Downtime,
    /// The reading of the clocks that determined the downtime.
    pub(crate) clock_reading: ClockReading,
    /// The locks of credentials that several keys may have.
    pub(crate) locks: CredentialLocks,
    /// All configured keys.
    pub(crate) configured: ConfiguredKeys,
    /// The search through the files of all configured sinks.
    pub(crate) file_search: FileSearch,
    /// What readers outside the event loop see.
    pub(crate) view: Arc<SharedView>,
    /// Whether other keys may fall due by their age together with this one.
    pub(crate) has_others_due: bool,
    /// The scope of the key's credentials.
    pub(crate) scope: Scope,
    /// The last reconciliation of that scope. No rotation starts before the first one,
    /// because the ledger may be an older backup.
    pub(crate) reconciled_at: Option<Timestamp>,
    /// The generation of the admin key with which this process compared the scope
    /// last.
    pub(crate) compared_with: Option<u64>,
    /// Why that scope could not be listed since.
    pub(crate) list_problem: Option<String>,
    /// How often causes to decide deferrals again had been followed up.
    pub(crate) recheck_count: u64,
}

/// The worker of one key. It owns the key's state from dispatch until its return.
pub(crate) struct Worker {
    pub(crate) services: Arc<Services>,
    pub(crate) context: RunContext,
    /// What it is doing, for callers that wait.
    pub(crate) activity: Arc<ActivityCell>,
    pub(crate) managed: Option<Arc<ManagedKey>>,
    pub(crate) state: KeyState,
    pub(crate) in_flight: Option<InFlight>,
    /// The changes that happened and could not be recorded yet.
    pub(crate) unrecorded: Vec<Change>,
    /// The changes of a failed commit, which may be in the ledger nevertheless:
    /// [`Worker::state`] is read again before any other work.
    pub(crate) unclear_commit: Option<Vec<Change>>,
    /// The earlier deadlines of leaked credentials, since the clock was set back.
    pub(crate) deadlines: Vec<(RotationId, Timestamp)>,
    pub(crate) request: Option<RotationRequest>,
    /// Why the latest request could not start a rotation, if the key's state does not
    /// have it.
    pub(crate) request_problem: Option<String>,
    /// The retries of the open rotation that a request has expedited.
    pub(crate) planned_retries: PlannedRetries,
    /// Whether the key is evaluated again at once: its schedule was not, beside a request.
    pub(crate) needs_evaluation: bool,
    /// Whether a back-off after a failure before a create is ignored once, because the
    /// problem may have been repaired.
    pub(crate) ignores_backoff: bool,
    pub(crate) commands: VecDeque<PendingCommand>,
    /// What operators did, and what was found at files, since this worker was dispatched.
    pub(crate) notices: Vec<OperatorNotice>,
    pub(crate) discrepancies: VecDeque<Discrepancy>,
    /// The ends that this worker's retrieves showed and the ledger does not have.
    pub(crate) observed_ends: ObservedEnds,
    /// The rotations whose deferred revocation is decided again before its time.
    pub(crate) rechecks: BTreeSet<RotationId>,
    /// Whether it changed what deferred revocations of any key may wait for.
    pub(crate) moved_targets: bool,
    /// Whether the deliveries must be compared with the configured sinks.
    pub(crate) needs_sink_sync: bool,
    /// Whether to check that the sinks still hold what they accepted.
    pub(crate) needs_drift_check: bool,
    /// When this worker last checked that.
    pub(crate) drift_checked_at: Option<Timestamp>,
    /// The current rotation whose secret no file holds, as this worker has seen.
    pub(crate) sourceless: Option<RotationId>,
    /// Set to make the worker return after its current step, because the key's
    /// configuration changed.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Notified to end a delivery, because the key leaked.
    pub(crate) delivery_ended: Arc<Notify>,
    /// Whether the key needs a reconciliation before it can start a rotation.
    pub(crate) needs_reconciliation: bool,
    /// When the key is evaluated next.
    pub(crate) wake_at: Option<Timestamp>,
    /// When the key is rotated next by schedule.
    pub(crate) rotates_at: Option<Timestamp>,
    /// Whether an outcome at the provider is unclear, so that reconciliations follow
    /// soon.
    pub(crate) needs_follow_up: bool,
    /// Whether a list may show more credentials as rekeyd's than before, by their names.
    pub(crate) has_learned_names: bool,
    /// The limits that the requested rotation exceeds, by the latest check before its start,
    /// which may be one of several.
    pub(crate) exceeded_limits: Vec<String>,
    /// Its place at the provider.
    pub(crate) provider_place: Option<ProviderPlace>,
    /// Its place at the destination of the next delivery.
    pub(crate) delivery_place: Option<(Destination, Place)>,
    /// The place that the key waits for, if the worker returned without one.
    pub(crate) awaits: Option<AwaitedPlace>,
    /// The passes of its present work through the gates of its scope.
    pub(crate) passes: BTreeMap<RequestClass, GatePass>,
    /// The gate that holds its next work back.
    pub(crate) held_back_by: Option<HeldBack>,
    /// Since when a gate has held it back.
    pub(crate) gate_turn: Option<Timestamp>,
    /// The preflight of the next rotation.
    pub(crate) preflight: Preflight,
}

/// What the answers to retrieves showed, until the worker handles it.
#[derive(Debug, Default)]
pub(crate) struct ObservedEnds(Mutex<Vec<Discrepancy>>);

impl ObservedEnds {
    pub(crate) fn push(&self, observed: Discrepancy) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push(observed);
    }

    fn take(&self) -> Vec<Discrepancy> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place that a key waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AwaitedPlace {
    /// A place at the provider.
    Provider,
    /// A place at the destination of a delivery.
    Destination,
}

/// The retries that were planned when an operator requested one at once: if that one
/// fails, they are made as planned.
#[derive(Debug, Default)]
pub(crate) struct PlannedRetries {
    pub(crate) step: Option<Timestamp>,
    pub(crate) deliveries: Vec<(SinkId, Timestamp)>,
}

impl PlannedRetries {
    /// Returns the retries of a rotation that are planned after `now`.
    pub(crate) fn of(rotation: &Rotation, now: Timestamp) -> Self {
        let later = |at: Option<Timestamp>| plausible_retry(at, now).filter(|at| *at > now);
        let deliveries = rotation.deliveries.iter();
        let deliveries = deliveries
            .filter_map(|delivery| Some((delivery.sink.clone(), later(delivery.retry_at)?)));
        Self {
            step: later(rotation.retry_at),
            deliveries: deliveries.collect(),
        }
    }

    /// Returns the planned retry of a delivery.
    pub(crate) fn of_delivery(&self, sink: &SinkId) -> Option<Timestamp> {
        let mut deliveries = self.deliveries.iter();
        let planned = deliveries.find(|(planned, _)| planned == sink);
        planned.map(|(_, at)| *at)
    }
}

/// The preflight of a rotation that has not started: the required sinks that passed.
#[derive(Debug, Default)]
pub(crate) struct Preflight {
    pub(crate) passed: Vec<SinkId>,
    /// When the last of them passed.
    pub(crate) passed_at: Option<Timestamp>,
}

impl Worker {
    /// Records `changes` after those that could not be recorded before, and logs them.
    /// If the commit fails, keeps the changes that are no decisions.
    pub(crate) async fn record(&mut self, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.unrecorded.extend(changes);
        let changes = std::mem::take(&mut self.unrecorded);
        let now = self.now();
        let recording = self.services.ledger.record(&self.state, now, &changes);
        match probe::watch_ledger(&self.services, recording).await {
            Ok(state) => {
                self.finish_commit(state, &changes);
                Ok(())
            }
            Err(error) => {
                // A decision had no external effect yet: it is dropped and made again.
                // Every other change has happened, and is recorded later.
                let happened = changes.iter().filter(|change| !change.is_decision());
                self.unrecorded = happened.cloned().collect();
                // A change that contradicts the rows was certainly not recorded.
                let is_unclear = !error.is_content_error();
                self.unclear_commit = Some(if is_unclear { changes } else { Vec::new() });
                Err(error)
            }
        }
    }

    /// Reads the key's state after a commit whose outcome is unknown. Returns whether it
    /// differs from the state before, which means that the commit succeeded.
    pub(crate) async fn read_state(&mut self) -> Result<bool, LedgerError> {
        let reading = self.services.ledger.key_state(&self.state.key);
        let state = match probe::watch_ledger(&self.services, reading).await {
            Ok(state) => state,
            Err(error) => {
                // The reason to read it lasts.
                self.unclear_commit.get_or_insert_default();
                return Err(error);
            }
        };
        let attempted = self.unclear_commit.take().unwrap_or_default();
        if state == self.state {
            return Ok(false);
        }
        self.unrecorded.clear();
        self.finish_commit(state, &attempted);
        Ok(true)
    }

    /// Locks a credential until the returned lock is dropped, and reads the rows that
    /// other keys have of it. Another key's worker may have ended this key's own row
    /// meanwhile: its state is read again then.
    pub(crate) async fn lock_credential(
        &mut self,
        credential: &CredentialId,
    ) -> Result<LockedCredential, LedgerError> {
        let guard = self.context.locks.lock(credential).await;
        let ledger = self.services.ledger.clone();
        if ledger.take_stale(&self.state.key) {
            self.read_state().await?;
        }
        let others = ledger.other_holders(credential, &self.state.key).await?;
        let others = others.into_iter().filter_map(|(key, rotation)| {
            Some(OtherHolder {
                rotation: key.rotation(&rotation)?.clone(),
                policy: self
                    .context
                    .configured
                    .get(&key.key)
                    .map(|managed| Arc::clone(&managed.policy)),
                key,
            })
        });
        Ok(LockedCredential::new(guard, others.collect()))
    }

    /// Locks several credentials until the returned locks are dropped. All workers lock in
    /// one order, so that no two wait for each other.
    pub(crate) async fn lock_credentials(
        &mut self,
        mut credentials: Vec<CredentialId>,
    ) -> Result<Vec<LockedCredential>, LedgerError> {
        credentials.sort_unstable();
        let mut locks = Vec::new();
        for credential in &credentials {
            locks.push(self.lock_credential(credential).await?);
        }
        Ok(locks)
    }

    /// Replaces the state by the result of recorded `changes`, and logs them.
    fn finish_commit(&mut self, state: KeyState, changes: &[Change]) {
        let before = std::mem::replace(&mut self.state, state);
        log::log_changes(&before, &self.state, changes, self.now());
        self.services.observer.observe(&self.state, changes);
        let managed = self.managed.as_deref();
        let view = &self.context.view;
        view.publish_state(&self.state, managed, self.now());
        self.moved_targets |= changes.iter().any(moves_targets);
        self.drop_unneeded_secret();
        // The target of a sink that was left as it is for this credential is repaired.
        self.needs_drift_check |= sightings::has_lost_tolerance(&before, &self.state, self.now());
    }

    /// Drops the secret as soon as no delivery needs it any more.
    fn drop_unneeded_secret(&mut self) {
        let Some(in_flight) = &self.in_flight else {
            return;
        };
        let is_needed = self
            .state
            .rotation(&in_flight.rotation)
            .is_some_and(|rotation| {
                rotation.phase.is_open()
                    || (rotation.phase == Phase::Current
                        && rotation.deliveries.iter().any(Delivery::needs_secret))
            });
        if !is_needed {
            self.in_flight = None;
        }
    }

    /// Queues what the answers to retrieves showed.
    pub(crate) fn queue_observed_ends(&mut self) {
        self.discrepancies.extend(self.observed_ends.take());
    }

    /// Takes a place at the provider, or keeps the one it has. Returns false if the key
    /// must wait for one.
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

    /// Takes a place at `destination` for the next delivery, or keeps the one it has.
    /// Returns false if the key must wait for one.
    pub(crate) fn take_delivery_place(&mut self, destination: Destination) -> bool {
        if let Some((current, _)) = &self.delivery_place
            && *current == destination
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

    /// Returns whether an operator waits for this worker.
    pub(crate) fn has_operator_work(&self) -> bool {
        self.request.is_some() || !self.commands.is_empty()
    }

    /// Awaits `attempt` at a sink, after giving back the place at the provider. Returns
    /// none if deliveries are dropped first, because the process ends.
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

    /// Awaits a delivery as [`Worker::attempt_at_sink`] does. Also returns none when the
    /// deadline of a leaked credential passes, and when an operator reports a leak: no
    /// sink delays that, and the delivery is made again.
    pub(crate) async fn attempt_before_deadline<T>(
        &mut self,
        attempt: impl Future<Output = T>,
    ) -> Option<T> {
        let now = self.now();
        let deadline = next_deadline(&self.state, now).map(|at| time::until(now, at));
        let is_over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        let delivery_ended = Arc::clone(&self.delivery_ended);
        tokio::select! {
            biased;
            outcome = self.attempt_at_sink(attempt) => outcome,
            () = delivery_ended.notified() => None,
            () = is_over => None,
        }
    }

    /// Reports a response of the provider, and its time, to the conditions.
    pub(crate) fn observe_response<T>(&self, result: &Result<ProviderResponse<T>, ProviderError>) {
        let server_time = match result {
            Ok(response) => {
                if let Some(pass) = self.passes.get(&RequestClass::Read) {
                    pass.succeed();
                }
                response.server_time
            }
            Err(error) if error.server_time.is_some() => error.server_time,
            Err(_) => return,
        };
        let monotonic = self.services.clock.monotonic();
        self.services
            .conditions
            .observe_response(server_time, self.now(), monotonic);
    }

    /// Returns whether a failure concerns the daemon, or every such request in the scope. Its
    /// condition is then raised for all keys, and the failure counts for none of them.
    pub(crate) async fn is_global_failure(&self, error: &ProviderError) -> bool {
        self.closes_gate(error) || probe::is_global_failure(&self.services, error).await
    }

    /// Returns the change that a rotation failed after its create was sent.
    pub(crate) fn back_off_key(&self, problem: &str, after: Option<Duration>) -> Change {
        Change::from(self.key_backoff(problem, after))
    }

    /// Returns the change that a rotation could not start.
    pub(crate) fn back_off_before_create(&self, problem: &str, after: Option<Duration>) -> Change {
        Change::from(KeyBackoff {
            is_before_create: true,
            ..self.key_backoff(problem, after)
        })
    }

    /// Returns the next attempt after a failure. One that an operator requested, or that
    /// a restart or a reload made, does not delay the attempt that was planned before.
    fn key_backoff(&self, problem: &str, after: Option<Duration>) -> KeyBackoff {
        let now = self.now();
        let planned = plausible_retry(self.state.retry_at, now).filter(|at| *at > now);
        let planned = planned.filter(|_| self.is_extra_attempt() && self.state.attempt > 0);
        let attempt = self.state.attempt.saturating_add(1);
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let creates = policy.map_or(1, |policy| policy.max_creates_per_day);
        let pause = key_backoff_delay(attempt, creates);
        KeyBackoff {
            attempt: planned.map_or(attempt, |_| self.state.attempt),
            retry_at: planned.unwrap_or_else(|| self.retry_time(pause, after)),
            problem: problem.to_owned(),
            is_before_create: false,
            is_extra: planned.is_some(),
        }
    }

    /// Returns whether the present attempt is none of the back-off's.
    fn is_extra_attempt(&self) -> bool {
        let open = self.state.open_rotation();
        self.request.is_some()
            || self.ignores_backoff
            || open.is_some_and(|open| open.trigger == Trigger::Manual)
    }

    /// Returns whether the key is rotated without a request, at once or later.
    pub(crate) fn is_due_by_itself(&self) -> bool {
        !self.has_no_cause()
    }

    /// Returns whether nothing asks for a rotation of the key, whatever its back-off and
    /// its pause. It counts as the start of a rotation does: a back-off that ends because
    /// nothing is due must not make the rotation due again.
    pub(crate) fn has_no_cause(&self) -> bool {
        let Some(managed) = &self.managed else {
            return true;
        };
        let resumed = KeyState {
            pause: None,
            retry_at: None,
            ..self.state.clone()
        };
        let (required, downtime) = (managed.required_sinks(), self.context.downtime);
        let due = check_due(&managed.policy, &required, &resumed, downtime, self.now());
        self.state.open_rotation().is_none() && !matches!(due, Due::Now { .. })
    }

    /// Returns the change that the current step of a rotation failed.
    pub(crate) fn schedule_retry(
        &self,
        rotation: &RotationId,
        class: RetryClass,
        error: &str,
        after: Option<Duration>,
    ) -> Change {
        let attempt = self
            .state
            .rotation(rotation)
            .map_or(0, |rotation| rotation.attempt)
            + 1;
        let pause = backoff_delay(class, attempt);
        let retry_at = self.retry_time(pause, after);
        let planned = self.planned_retries.step.filter(|at| *at > self.now());
        Change::from(RetrySchedule {
            rotation: rotation.clone(),
            attempt,
            retry_at: planned.map_or(retry_at, |planned| planned.min(retry_at)),
            error: error.to_owned(),
        })
    }

    /// Returns the time of the next attempt: after the back-off, and not before the pause
    /// that was asked for is over.
    pub(crate) fn retry_time(&self, backoff: Duration, requested: Option<Duration>) -> Timestamp {
        let now = self.now();
        // The ledger has whole seconds, and drops the rest.
        let requested = requested.map(|pause| time::next_whole_second(time::after(now, pause)));
        let at = time::after(now, backoff);
        requested.map_or(at, |requested| requested.max(at))
    }

    /// Returns the time from which an overlap that starts now counts.
    pub(crate) fn overlap_start(&self) -> Timestamp {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let now = clock.now();
        let from = conditions.overlap_start(now, clock.monotonic());
        time::next_whole_second(from.unwrap_or(now))
    }

    /// Returns whether the provider's time is known. Before that, no change that counts
    /// from now is recorded, and no credential is revoked.
    pub(crate) fn has_provider_time(&self) -> bool {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let from = conditions.overlap_start(clock.now(), clock.monotonic());
        from.is_some()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}
