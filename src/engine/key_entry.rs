//! The engine's entry of a key. Most of it moves to a worker and back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::core::change::{Change, RotationChange};
use crate::core::decide::due::may_fall_due_with_others;
use crate::core::decide::revocation::{RecheckCause, rotations_to_recheck};
use crate::core::health::alertable_error;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::in_flight::InFlight;
use crate::core::scope::Scope;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;
use crate::engine::activity::ActivityCell;
use crate::engine::decision_log::LoggedDecisions;
use crate::engine::gates::{HeldBack, WaiterState};
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::PendingCommand;
use crate::engine::presence::CredentialPresence;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::services::Services;
use crate::engine::shared_view::EntryView;
use crate::engine::worker::{
    AwaitedPlace, ObservedEnds, PlannedRetries, Preflight, RunContext, Worker,
};
use crate::ledger::{Discrepancy, RemoteState};

/// The entry of one key.
pub(super) struct KeyEntry {
    /// The configured key, if it is configured.
    pub(super) managed: Option<Arc<ManagedKey>>,
    /// Whether an operator retired it.
    pub(super) is_retired: bool,
    /// The names that it had before.
    pub(super) former_names: Vec<KeyName>,
    /// The scope of its credentials: see [`scope_of`].
    pub(super) scope: Scope,
    pub(super) request: Option<RotationRequest>,
    /// The earlier deadlines of leaked credentials, since the clock was set back.
    pub(super) deadlines: Vec<(RotationId, Timestamp)>,
    /// By how much the clock was set back while a worker has the key.
    set_back: Duration,
    /// Whether the ledger has the request, since its operator does not wait.
    pub(super) is_request_recorded: bool,
    /// Whether the request that a worker has was cancelled.
    is_request_cancelled: bool,
    /// What its worker is doing.
    pub(super) activity: Arc<ActivityCell>,
    /// See [`Worker::request_problem`].
    pub(super) request_problem: Option<String>,
    /// See [`Worker::ignores_backoff`].
    pub(super) ignores_backoff: bool,
    pub(super) commands: VecDeque<PendingCommand>,
    pub(super) discrepancies: VecDeque<Discrepancy>,
    /// See [`Worker::rechecks`].
    rechecks: BTreeSet<RotationId>,
    /// Whether the deliveries must be compared with the configured sinks.
    pub(super) needs_sink_sync: bool,
    pub(super) needs_drift_check: bool,
    /// Whether the key is evaluated as soon as its worker returns.
    pub(super) is_dirty: bool,
    /// Set to make the key's worker return after its current step.
    pub(super) interrupted: Arc<AtomicBool>,
    /// Notified to end a delivery of the key's worker, because the key leaked.
    delivery_ended: Arc<Notify>,
    /// When the key is evaluated, while it is parked.
    pub(super) wake_at: Option<Timestamp>,
    pub(super) presence: CredentialPresence,
    /// The credentials in the last list that look like the key's and have no row.
    pub(super) lookalikes: Vec<CredentialId>,
    /// The sequence of its current rotation when a worker last took it.
    last_sequence: u64,
    /// Its time in the queue for a place at the provider, kept until it has one.
    pub(super) provider_turn: Option<Timestamp>,
    /// Whether it is in that queue.
    pub(super) is_queued_for_provider: bool,
    /// The place that it waits for.
    pub(super) awaits: Option<AwaitedPlace>,
    /// The gate that holds its next work back.
    pub(super) held_back_by: Option<HeldBack>,
    /// See [`Worker::gate_turn`].
    pub(super) gate_turn: Option<Timestamp>,
    /// The preflight of a rotation that waits for a place.
    pub(super) preflight: Preflight,
    /// Its next scheduled rotation at the latest evaluation.
    pub(super) rotates_at: Option<Timestamp>,
    /// The time of the first of its latest consecutive failures.
    pub(super) failing_since: Option<Timestamp>,
    /// What the log has of it at the level `debug`; none while that is not logged.
    pub(super) logged_decisions: Option<Box<LoggedDecisions>>,
    /// Its state, while no worker has it.
    pub(super) parked: Option<ParkedKey>,
}

