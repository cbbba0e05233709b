//! Hands keys to workers when they have something to do and there is a place
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::alerting::outbox::WriteOutcome;
use crate::alerting::tracker::AlertTracker;
use crate::core::change::DowntimeReason;
use crate::core::condition::Condition;
use crate::core::decide::due::Downtime;
use crate::core::duration;
use crate::core::health::alertable_error;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::scope::Scope;
use crate::core::state::KeyState;
use crate::engine::key_entry::KeyEntry;
use crate::engine::maintenance::{MaintenanceSchedule, MaintenanceTask};
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::PendingCommand;
use crate::engine::places::PlacePool;
use crate::engine::presence::{CredentialPresence, PresenceTally};
use crate::engine::probe;
use crate::engine::reconciliation::{self, ReconciliationReport};
use crate::engine::rotation_request::RotationRequest;
use crate::engine::run_queue::RunQueue;
use crate::engine::services::{RunMode, Services};
use crate::engine::worker::{AwaitedPlace, RunContext, Worker};
use crate::ledger::LedgerError;
use crate::platform::clock::{ClockJump, ClockReading};

/// So many keys are seen to before somebody else has a turn: what is asked of
/// the daemon is not to wait until ten thousand have been seen to.
const MAX_STARTS_PER_POLL: usize = 256;

/// Drives all keys of one ledger.
pub struct Engine {
    pub(super) services: Arc<Services>,
    /// Boxed, since half of the room in the nodes of a map is empty.
    pub(super) keys: BTreeMap<KeyName, Box<KeyEntry>>,
    /// When each idle key has something to do; a key at work is not in here.
    pub(super) run_queue: RunQueue,
    /// When each key is rotated next.
    pub(super) next_rotations: BTreeSet<(Timestamp, KeyName)>,
    pub(super) running: JoinSet<Completion>,
    /// Whether [`Engine::start_due`] left keys for its next call.
    pub(super) has_more_due: bool,
    pub(super) maintenance: MaintenanceSchedule,
    /// From which key on the sinks are still to be looked at.
    pub(super) drift_cursor: Option<Bound<KeyName>>,
    /// Keys that cannot start before their scope was reconciled again.
    pub(super) awaiting_reconciliation: Vec<(Scope, KeyName)>,
    pub(super) presence: BTreeMap<Scope, PresenceTally>,
    /// The keys that something is wrong with.
    pub(super) unhealthy: BTreeSet<KeyName>,
    /// The keys with an open rotation.
    pub(super) rotating: BTreeSet<KeyName>,
    pub(super) stopping: Arc<AtomicBool>,
    /// Set at the end of a process: deliveries that still run are dropped.
    pub(super) deliveries_dropped: watch::Sender<bool>,
    pub(super) places: PlacePool,
    /// The keys that wait for a place at the provider, by since when.
    pub(super) awaiting_provider: RunQueue,
    /// When nobody was there last to see a firing.
    pub(super) downtime: Downtime,
    /// When the clocks were looked at last.
    pub(super) last_reading: ClockReading,
    pub(super) is_scheduling: bool,
    /// What people are told.
    pub(super) alert_tracker: AlertTracker,
}

/// What comes back from work.
pub(super) enum Completion {
    Key(Box<Worker>),
    Probe,
    /// The keys whose sinks seem to have lost something.
    DriftCheck(BTreeSet<KeyName>),
    Reconciliation(Scope, Option<ReconciliationReport>),
    LedgerWrite,
    Notifications(WriteOutcome),
}

