//! The engine: hands due keys to workers, as far as places are free. `open.rs` opens it,
//! `requests.rs` takes requests, and `completions.rs` handles the results.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::alerting::outbox::WriteOutcome;
use crate::alerting::tracker::AlertTracker;
use crate::core::change::DowntimeReason;
use crate::core::condition::{Condition, ListenerProblem};
use crate::core::decide::due::Downtime;
use crate::core::duration;
use crate::core::ids::KeyName;
use crate::core::scope::Scope;
use crate::engine::credential_locks::CredentialLocks;
use crate::engine::file_search::FileSearch;
use crate::engine::gates::WaiterState;
use crate::engine::key_entry::KeyEntry;
use crate::engine::maintenance::{MaintenanceSchedule, MaintenanceTask};
use crate::engine::managed_key::ConfiguredKeys;
use crate::engine::pending_rechecks::PendingRechecks;
use crate::engine::places::PlacePool;
use crate::engine::presence::PresenceTally;
use crate::engine::probe;
use crate::engine::reconciliation::{self, LabelName, ReconciliationFailure, ReconciliationReport};
use crate::engine::run_queue::{DueWatch, RunQueue};
use crate::engine::services::Services;
use crate::engine::shared_view::SharedView;
use crate::engine::task_set::TaskSet;
use crate::engine::worker::{AwaitedPlace, RunContext, Worker};
use crate::platform::clock::{ClockJump, ClockReading};

/// The number of keys dispatched before the engine yields: requests to the daemon must
/// not wait for ten thousand keys.
const MAX_STARTS_PER_POLL: usize = 256;

/// Drives all keys of one ledger.
pub struct Engine {
    pub(super) services: Arc<Services>,
    /// The keys by name. Entries are boxed, because half of a map's nodes are empty.
    pub(super) keys: BTreeMap<KeyName, Box<KeyEntry>>,
    /// The times at which parked keys are evaluated; a key with a worker has none.
    pub(super) run_queue: RunQueue,
    /// The next scheduled rotation of each key.
    pub(super) next_rotations: BTreeSet<(Timestamp, KeyName)>,
    pub(super) running: TaskSet<Completion>,
    /// Whether [`Engine::start_due`] left keys for its next call.
    pub(super) has_more_due: bool,
    pub(super) due_watch: DueWatch,
    pub(super) maintenance: MaintenanceSchedule,
    /// The key at which the next batch of the drift check starts.
    pub(super) drift_cursor: Option<Bound<KeyName>>,
    /// The keys that cannot start a rotation before the next reconciliation of their
    /// scope.
    pub(super) awaiting_reconciliation: Vec<(Scope, KeyName)>,
    pub(super) presence: BTreeMap<Scope, PresenceTally>,
    /// The keys with an error.
    pub(super) unhealthy: BTreeSet<KeyName>,
    /// The keys with an open rotation.
    pub(super) rotating: BTreeSet<KeyName>,
    /// The keys with deferred revocations.
    pub(super) deferring: BTreeSet<KeyName>,
    /// The keys that may fall due together by their age.
    pub(super) due_by_age: BTreeSet<KeyName>,
    pub(super) stopping: Arc<AtomicBool>,
    /// Set when the process ends: running deliveries are dropped.
    pub(super) deliveries_dropped: watch::Sender<bool>,
    pub(super) places: PlacePool,
    /// The locks of credentials that several keys may have.
    pub(super) credential_locks: CredentialLocks,
    /// The configured keys.
    pub(super) configured: ConfiguredKeys,
    /// The search through the files of all configured sinks.
    pub(super) file_search: FileSearch,
    /// The keys that wait for a place at the provider, by the start of their wait.
    pub(super) awaiting_provider: RunQueue,
    /// The latest time in which no process could start a scheduled run.
    pub(super) downtime: Downtime,
    /// The latest reading of the clocks.
    pub(super) last_reading: ClockReading,
    pub(super) is_scheduling: bool,
    /// Whether a check of the ledger's files is running.
    pub(super) is_checking_ledger: bool,
    /// The size of the ledger's files in bytes, once they were checked.
    pub(super) ledger_size: Option<u64>,
    /// Whether the rotations in memory were reported, because the ledger is damaged.
    pub(super) has_reported_rotations: bool,
    /// Whether this process executes one command of an operator.
    pub(super) is_command: bool,
    /// Whether the command only shows what it would do.
    pub(super) only_proposes: bool,
    /// The active alerts and their notifications.
    pub(super) alert_tracker: AlertTracker,
    /// Why the last reload was rejected, if it was.
    pub(super) configuration_problem: Option<String>,
    /// The places at which the daemon cannot listen; none in a process that listens nowhere.
    pub(super) listener_problems: Option<BTreeMap<ListenerProblem, String>>,
    /// What readers outside the event loop see.
    pub(super) view: Arc<SharedView>,
    /// What may have ended the reason of deferred revocations.
    pub(super) rechecks: PendingRechecks,
}