/// The state of a key that no worker has.
pub(super) struct ParkedKey {
    pub(super) state: KeyState,
    /// Boxed, because most keys have none.
    pub(super) in_flight: Option<Box<InFlight>>,
    unrecorded: Vec<Change>,
    /// See [`Worker::unclear_commit`].
    unclear_commit: Option<Vec<Change>>,
}

impl KeyEntry {
    /// Makes the key check for its current credential once more, if that was missing and is
    /// listed. Returns whether it is.
    pub(super) fn check_missing(&mut self, listed: &BTreeSet<CredentialId>) -> bool {
        let current = self.state().and_then(KeyState::current);
        let missing = current.filter(|current| current.missing.is_some());
        let Some(discrepancy) = missing.and_then(|current| {
            let credential = current.credential()?;
            listed.contains(&credential.id).then(|| Discrepancy {
                rotation: current.id.clone(),
                phase: current.phase,
                credential: Some(credential.id.clone()),
                remote_state: RemoteState::AsExpected(credential.clone()),
                revoked_at: None,
            })
        }) else {
            return false;
        };
        self.discrepancies.push_back(discrepancy);
        true
    }

    /// Returns the entry of a key that is evaluated at `wake_at`.
    pub(super) fn new(
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        wake_at: Timestamp,
    ) -> Self {
        Self {
            scope: scope_of(managed.as_deref(), &state),
            is_retired: state.is_retired(),
            former_names: state.former_names.clone(),
            managed,
            request: None,
            deadlines: Vec::new(),
            set_back: Duration::ZERO,
            is_request_recorded: false,
            is_request_cancelled: false,
            activity: Arc::default(),
            request_problem: None,
            ignores_backoff: false,
            commands: VecDeque::new(),
            discrepancies: VecDeque::new(),
            rechecks: BTreeSet::new(),
            needs_sink_sync: true,
            needs_drift_check: false,
            is_dirty: false,
            interrupted: Arc::new(AtomicBool::new(false)),
            delivery_ended: Arc::default(),
            wake_at: Some(wake_at),
            presence: CredentialPresence::from_state(&state),
            lookalikes: Vec::new(),
            last_sequence: 0,
            provider_turn: None,
            is_queued_for_provider: false,
            awaits: None,
            held_back_by: None,
            gate_turn: None,
            preflight: Preflight::default(),
            rotates_at: None,
            failing_since: None,
            logged_decisions: None,
            parked: Some(ParkedKey {
                state,
                in_flight: None,
                unrecorded: Vec::new(),
                unclear_commit: None,
            }),
        }
    }

    /// Adds what a reconciliation found of the key.
    pub(super) fn add_discrepancies(&mut self, found: Vec<Discrepancy>, now: Timestamp) {
        self.discrepancies.extend(found);
        // Its worker examines them before anything else, or returns them.
        if let Some(parked) = &self.parked {
            let unexamined = self.discrepancies.iter();
            self.presence = CredentialPresence::with_discrepancies(&parked.state, unexamined, now);
        }
    }

    /// Returns a worker with the key; none if another worker has it.
    pub(super) fn check_out(
        &mut self,
        services: &Arc<Services>,
        context: RunContext,
    ) -> Option<Worker> {
        let parked = self.parked.take()?;
        self.wake_at = None;
        self.last_sequence = sequence_of(&parked.state);
        // An earlier worker may not have taken the notification.
        self.delivery_ended = Arc::default();
        Some(Worker {
            services: Arc::clone(services),
            context,
            activity: Arc::clone(&self.activity),
            managed: self.managed.clone(),
            state: parked.state,
            in_flight: parked.in_flight.map(|in_flight| *in_flight),
            unrecorded: parked.unrecorded,
            unclear_commit: parked.unclear_commit,
            deadlines: std::mem::take(&mut self.deadlines),
            request: self.request.take(),
            request_problem: self.request_problem.take(),
            planned_retries: PlannedRetries::default(),
            needs_evaluation: false,
            ignores_backoff: std::mem::take(&mut self.ignores_backoff),
            commands: std::mem::take(&mut self.commands),
            notices: Vec::new(),
            discrepancies: std::mem::take(&mut self.discrepancies),
            observed_ends: ObservedEnds::default(),
            rechecks: std::mem::take(&mut self.rechecks),
            moved_targets: false,
            needs_sink_sync: std::mem::take(&mut self.needs_sink_sync),
            needs_drift_check: std::mem::take(&mut self.needs_drift_check),
            drift_checked_at: None,
            sourceless: None,
            interrupted: Arc::clone(&self.interrupted),
            delivery_ended: Arc::clone(&self.delivery_ended),
            needs_reconciliation: false,
            wake_at: None,
            rotates_at: None,
            needs_follow_up: false,
            has_learned_names: false,
            exceeded_limits: Vec::new(),
            provider_place: None,
            delivery_place: None,
            awaits: None,
            passes: BTreeMap::new(),
            held_back_by: None,
            gate_turn: self.gate_turn,
            preflight: std::mem::take(&mut self.preflight),
        })
    }

