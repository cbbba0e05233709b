//! What the engine keeps of a key. Most of it goes to whoever works on the key,
//! and comes back from there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::in_flight::InFlight;
use crate::core::scope::Scope;
use crate::core::state::KeyState;
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::PendingCommand;
use crate::engine::presence::CredentialPresence;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::services::Services;
use crate::engine::worker::{AwaitedPlace, Preflight, RunContext, Worker};
use crate::ledger::Discrepancy;

/// One key.
pub(super) struct KeyEntry {
    /// As it is configured, if it is.
    pub(super) managed: Option<Arc<ManagedKey>>,
    /// The scope of its credentials: see [`scope_of`].
    pub(super) scope: Scope,
    pub(super) request: Option<RotationRequest>,
    pub(super) commands: VecDeque<PendingCommand>,
    pub(super) discrepancies: VecDeque<Discrepancy>,
    /// Whether the ledger is still to be made to agree with the sinks.
    pub(super) needs_sink_sync: bool,
    pub(super) needs_drift_check: bool,
    /// Whether it is to be looked at as soon as it comes back from work.
    pub(super) is_dirty: bool,
    /// Has whoever works on it come back after the present step.
    pub(super) interrupted: Arc<AtomicBool>,
    /// When there is something to do, while nobody works on it.
    pub(super) wake_at: Option<Timestamp>,
    pub(super) presence: CredentialPresence,
    /// The sequence of its current rotation when it was put to work last.
    last_sequence: u64,
    /// Its time in the queue for a place at the provider, kept until it has one.
    pub(super) provider_turn: Option<Timestamp>,
    /// Whether it is in that queue.
    pub(super) is_queued_for_provider: bool,
    /// How far the preflight of a rotation got that waits for a place.
    pub(super) preflight: Preflight,
    /// When it is rotated next, as far as that was seen last.
    pub(super) rotates_at: Option<Timestamp>,
    /// Since when it has been failing.
    pub(super) failing_since: Option<Timestamp>,
    /// What is known, while nobody works on the key.
    pub(super) parked: Option<ParkedKey>,
}

/// What is known of a key.
pub(super) struct ParkedKey {
    pub(super) state: KeyState,
    /// In a box, since most keys have none.
    pub(super) in_flight: Option<Box<InFlight>>,
    unrecorded: Vec<Change>,
    /// See [`Worker::unclear_commit`].
    unclear_commit: Option<Vec<Change>>,
}

impl KeyEntry {
    /// A key that nobody has worked on yet and that is to be looked at then.
    pub(super) fn new(
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        wake_at: Timestamp,
    ) -> Self {
        Self {
            scope: scope_of(managed.as_deref(), &state),
            managed,
            request: None,
            commands: VecDeque::new(),
            discrepancies: VecDeque::new(),
            needs_sink_sync: true,
            needs_drift_check: false,
            is_dirty: false,
            interrupted: Arc::new(AtomicBool::new(false)),
            wake_at: Some(wake_at),
            presence: CredentialPresence::of(&state),
            last_sequence: 0,
            provider_turn: None,
            is_queued_for_provider: false,
            preflight: Preflight::default(),
            rotates_at: None,
            failing_since: None,
            parked: Some(ParkedKey {
                state,
                in_flight: None,
                unrecorded: Vec::new(),
                unclear_commit: None,
            }),
        }
    }

    /// Hands the key to a worker; none if somebody has it.
    pub(super) fn check_out(&mut self, parts: &Arc<Services>, turn: RunContext) -> Option<Worker> {
        let idle = self.parked.take()?;
        self.wake_at = None;
        self.last_sequence = sequence_of(&idle.state);
        Some(Worker {
            services: Arc::clone(parts),
            context: turn,
            managed: self.managed.clone(),
            state: idle.state,
            in_flight: idle.in_flight.map(|memory| *memory),
            unrecorded: idle.unrecorded,
            unclear_commit: idle.unclear_commit,
            request: self.request.take(),
            commands: std::mem::take(&mut self.commands),
            discrepancies: std::mem::take(&mut self.discrepancies),
            needs_sink_sync: std::mem::take(&mut self.needs_sink_sync),
            needs_drift_check: std::mem::take(&mut self.needs_drift_check),
            interrupted: Arc::clone(&self.interrupted),
            needs_reconciliation: false,
            wake_at: None,
            rotates_at: None,
            needs_follow_up: false,
            provider_place: None,
            delivery_place: None,
            awaits: None,
            preflight: std::mem::take(&mut self.preflight),
        })
    }

    /// Takes the key back; what its worker has left to do comes before what has
    /// come up since.
    pub(super) fn check_in(&mut self, worker: Worker, now: Timestamp) {
        self.failing_since = match worker.state.attempt {
            0 => None,
            _ => self.failing_since.or(Some(now)),
        };
        self.presence = CredentialPresence::of(&worker.state);
        self.scope = scope_of(self.managed.as_deref(), &worker.state);
        let has_operator_work = worker.has_operator_work();
        match worker.awaits {
            None => {
                self.rotates_at = worker.rotates_at;
                self.provider_turn = None;
            }
            Some(awaited) => {
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
        // A reload may have taken the key out of the configuration.
        let wish = worker.request.filter(|_| self.managed.is_some());
        self.request = match (wish, self.request.take()) {
            (Some(before), Some(since)) => Some(before.merge(since)),
            (before, since) => before.or(since),
        };
        for order in worker.commands.into_iter().rev() {
            self.commands.push_front(order);
        }
        for finding in worker.discrepancies.into_iter().rev() {
            self.discrepancies.push_front(finding);
        }
        // Whatever has come up meanwhile has waked it.
        let news = std::mem::take(&mut self.is_dirty);
        self.wake_at = if news { Some(now) } else { worker.wake_at };
    }

    /// How it stands, while nobody works on it.
    pub(super) fn state(&self) -> Option<&KeyState> {
        self.parked.as_ref().map(|idle| &idle.state)
    }

    /// Whether a rotation is open, as far as that is known while nobody works
    /// on the key.
    pub(super) fn is_rotating(&self) -> bool {
        self.state()
            .is_some_and(|state| state.open_rotation().is_some())
    }

    /// The sequence of its current rotation, 0 if it has none; while somebody
    /// works on it, that of before.
    pub(super) fn sequence(&self) -> u64 {
        self.state().map_or(self.last_sequence, sequence_of)
    }
}

impl ParkedKey {
    /// Whether the last commit failed or may have been done.
    pub(super) const fn has_unclear_commit(&self) -> bool {
        self.unclear_commit.is_some()
    }

    /// Takes the state that was read after such a commit.
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

fn sequence_of(state: &KeyState) -> u64 {
    state.current().map_or(0, |current| current.sequence)
}
