//! Opens the engine: reads the keys of a ledger, and registers them with those of the
//! configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::alerting::tracker::AlertTracker;
use crate::core::decide::due::Downtime;
use crate::core::health::alertable_error;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;
use crate::engine::credential_locks::CredentialLocks;
use crate::engine::file_search::FileSearch;
use crate::engine::key_entry::KeyEntry;
use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::maintenance::MaintenanceSchedule;
use crate::engine::managed_key::ManagedKey;
use crate::engine::pending_rechecks::PendingRechecks;
use crate::engine::places::PlacePool;
use crate::engine::presence::CredentialPresence;
use crate::engine::run_queue::{DueWatch, RunQueue};
use crate::engine::scheduler::{Engine, set_membership};
use crate::engine::services::{RunMode, Services};
use crate::engine::task_set::TaskSet;
use crate::ledger::{LastRun, LedgerError, RaisedAlerts, SchedulingCommand};
use crate::platform::clock::ClockReading;

impl Engine {
    /// Reads the state of every key from the ledger, and queues every key for its first
    /// evaluation.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open(
        services: Services,
        managed: Vec<ManagedKey>,
        mode: RunMode,
    ) -> Result<Self, LedgerError> {
        let states = services.ledger.all_key_states().await?;
        let reading = ClockReading::read(services.clock.as_ref());
        let now = reading.wall;
        // The operator who runs a command reads its result, and needs no notification.
        let raised = match mode {
            RunMode::Daemon | RunMode::Once => {
                services
                    .ledger
                    .retain_channels(services.subscriptions.channel_ids())
                    .await?
            }
            RunMode::Command | RunMode::Proposal => RaisedAlerts::default(),
        };
        let previous_run = begin_run(&services, mode, now).await;
        let mut live = states.iter().flat_map(|state| &state.live);
        let has_worked = |rotation: &Rotation| {
            matches!(
                rotation.phase,
                Phase::Verified | Phase::Current | Phase::Retired | Phase::Stranded
            )
        };
        if live.any(|rotation| rotation.has_wrong_redaction && has_worked(rotation)) {
            services.provider.distrust_redacted_values();
        }
        let scopes = scopes_of(&managed, &states);
        let configured = managed
            .into_iter()
            .map(|key| (key.name.clone(), Arc::new(key)));
        let configured: BTreeMap<_, _> = configured.collect();
        let managed = configured.values().cloned().collect();
        let mut engine = Self {
            alert_tracker: AlertTracker::new(Arc::clone(&services.subscriptions), raised, now),
            maintenance: MaintenanceSchedule::at_start(&services, mode, scopes, now).await?,
            services: Arc::new(services),
            keys: BTreeMap::new(),
            run_queue: RunQueue::default(),
            next_rotations: BTreeSet::new(),
            running: TaskSet::new(),
            has_more_due: false,
            due_watch: DueWatch::new(),
            drift_cursor: None,
            awaiting_reconciliation: Vec::new(),
            presence: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            rotating: BTreeSet::new(),
            deferring: BTreeSet::new(),
            due_by_age: BTreeSet::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            deliveries_dropped: watch::Sender::new(false),
            places: PlacePool::default(),
            credential_locks: CredentialLocks::default(),
            configured: Arc::new(configured),
            file_search: FileSearch::default(),
            awaiting_provider: RunQueue::default(),
            downtime: Downtime::before_start(now),
            last_reading: reading,
            is_scheduling: !mode.is_command(),
            is_checking_ledger: false,
            ledger_size: None,
            has_reported_rotations: false,
            is_command: mode.is_command(),
            only_proposes: mode == RunMode::Proposal,
            listener_problems: None,
            configuration_problem: None,
            rechecks: PendingRechecks::at_start(),
            view: Arc::default(),
        };
        let all_keys = engine.configured.values();
        engine.file_search.set_sinks(all_keys.map(AsRef::as_ref));
        engine.register_keys(states, managed, now);
        engine.load_failing_since().await?;
        engine.load_deadlines(now).await?;
        // A command answers its own request alone.
        if !mode.is_command() {
            engine.load_requests().await?;
        }
        if mode == RunMode::Daemon && previous_run.is_some_and(is_stopped_daemon) {
            // A person who restarts a daemon may have repaired what failed.
            let entries = engine.keys.values_mut();
            entries.for_each(|entry| entry.ignores_backoff = true);
        }
        engine.publish_all();
        Ok(engine)
    }

    /// Registers every key of the ledger or the configuration, both in the order of their
    /// names.
    fn register_keys(
        &mut self,
        states: Vec<KeyState>,
        managed: Vec<Arc<ManagedKey>>,
        now: Timestamp,
    ) {
        let mut entries = Vec::with_capacity(states.len().max(managed.len()));
        let mut states = states.into_iter().peekable();
        for key in managed {
            while let Some(state) = states.next_if(|state| state.key < key.name) {
                entries.push(self.register_key(None, state, now));
            }
            let state = states.next_if(|state| state.key == key.name);
            let state = state.unwrap_or_else(|| KeyState::unknown(key.name.clone()));
            entries.push(self.register_key(Some(key), state, now));
        }
        entries.extend(states.map(|state| self.register_key(None, state, now)));
        for (key, entry) in &entries {
            self.run_queue.insert(now, key.clone(), entry.is_rotating());
        }
        // Sorted entries are inserted without a search for each.
        self.keys = entries.into_iter().collect();
    }

    /// Reads since when keys have been failing from the event log: their rows do not
    /// have it.
    async fn load_failing_since(&mut self) -> Result<(), LedgerError> {
        for (key, entry) in &mut self.keys {
            if entry
                .parked
                .as_ref()
                .is_some_and(|parked| parked.state.attempt > 0)
            {
                entry.failing_since = self.services.ledger.failing_since(key).await?;
            }
        }
        Ok(())
    }

    /// Moves the deadlines of leaked credentials that were set at a time that is still to
    /// come: the clock was set back while no process ran. A deadline is never further away
    /// than when it was set.
    async fn load_deadlines(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        for (key, rotation, set_at) in self.services.ledger.deadlines_set_after(now).await? {
            let Some(entry) = self.keys.get_mut(&key) else {
                continue;
            };
            let state = entry.state();
            let deadline = state.and_then(|state| state.rotation(&rotation)?.deadline);
            if let Some(deadline) = deadline {
                let at = time::before(deadline.at, time::until(now, set_at));
                entry.deadlines.push((rotation, at));
            }
        }
        Ok(())
    }

    pub(super) fn add_key(
        &mut self,
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        now: Timestamp,
    ) {
        let (key, entry) = self.register_key(managed, state, now);
        self.run_queue.insert(now, key.clone(), entry.is_rotating());
        self.keys.insert(key, entry);
    }

    /// Returns the entry of a key that is evaluated at `now`.
    fn register_key(
        &mut self,
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        now: Timestamp,
    ) -> (KeyName, Box<KeyEntry>) {
        let key = state.key.clone();
        self.alert_tracker.seed_baseline(&state);
        let is_unhealthy =
            alertable_error(&state, managed.is_some() && !state.is_retired()).is_some();
        set_membership(&mut self.unhealthy, &key, is_unhealthy);
        let entry = KeyEntry::new(managed, state, now);
        set_membership(&mut self.deferring, &key, entry.has_deferral());
        set_membership(
            &mut self.due_by_age,
            &key,
            entry.may_fall_due_with_others(now),
        );
        let tally = self.presence.entry(entry.scope.clone()).or_default();
        tally.update(CredentialPresence::None, entry.presence);
        (key, Box::new(entry))
    }
}