    /// Makes the key's worker return at once, also from a delivery, which is made again: no
    /// sink delays the end of what leaked.
    pub(super) fn interrupt_delivery(&self) {
        if self.parked.is_none() {
            self.interrupted.store(true, Ordering::Relaxed);
            self.delivery_ended.notify_one();
        }
    }

    /// Moves the deadlines of leaked credentials by the time by which the clock was set
    /// back: they pass when they would have passed.
    pub(super) fn move_deadlines(&mut self, by: Duration) {
        match &self.parked {
            Some(parked) => self.deadlines.extend(earlier_deadlines(&parked.state, by)),
            None => self.set_back += by,
        }
    }

    /// Has the deferred revocations whose reason these causes may have ended decided again.
    /// Returns whether the key is to be evaluated; not while a worker has it.
    pub(super) fn recheck_deferrals(
        &mut self,
        causes: &BTreeSet<RecheckCause>,
        now: Timestamp,
    ) -> bool {
        let Some(parked) = &self.parked else {
            return false;
        };
        let rotations = rotations_to_recheck(&parked.state, causes, now);
        let is_affected = !rotations.is_empty();
        self.rechecks.extend(rotations);
        is_affected
    }

    /// Drops the request for a rotation, also one that a worker has and has not started.
    /// One that the ledger has stays.
    pub(super) fn cancel_request(&mut self) {
        if self.is_request_recorded {
            return;
        }
        self.request = None;
        self.is_request_cancelled = self.parked.is_none();
    }

    /// Takes the key back from its worker. Commands and findings that the worker returns
    /// come before those that arrived since. The deferred revocations of `rechecks` are
    /// decided again: their reason may have ended meanwhile.
    pub(super) fn check_in(
        &mut self,
        worker: Worker,
        rechecks: BTreeSet<RotationId>,
        now: Timestamp,
    ) {
        self.failing_since = match worker.state.attempt {
            0 => None,
            _ => self.failing_since.or(Some(now)),
        };
        let unexamined = worker.discrepancies.iter().chain(&self.discrepancies);
        self.presence = CredentialPresence::with_discrepancies(&worker.state, unexamined, now);
        self.scope = scope_of(self.managed.as_deref(), &worker.state);
        self.is_retired = worker.state.is_retired();
        self.deadlines.extend(worker.deadlines.iter().cloned());
        let set_back = std::mem::take(&mut self.set_back);
        if !set_back.is_zero() {
            let moved = earlier_deadlines(&worker.state, set_back);
            self.deadlines.extend(moved);
            self.is_dirty = true;
        }
        self.is_dirty |= !rechecks.is_empty();
        self.rechecks.extend(rechecks);
        let unfinished = worker.rechecks.iter();
        let unfinished = unfinished.filter(|id| worker.state.rotation(id).is_some());
        self.rechecks.extend(unfinished.cloned());
        let has_operator_work = worker.has_operator_work();
        self.awaits = worker.awaits;
        self.held_back_by = worker.held_back_by;
        self.gate_turn = worker.gate_turn;
        match worker.awaits {
            None if worker.held_back_by.is_some() => {
                self.rotates_at = worker.rotates_at;
                self.provider_turn = None;
                self.preflight = worker.preflight;
            }
            None => {
                self.rotates_at = worker.rotates_at;
                self.provider_turn = None;
            }
            Some(awaited) => {
                self.rotates_at = worker.rotates_at.or(self.rotates_at);
                self.preflight = worker.preflight;
                if awaited == AwaitedPlace::Provider {
                    self.is_queued_for_provider = true;
                    self.provider_turn = if has_operator_work {
                        Some(Timestamp::MIN)
                    } else {
                        self.provider_turn.or(Some(now))
                    };
                }
            }
        }
        self.parked = Some(ParkedKey {
            state: worker.state,
            in_flight: worker.in_flight.map(Box::new),
            unrecorded: worker.unrecorded,
            unclear_commit: worker.unclear_commit,
        });
        self.interrupted.store(false, Ordering::Relaxed);
        self.needs_sink_sync |= worker.needs_sink_sync;
        self.needs_drift_check |= worker.needs_drift_check;
        self.ignores_backoff |= worker.ignores_backoff;
        self.request_problem = worker.request_problem;
        let is_cancelled = std::mem::take(&mut self.is_request_cancelled);
        // A reload may have removed the key from the configuration.
        let is_kept = self.managed.is_some() && !is_cancelled;
        let earlier = worker.request.filter(|_| is_kept);
        self.request = match (earlier, self.request.take()) {
            (Some(earlier), Some(later)) => Some(earlier.merge(later)),
            (earlier, later) => earlier.or(later),
        };
        for command in worker.commands.into_iter().rev() {
            self.commands.push_front(command);
        }
        for discrepancy in worker.discrepancies.into_iter().rev() {
            self.discrepancies.push_front(discrepancy);
        }
        let is_dirty = std::mem::take(&mut self.is_dirty);
        self.wake_at = if is_dirty { Some(now) } else { worker.wake_at };
    }