impl Engine {
    /// Reads how every key stands and makes the ledger agree with the
    /// configured sinks.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open(
        parts: Services,
        mut managed: Vec<ManagedKey>,
        course: RunMode,
    ) -> Result<Self, LedgerError> {
        let states = parts.ledger.all_key_states().await?;
        let seen = ClockReading::read(parts.clock.as_ref());
        let now = seen.wall;
        // By hand, a person is there.
        let told = match course {
            RunMode::Daemon | RunMode::Once => {
                parts
                    .ledger
                    .retain_channels(parts.subscriptions.channel_ids())
                    .await?
            }
            RunMode::Command => BTreeMap::new(),
        };
        let scopes = scopes_of(&managed, &states);
        let mut engine = Self {
            alert_tracker: AlertTracker::new(Arc::clone(&parts.subscriptions), told, now),
            maintenance: MaintenanceSchedule::at_start(&parts, course, scopes, now).await?,
            services: Arc::new(parts),
            keys: BTreeMap::new(),
            run_queue: RunQueue::default(),
            next_rotations: BTreeSet::new(),
            running: JoinSet::new(),
            has_more_due: false,
            drift_cursor: None,
            awaiting_reconciliation: Vec::new(),
            presence: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            rotating: BTreeSet::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            deliveries_dropped: watch::Sender::new(false),
            places: PlacePool::default(),
            awaiting_provider: RunQueue::default(),
            downtime: Downtime::before_start(now),
            last_reading: seen,
            is_scheduling: course != RunMode::Command,
        };
        let mut slots = Vec::with_capacity(states.len().max(managed.len()));
        let mut states = states.into_iter().peekable();
        managed.sort_by(|one, other| one.name.cmp(&other.name));
        for key in managed {
            while let Some(state) = states.next_if(|state| state.key < key.name) {
                slots.push(engine.register_key(None, state, now));
            }
            let state = states.next_if(|state| state.key == key.name);
            let state = state.unwrap_or_else(|| KeyState::unknown(key.name.clone()));
            slots.push(engine.register_key(Some(Arc::new(key)), state, now));
        }
        slots.extend(states.map(|state| engine.register_key(None, state, now)));
        for (key, slot) in &slots {
            engine
                .run_queue
                .insert(now, key.clone(), slot.is_rotating());
        }
        // What is in order needs no search for the place of each.
        engine.keys = slots.into_iter().collect();
        engine.load_failing_since().await?;
        Ok(engine)
    }

    /// Since when keys have been failing: the rows do not tell.
    async fn load_failing_since(&mut self) -> Result<(), LedgerError> {
        for (key, slot) in &mut self.keys {
            if slot
                .parked
                .as_ref()
                .is_some_and(|idle| idle.state.attempt > 0)
            {
                slot.failing_since = self.services.ledger.failing_since(key).await?;
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
        let (key, slot) = self.register_key(managed, state, now);
        self.run_queue.insert(now, key.clone(), slot.is_rotating());
        self.keys.insert(key, slot);
    }

    /// A key that is to be looked at now.
    fn register_key(
        &mut self,
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        now: Timestamp,
    ) -> (KeyName, Box<KeyEntry>) {
        let key = state.key.clone();
        self.alert_tracker.seed_baseline(&state);
        let troubled = alertable_error(&state, managed.is_some()).is_some();
        set_membership(&mut self.unhealthy, &key, troubled);
        let slot = KeyEntry::new(managed, state, now);
        let tally = self.presence.entry(slot.scope.clone()).or_default();
        tally.update(CredentialPresence::None, slot.presence);
        (key, Box::new(slot))
    }

    /// Asks for a rotation of `key` now. False if it is not configured.
    pub fn request_rotation(&mut self, key: &KeyName, wish: RotationRequest) -> bool {
        let Some(slot) = self.keys.get_mut(key).filter(|slot| slot.managed.is_some()) else {
            return false;
        };
        slot.request = Some(match slot.request.take() {
            Some(before) => before.merge(wish),
            None => wish,
        });
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Asks for no rotation of `key` any more, unless it was begun.
    pub fn cancel_request(&mut self, key: &KeyName) {
        if let Some(slot) = self.keys.get_mut(key) {
            slot.request = None;
        }
    }

    /// Asks for a rotation of every configured key now: a person who does is
    /// sure of the organization.
    pub fn request_all(&mut self, wish: &RotationRequest) {
        for (scope, tally) in &mut self.presence {
            self.services
                .conditions
                .clear_in(scope, Condition::Organization);
            tally.is_confirmed = true;
        }
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.request_rotation(&key, wish.clone());
        }
    }

    /// Asks for something to be done with a credential of `key`. False if the
    /// key is neither configured nor in the ledger.
    pub fn submit_command(&mut self, key: &KeyName, asked: PendingCommand) -> bool {
        let Some(slot) = self.keys.get_mut(key) else {
            return false;
        };
        slot.commands.push_back(asked);
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Which key a credential belongs to, if it has a row.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn key_of(&self, credential: &CredentialId) -> Result<Option<KeyName>, LedgerError> {
        self.services.ledger.key_for_credential(credential).await
    }

    /// Has a key looked at. Whoever works on it may have looked before the
    /// reason for this came up: then it is looked at again afterwards.
    pub(super) fn wake(&mut self, key: &KeyName, at: Timestamp) {
        let Some(slot) = self.keys.get_mut(key) else {
            return;
        };
        if slot.parked.is_none() {
            slot.is_dirty = true;
            return;
        }
        if let Some(before) = slot.wake_at {
            if before <= at {
                return;
            }
            self.run_queue.remove(before, key);
        }
        slot.wake_at = Some(at);
        self.run_queue
            .insert(at, key.clone(), self.rotating.contains(key));
    }

    /// Has every key looked at.
    fn wake_all(&mut self) {
        let now = self.services.clock.now();
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.wake(&key, now);
        }
    }

    /// Puts every key to work that has something to do now, as far as there is
    /// room, and runs what is due beside them.
    pub fn start_due(&mut self) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let mut now = self.check_clock();
        self.start_maintenance(now);
        self.update_due_alerts(now);
        // Nothing can be recorded: nothing may be done.
        if self.services.conditions.is_active(Condition::Ledger) {
            return;
        }
        for _ in 0..MAX_STARTS_PER_POLL {
            self.wake_ready_keys(now);
            // Every due key is looked at before any gets a place at the provider:
            // only then is it known whether it needs one.
            if let Some(key) = self.run_queue.pop_due(now) {
                self.dispatch(&key, false);
            } else if let Some(key) = self.pop_awaiting() {
                self.dispatch(&key, true);
            } else {
                return;
            }
            // It may have been set meanwhile: who finds that comes back at
            // once, to be put to work by the new time.
            now = self.check_clock();
        }
        self.has_more_due = true;
    }

    /// The next key that waits for a place at the provider, if there is one.
    fn pop_awaiting(&mut self) -> Option<KeyName> {
        self.awaiting_provider.next_at()?;
        let limit = self.services.max_in_flight;
        let has_room = self.places.has_room_at_provider(limit);
        has_room
            .then(|| self.awaiting_provider.pop_due(Timestamp::MAX))
            .flatten()
    }

    /// Wakes the keys that were granted a place at the destination of their
    /// next delivery.
    fn wake_ready_keys(&mut self, now: Timestamp) {
        for key in self.places.take_ready() {
            self.wake(&key, now);
        }
    }

    /// After the clock was set back, whatever was planned by it would come too
    /// late: everything is looked at anew. After it jumped ahead, nobody was
    /// there in between. Tells the time.
    fn check_clock(&mut self) -> Timestamp {
        let now = ClockReading::read(self.services.clock.as_ref());
        let before = std::mem::replace(&mut self.last_reading, now);
        let Some(parted) = before.jump_until(now) else {
            return now.wall;
        };
        self.alert_tracker.reset_grace_period(now.wall);
        match parted {
            ClockJump::Backward => {
                tracing::warn!("the clock was set back; looking at everything anew");
                self.downtime.to = self.downtime.to.min(now.wall);
                self.maintenance.reschedule_all(now.wall);
                self.wake_all();
            }
            ClockJump::Forward(by) => {
                let slept = duration::to_human_text(by);
                tracing::info!("the host slept, or its clock was set forward, by {slept}");
                self.downtime = Downtime {
                    from: before.wall,
                    to: now.wall,
                    reason: DowntimeReason::Suspended,
                };
            }
        }
        now.wall
    }

    fn start_maintenance(&mut self, now: Timestamp) {
        let conditions = &self.services.conditions;
        for errand in self.maintenance.due(conditions, now) {
            let parts = Arc::clone(&self.services);
            match errand {
                MaintenanceTask::Probe => {
                    self.running.spawn(async move {
                        probe::probe(parts).await;
                        Completion::Probe
                    });
                }
                MaintenanceTask::Reconciliation(scope) => {
                    // A key may have had another scope in a ledger that was lost.
                    let keys: Vec<_> = self.keys.keys().cloned().collect();
                    self.running.spawn(async move {
                        let report = reconciliation::reconcile(parts, scope.clone(), keys).await;
                        Completion::Reconciliation(scope, report)
                    });
                }
                MaintenanceTask::DriftCheck => self.start_drift_check(),
            }
        }
        self.record_conditions();
    }

    /// Tells the ledger of conditions that began or ended, for those who ask
    /// beside the daemon.
    fn record_conditions(&mut self) {
        for ((condition, scope), problem) in self.services.conditions.take_unrecorded() {
            if condition == Condition::Ledger {
                // It cannot be told to what cannot be written.
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
        let (ledger, now) = (self.services.ledger.clone(), self.services.clock.now());
        self.running.spawn(async move {
            if let Err(error) = ledger.set_condition(scope, word, now, problem).await {
                tracing::debug!(%error, "cannot record the condition {word}");
            }
            Completion::LedgerWrite
        });
    }

    /// Puts a key to work. Unless it is its turn at the provider, it waits behind
    /// the keys that wait for a place there already.
    fn dispatch(&mut self, key: &KeyName, has_turn: bool) {
        let Some(slot) = self.keys.get_mut(key) else {
            return;
        };
        let turn = RunContext {
            stopping: Arc::clone(&self.stopping),
            deliveries_dropped: self.deliveries_dropped.subscribe(),
            places: self.places.clone(),
            is_scheduling: self.is_scheduling,
            downtime: self.downtime,
            clock_reading: self.last_reading,
            scope: slot.scope.clone(),
            reconciled_at: self.maintenance.reconciled_at(&slot.scope),
        };
        let Some(mut worker) = slot.check_out(&self.services, turn) else {
            return;
        };
        if std::mem::take(&mut slot.is_queued_for_provider)
            && let Some(since) = slot.provider_turn
        {
            self.awaiting_provider.remove(since, key);
        }
        let before = self.services.conditions.change_count();
        // Nearly all that are looked at have nothing to do now.
        if let Some(work) = worker.next_work() {
            let must_wait =
                !has_turn && work.uses_provider() && self.awaiting_provider.next_at().is_some();
            if must_wait {
                worker.awaits = Some(AwaitedPlace::Provider);
            } else if worker.reserve(&work) {
                if work.uses_provider() {
                    slot.provider_turn = None;
                }
                self.running
                    .spawn(async move { Completion::Key(Box::new(worker.run(work).await)) });
                return;
            }
            worker.return_work(work);
        }
        self.park(worker);
        if self.services.conditions.change_count() != before {
            self.apply_condition_changes();
        }
    }

    /// Waits for something to come back from work, and takes in all that has.
    /// False if nothing is at work. Safe to drop and call again.
    pub async fn process_completions(&mut self) -> bool {
        let unfinished = std::mem::take(&mut self.has_more_due);
        let mut next = if unfinished {
            // Whoever else is ready comes first, and then the next keys.
            tokio::task::yield_now().await;
            self.running.try_join_next()
        } else {
            let places = self.places.clone();
            tokio::select! {
                biased;
                next = self.running.join_next() => next,
                () = places.changed() => {
                    self.wake_ready_keys(self.services.clock.now());
                    return true;
                }
            }
        };
        let any = unfinished || next.is_some();
        while let Some(back) = next {
            self.handle_completion(back);
            next = self.running.try_join_next();
        }
        any
    }

    fn handle_completion(&mut self, back: Result<Completion, JoinError>) {
        match back {
            Ok(Completion::Key(worker)) => {
                self.park(*worker);
            }
            Ok(Completion::Probe) => self.maintenance.finish_probe(),
            Ok(Completion::DriftCheck(suspect)) => self.finish_drift_batch(suspect),
            Ok(Completion::Reconciliation(scope, report)) => {
                self.handle_reconciliation(&scope, report);
            }
            Ok(Completion::LedgerWrite) => {}
            Ok(Completion::Notifications(recorded)) => {
                self.alert_tracker.outbox.finish_batch(recorded)
            }
            Err(error) => {
                // A panic in a step: its key stays away until a restart, which
                // finds its rotation open and strands it.
                tracing::error!("a step panicked ({error}); restart rekeyd, and report this");
            }
        }
        self.apply_condition_changes();
    }

    /// Plans a probe while something is wrong, and wakes all when it is over.
    fn apply_condition_changes(&mut self) {
        let now = self.services.clock.now();
        let active = self.services.conditions.active_keys();
        if self.maintenance.schedule_probe(&active, now) {
            self.wake_all();
        }
        self.record_conditions();
    }

    fn park(&mut self, worker: Worker) {
        let now = self.services.clock.now();
        let key = worker.state.key.clone();
        if worker.needs_follow_up {
            self.maintenance
                .schedule_follow_ups(&worker.context.scope, now);
        }
        if worker.needs_reconciliation {
            let scope = worker.context.scope.clone();
            self.maintenance.reconcile_now(&scope, now);
            self.awaiting_reconciliation.push((scope, key.clone()));
        }
        let Some(slot) = self.keys.get_mut(&key) else {
            return;
        };
        let former = (slot.scope.clone(), slot.presence);
        let rotates_at = slot.rotates_at;
        let awaits = worker.awaits;
        slot.check_in(worker, now);
        let presence = (slot.scope.clone(), slot.presence);
        let is_configured = slot.managed.is_some();
        let troubled = slot
            .state()
            .and_then(|state| alertable_error(state, is_configured));
        set_membership(&mut self.unhealthy, &key, troubled.is_some());
        let is_rotating = slot.is_rotating();
        set_membership(&mut self.rotating, &key, is_rotating);
        if let Some(before) = rotates_at {
            self.next_rotations.remove(&(before, key.clone()));
        }
        if let Some(at) = slot.rotates_at {
            self.next_rotations.insert((at, key.clone()));
        }
        if let Some(at) = slot.wake_at {
            self.run_queue.insert(at, key.clone(), is_rotating);
        }
        if slot.is_queued_for_provider
            && let Some(since) = slot.provider_turn
        {
            self.awaiting_provider
                .insert(since, key.clone(), is_rotating);
        }
        if awaits != Some(AwaitedPlace::Destination) {
            self.places.leave(&key);
        }
        self.update_presence(former, presence);
        self.update_key_alerts(&key, now);
    }

    /// Counts a key with another presence, and perhaps in another scope.
    fn update_presence(
        &mut self,
        (from, mut before): (Scope, CredentialPresence),
        (to, after): (Scope, CredentialPresence),
    ) {
        if from != to {
            let tally = self.presence.entry(from.clone()).or_default();
            tally.update(before, CredentialPresence::None);
            self.check_organization(&from);
            before = CredentialPresence::None;
        }
        let tally = self.presence.entry(to.clone()).or_default();
        tally.update(before, after);
        self.check_organization(&to);
    }

    /// Suspects the organization when more than half of several keys'
    /// credentials in a scope are gone at once.
    fn check_organization(&self, scope: &Scope) {
        let Some(tally) = self.presence.get(scope) else {
            return;
        };
        let conditions = &self.services.conditions;
        if tally.is_suspicious() {
            let problem = format!(
                "the current credentials of {} of {} keys are gone at the provider; see \
                 whether the admin credential belongs to another organization, or rotate all \
                 keys if they were really revoked (`rekeyd rotate --all`)",
                tally.missing,
                tally.present + tally.missing
            );
            conditions.raise_in(scope, Condition::Organization, &problem);
        } else {
            conditions.clear_in(scope, Condition::Organization);
        }
    }

    fn handle_reconciliation(&mut self, scope: &Scope, report: Option<ReconciliationReport>) {
        let now = self.services.clock.now();
        let discrepancies = report.map(|report| {
            self.update_lookalike_alerts(&report.lookalikes, now);
            report.discrepancies
        });
        let has_succeeded = discrepancies.is_some();
        let interval = self.services.reconcile_every;
        let is_first = self
            .maintenance
            .finish_reconciliation(scope, has_succeeded, interval, now);
        if is_first {
            self.wake_all();
        }
        if has_succeeded {
            let awaiting = std::mem::take(&mut self.awaiting_reconciliation);
            let (ready, rest) = awaiting.into_iter().partition(|(of, _)| of == scope);
            self.awaiting_reconciliation = rest;
            let ready: Vec<(Scope, KeyName)> = ready;
            for (_, key) in ready {
                self.wake(&key, now);
            }
        }
        for (key, found) in discrepancies.into_iter().flatten() {
            if let Some(slot) = self.keys.get_mut(&key) {
                slot.discrepancies.extend(found);
            }
            self.wake(&key, now);
        }
    }

    /// When [`Engine::start_due`] is to be called again; none if nothing is to
    /// be done ever, as it stands.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let errand = self.maintenance.next_at();
        if self.services.conditions.is_active(Condition::Ledger) {
            return errand;
        }
        let key = self.run_queue.next_at();
        let look = self.alert_tracker.next_at();
        key.into_iter().chain(errand).chain(look).min()
    }
}

/// Returns the scopes of these keys. The admin keys are always among them: the
/// credential that rekeyd authenticates with is one.
fn scopes_of(managed: &[ManagedKey], states: &[KeyState]) -> BTreeSet<Scope> {
    let configured = managed.iter().map(|key| key.scope.clone());
    let live = states.iter().flat_map(|state| &state.live);
    let recorded = live.map(|rotation| rotation.scope.clone());
    let all = configured.chain(recorded);
    all.chain([Scope::AdminKeys]).collect()
}

/// Has `key` in the set, or not.
fn set_membership(set: &mut BTreeSet<KeyName>, key: &KeyName, wanted: bool) {
    if !wanted {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}