/// Records the start of a process that rotates by schedule, and returns the one before. A
/// ledger that cannot be written does not keep the process from starting: its condition
/// says so.
async fn begin_run(services: &Services, mode: RunMode, now: Timestamp) -> Option<LastRun> {
    let command = match mode {
        RunMode::Daemon => SchedulingCommand::Run,
        RunMode::Once => SchedulingCommand::Once,
        RunMode::Command | RunMode::Proposal => return None,
    };
    match services.ledger.begin_run(command, now).await {
        Ok(previous) => previous,
        Err(error) => {
            raise_ledger_condition(&services.conditions, &error);
            None
        }
    }
}

/// Returns whether a run was a daemon that ended in order. After a crash, and between
/// runs of a timer, the back-off keeps a loop from making credentials.
fn is_stopped_daemon(run: LastRun) -> bool {
    run.command == SchedulingCommand::Run && run.ended_at.is_some()
}

/// Returns the scopes of the keys. The admin keys are always among them, because the
/// credential with which rekeyd authenticates is one.
fn scopes_of(managed: &[ManagedKey], states: &[KeyState]) -> BTreeSet<Scope> {
    let configured = managed.iter().map(|key| key.scope.clone());
    let live = states.iter().flat_map(|state| &state.live);
    let recorded = live.map(|rotation| rotation.scope.clone());
    let all = configured.chain(recorded);
    all.chain([Scope::AdminKeys]).collect()
}