    /// Returns whether a gate delays the rotation of the key.
    pub(super) fn is_rotation_held_back(&self) -> bool {
        self.held_back_by.is_some_and(|held| held.delays_rotation)
    }

    /// Returns what the engine does about the key while it waits at a gate.
    pub(super) const fn waiting_at_gate(&self) -> WaiterState {
        match (&self.parked, self.awaits) {
            (None, _) | (Some(_), Some(AwaitedPlace::Destination)) => WaiterState::Delayed,
            (Some(_), Some(AwaitedPlace::Provider)) => WaiterState::Queued,
            (Some(_), None) => WaiterState::Idle,
        }
    }

    /// Returns the configured key, unless it is retired: the keys that are rotated.
    pub(super) fn active(&self) -> Option<&Arc<ManagedKey>> {
        self.managed.as_ref().filter(|_| !self.is_retired)
    }

    /// Returns whether a rotation can be requested. A worker that has the key may have just
    /// ended its retirement; if it has not, it refuses the request itself.
    pub(super) const fn accepts_requests(&self) -> bool {
        self.managed.is_some() && (!self.is_retired || self.parked.is_none())
    }

    /// Makes the key's worker return after its current step.
    pub(super) fn interrupt(&self) {
        self.interrupted
            .store(self.parked.is_none(), Ordering::Relaxed);
    }

    /// Returns whether the ledger has everything that is known of the key, and no worker has
    /// it.
    pub(super) fn can_be_renamed(&self) -> bool {
        self.parked
            .as_ref()
            .is_some_and(|parked| parked.unrecorded.is_empty() && !parked.has_unclear_commit())
    }

    /// Replaces the state by that under a new name. Its secret in memory stays.
    pub(super) fn take_name_of(&mut self, state: KeyState) {
        self.former_names.clone_from(&state.former_names);
        self.provider_turn = None;
        self.is_queued_for_provider = false;
        self.rotates_at = None;
        if let Some(parked) = &mut self.parked {
            parked.state = state;
        }
    }

    /// Returns the state of the key, while it is parked.
    pub(super) fn state(&self) -> Option<&KeyState> {
        self.parked.as_ref().map(|parked| &parked.state)
    }