/// The result of a task that the engine spawned.
pub(super) enum Completion {
    Key(Box<Worker>),
    Probe,
    /// The keys whose sinks have drift.
    DriftCheck(BTreeSet<KeyName>),
    Reconciliation(Scope, Result<ReconciliationReport, ReconciliationFailure>),
    LedgerWrite,
    /// The size of the ledger in bytes, if the check found it undamaged.
    LedgerCheck(Option<u64>),
    Notifications(WriteOutcome),
}

impl Engine {
    /// Schedules `key` for evaluation at `at`. If a worker has the key, marks it dirty,
    /// so that it is evaluated again when the worker returns.
    pub(super) fn wake(&mut self, key: &KeyName, at: Timestamp) {
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        if entry.parked.is_none() {
            entry.is_dirty = true;
            return;
        }
        if let Some(queued_at) = entry.wake_at {
            if queued_at <= at {
                return;
            }
            self.run_queue.remove(queued_at, key);
        }
        entry.wake_at = Some(at);
        self.run_queue
            .insert(at, key.clone(), self.rotating.contains(key));
    }

    /// Schedules every key for evaluation now.
    pub(super) fn wake_all(&mut self) {
        let now = self.services.clock.now();
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.wake(&key, now);
        }
    }

    /// Logs why nothing happens with each key once more, since the level of the log has
    /// changed.
    pub fn log_decisions_again(&mut self) {
        for entry in self.keys.values_mut() {
            entry.logged_decisions = None;
        }
        self.wake_all();
    }

    /// Dispatches the due keys, as far as places are free, and starts the due maintenance
    /// tasks.
    pub fn start_due(&mut self) {
        self.publish_process();
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let mut now = self.check_clock();
        self.start_maintenance(now);
        self.recheck_deferrals(now);
        self.update_due_alerts(now);
        // No effect may precede a commit, and none can be made.
        if self.services.conditions.is_active(Condition::Ledger) {
            self.refuse_commands();
            return;
        }
        for _ in 0..MAX_STARTS_PER_POLL {
            self.wake_ready_keys(now);
            self.update_gates(now);
            // Every due key is evaluated before a waiting key gets a place at the
            // provider: only the evaluation shows whether it needs one.
            if let Some(key) = self.run_queue.pop_due(now) {
                self.dispatch(&key, false);
            } else if let Some(key) = self.pop_awaiting() {
                self.dispatch(&key, true);
            } else {
                return;
            }
            // A worker that notices a clock jump returns at once, and its key is then
            // dispatched by the new time.
            now = self.check_clock();
        }
        self.has_more_due = true;
    }

    /// Removes and returns the next key that waits for a place at the provider, if one is
    /// free.
    fn pop_awaiting(&mut self) -> Option<KeyName> {
        self.awaiting_provider.next_at()?;
        let limit = self.services.max_in_flight;
        let has_place = self.places.has_room_at_provider(limit);
        has_place
            .then(|| self.awaiting_provider.pop_due(Timestamp::MAX))
            .flatten()
    }

    /// Wakes the keys that were granted a place at the destination of their
    /// next delivery.
    pub(super) fn wake_ready_keys(&mut self, now: Timestamp) {
        for key in self.places.take_ready() {
            self.wake(&key, now);
        }
    }

    /// Wakes the keys that may pass a gate, and opens the gates at which none waits.
    pub(super) fn update_gates(&mut self, now: Timestamp) {
        let gates = self.services.conditions.gates().clone();
        let mut has_opened = false;
        for (gate, free) in gates.unopened(now) {
            if gates.open_if_unused(&gate, now) {
                self.services.conditions.clear_gate(&gate.0, gate.1);
                has_opened = true;
                continue;
            }
            let keys = &self.keys;
            let state_of = |key: &KeyName| match keys.get(key) {
                Some(entry) => entry.waiting_at_gate(),
                None => WaiterState::Delayed,
            };
            for (since, key) in gates.first_waiting(&gate, free, state_of) {
                self.wake(&key, since);
            }
        }
        if has_opened {
            self.apply_condition_changes();
        }
    }

    /// Checks for a clock jump, and returns the time. After a jump backward, every queued
    /// time is too late, so everything is evaluated again. A jump forward is recorded as
    /// downtime.
    fn check_clock(&mut self) -> Timestamp {
        let now = ClockReading::read(self.services.clock.as_ref());
        let previous = std::mem::replace(&mut self.last_reading, now);
        let Some(jump) = previous.jump_until(now) else {
            return now.wall;
        };
        self.alert_tracker.reset_grace_period(now.wall);
        match jump {
            ClockJump::Backward(by) => {
                tracing::warn!("the clock was set back; re-evaluating every key");
                // A leak ends when its time has passed, whatever the clock says meanwhile.
                let entries = self.keys.values_mut();
                entries.for_each(|entry| entry.move_deadlines(by));
                self.downtime.to = self.downtime.to.min(now.wall);
                self.maintenance.reschedule_all(now.wall);
                self.services.conditions.gates().end_pauses(now.wall);
                self.wake_all();
            }
            ClockJump::Forward(by) => {
                let span = duration::to_human_text(by);
                tracing::info!("the host slept, or its clock was set forward, by {span}");
                self.downtime = Downtime {
                    from: previous.wall,
                    to: now.wall,
                    reason: DowntimeReason::Suspended,
                };
            }
        }
        now.wall
    }

    /// Returns every name of every key, the former ones too.
    fn names(&self) -> Vec<LabelName> {
        let keys = self.keys.iter();
        let names = keys.flat_map(|(key, entry)| {
            let names = std::iter::once(key).chain(&entry.former_names);
            names.map(|name| LabelName {
                name: name.clone(),
                key: key.clone(),
            })
        });
        names.collect()
    }

    fn start_maintenance(&mut self, now: Timestamp) {
        let conditions = &self.services.conditions;
        conditions.log_lasting(now);
        for task in self.maintenance.due(conditions, now) {
            let services = Arc::clone(&self.services);
            match task {
                MaintenanceTask::Probe => {
                    self.running.spawn(async move {
                        probe::probe(services).await;
                        Completion::Probe
                    });
                }
                MaintenanceTask::Reconciliation(scope) => {
                    // A key may have had another scope in a ledger that was lost.
                    let keys = self.names();
                    let generation = services.provider.own_credential_generation();
                    let is_first = self.maintenance.compared_with(&scope) != Some(generation);
                    let tally = self.presence.get(&scope);
                    let accepts_any = tally.is_some_and(|tally| tally.accepts_any_list);
                    self.running.spawn(async move {
                        let report = reconciliation::reconcile(
                            &services,
                            &scope,
                            keys,
                            is_first,
                            accepts_any,
                        );
                        let report = report.await;
                        Completion::Reconciliation(scope, report)
                    });
                }
                MaintenanceTask::DriftCheck => self.start_drift_check(),
            }
        }
        self.record_conditions();
    }

    /// Records conditions that started or ended, for commands that read the ledger.
    pub(super) fn record_conditions(&mut self) {
        for ((condition, scope), problem) in self.services.conditions.take_unrecorded() {
            if condition == Condition::Ledger {
                // This condition cannot be recorded in the ledger.
                continue;
            }
            self.record_condition(scope, condition.as_str(), problem);
        }
        self.update_condition_alerts();
    }

    pub(super) fn record_condition(
        &mut self,
        scope: Option<Scope>,
        word: &'static str,
        problem: Option<String>,
    ) {
        // A command tells its caller, and would leave the condition behind.
        if self.is_command {
            return;
        }
        let (ledger, now) = (self.services.ledger.clone(), self.services.clock.now());
        self.running.spawn(async move {
            if let Err(error) = ledger.set_condition(scope, word, now, problem).await {
                tracing::debug!(%error, "cannot record the condition {word}");
            }
            Completion::LedgerWrite
        });
    }

    /// Hands a key to a worker, if it has work. Unless it has its turn at the provider,
    /// work that needs a place there waits behind the keys that wait already.
    fn dispatch(&mut self, key: &KeyName, has_turn: bool) {
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        let context = RunContext {
            stopping: Arc::clone(&self.stopping),
            deliveries_dropped: self.deliveries_dropped.subscribe(),
            places: self.places.clone(),
            is_scheduling: self.is_scheduling,
            only_proposes: self.only_proposes,
            downtime: self.downtime,
            locks: self.credential_locks.clone(),
            configured: Arc::clone(&self.configured),
            file_search: self.file_search.clone(),
            view: Arc::clone(&self.view),
            has_others_due: self.due_by_age.len() > usize::from(self.due_by_age.contains(key)),
            clock_reading: self.last_reading,
            scope: entry.scope.clone(),
            reconciled_at: self.maintenance.reconciled_at(&entry.scope),
            compared_with: self.maintenance.compared_with(&entry.scope),
            list_problem: self.maintenance.list_problem(&entry.scope),
            recheck_count: self.rechecks.count(),
        };
        let Some(mut worker) = entry.check_out(&self.services, context) else {
            return;
        };
        if std::mem::take(&mut entry.is_queued_for_provider)
            && let Some(since) = entry.provider_turn
        {
            self.awaiting_provider.remove(since, key);
        }
        let change_count = self.services.conditions.change_count();
        // Nearly all keys have no work when they are evaluated.
        if let Some(work) = worker.next_work() {
            let must_wait =
                !has_turn && work.uses_provider() && self.awaiting_provider.next_at().is_some();
            if must_wait {
                worker.awaits = Some(AwaitedPlace::Provider);
            } else if worker.reserve(&work) {
                if work.uses_provider() {
                    entry.provider_turn = None;
                }
                self.running
                    .spawn(async move { Completion::Key(Box::new(worker.run(work).await)) });
                return;
            }
            worker.return_work(work);
        }
        self.park(worker);
        if self.services.conditions.change_count() != change_count {
            self.apply_condition_changes();
        }
    }

    /// Returns when [`Engine::start_due`] must be called again; none if nothing will ever
    /// be due in the present state.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let maintenance = self.maintenance.next_at();
        if self.services.conditions.is_active(Condition::Ledger) {
            return maintenance;
        }
        let key = self.run_queue.next_at();
        let alerts = self.alert_tracker.next_at();
        let rechecks = self.rechecks.next_at();
        let gates = self.services.conditions.gates().next_at(self.now());
        let other = maintenance.into_iter().chain(alerts).chain(rechecks);
        let other = other.chain(gates);
        key.into_iter().chain(other).min()
    }
}

/// Adds `key` to the set if it is a member, and removes it otherwise.
pub(super) fn set_membership(set: &mut BTreeSet<KeyName>, key: &KeyName, is_member: bool) {
    if !is_member {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}