    /// Returns what readers outside the event loop see of the key.
    pub(super) fn view(&self) -> EntryView<'_> {
        EntryView {
            managed: self.managed.as_deref(),
            state: self.state(),
            rotates_at: self.rotates_at,
            failing_since: self.failing_since,
            is_failing: self.is_failing(),
            lookalikes: self.count_lookalikes(),
        }
    }

    /// Returns the number of lookalikes in the last list that were not adopted since.
    fn count_lookalikes(&self) -> usize {
        let is_adopted = |id: &&CredentialId| {
            let mut rows = self.state().into_iter().flat_map(|state| &state.live);
            rows.any(|row| row.credential().is_some_and(|own| own.id == **id))
        };
        self.lookalikes.iter().filter(|id| !is_adopted(id)).count()
    }

    /// Returns whether the parked key has an error that lasts.
    fn is_failing(&self) -> bool {
        let is_rotated = self.active().is_some();
        let error = self
            .state()
            .and_then(|state| alertable_error(state, is_rotated));
        error.is_some()
    }

    /// Returns whether the key is parked, and may fall due by its age together with
    /// others.
    pub(super) fn may_fall_due_with_others(&self, now: Timestamp) -> bool {
        let policy = self.active().map(|managed| &managed.policy);
        policy
            .zip(self.state())
            .is_some_and(|(policy, state)| may_fall_due_with_others(policy, state, now))
    }

    /// Returns whether the key is parked with a deferred revocation.
    pub(super) fn has_deferral(&self) -> bool {
        self.state()
            .is_some_and(|state| state.live.iter().any(|row| row.deferral.is_some()))
    }

    /// Returns whether the key is parked with an open rotation.
    pub(super) fn is_rotating(&self) -> bool {
        self.state()
            .is_some_and(|state| state.open_rotation().is_some())
    }

    /// Returns the sequence of its current rotation, 0 if it has none. While a worker has
    /// the key, returns the sequence before the work.
    pub(super) fn sequence(&self) -> u64 {
        self.state().map_or(self.last_sequence, sequence_of)
    }
}

impl ParkedKey {
    /// Returns each live rotation with the credential that is known of it, recorded or not,
    /// or by an answer to its create that was not checked yet.
    pub(super) fn known_credentials(
        &self,
    ) -> impl Iterator<Item = (&Rotation, Option<&CredentialId>)> {
        self.state.live.iter().map(|rotation| {
            let unrecorded = self.unrecorded.iter().find_map(|change| match change {
                Change::Rotation(RotationChange::Transitioned(transition))
                    if transition.rotation == rotation.id =>
                {
                    transition.credential.as_ref()
                }
                Change::Rotation(_)
                | Change::Delivery(_)
                | Change::Schedule(_)
                | Change::Operator(_) => None,
            });
            let in_flight = self.in_flight.as_deref();
            let in_flight = in_flight.filter(|one| one.rotation == rotation.id);
            let answered = in_flight.and_then(|one| Some(&one.answer.as_ref()?.metadata));
            let known = rotation.credential.as_ref().or(unrecorded).or(answered);
            (rotation, known.map(|credential| &credential.id))
        })
    }

    /// Returns whether the outcome of the last commit is unknown.
    pub(super) const fn has_unclear_commit(&self) -> bool {
        self.unclear_commit.is_some()
    }

    /// Replaces the state by the one that was read after such a commit.
    pub(super) fn replace_state(&mut self, state: KeyState) {
        self.unclear_commit = None;
        if state != self.state {
            self.unrecorded.clear();
            self.state = state;
        }
    }
}

/// Returns the scope of a key: that of its newest live credential, or, of a key
/// that has none, the configured one.
pub(super) fn scope_of(managed: Option<&ManagedKey>, state: &KeyState) -> Scope {
    let newest = state.live.iter().max_by_key(|rotation| rotation.sequence);
    let recorded = newest.map(|rotation| &rotation.scope);
    let configured = managed.map(|managed| &managed.scope);
    recorded.or(configured).cloned().unwrap_or(Scope::AdminKeys)
}

/// Returns the deadlines of a key's leaked credentials, each earlier by a time.
fn earlier_deadlines(
    state: &KeyState,
    by: Duration,
) -> impl Iterator<Item = (RotationId, Timestamp)> {
    state.live.iter().filter_map(move |row| {
        let at = time::before(row.deadline?.at, by);
        Some((row.id.clone(), at))
    })
}

fn sequence_of(state: &KeyState) -> u64 {
    state.current().map_or(0, |current| current.sequence)
}
