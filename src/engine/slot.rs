//! What the engine keeps of a key. Most of it goes to whoever works on the key,
//! and comes back from there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::record::KeyState;
use crate::core::step::Memory;
use crate::engine::order::Asked;
use crate::engine::standing::Standing;
use crate::engine::sweep::Finding;
use crate::engine::worker::{ManagedKey, Parts, Turn, Wish, Worker};

/// One key.
pub(super) struct Slot {
    /// As it is configured, if it is.
    pub(super) managed: Option<Arc<ManagedKey>>,
    pub(super) wish: Option<Wish>,
    pub(super) orders: VecDeque<Asked>,
    pub(super) findings: VecDeque<Finding>,
    /// Whether the ledger is still to be made to agree with the sinks.
    pub(super) reconcile: bool,
    pub(super) look_at_sinks: bool,
    /// Whether it is to be looked at as soon as it comes back from work.
    pub(super) look_again: bool,
    /// Has whoever works on it come back after the present step.
    pub(super) interrupted: Arc<AtomicBool>,
    /// When there is something to do, while nobody works on it.
    pub(super) wake_at: Option<Timestamp>,
    pub(super) standing: Standing,
    /// The sequence of its current rotation when it was put to work last.
    current: u64,
    /// When it is rotated next, as far as that was seen last.
    pub(super) rotates_at: Option<Timestamp>,
    /// Since when it has been failing.
    pub(super) failing_since: Option<Timestamp>,
    /// What is known, while nobody works on the key.
    pub(super) idle: Option<Idle>,
}

/// What is known of a key.
pub(super) struct Idle {
    pub(super) state: KeyState,
    /// In a box, since most keys have none.
    pub(super) memory: Option<Box<Memory>>,
    unrecorded: Vec<Change>,
}

impl Slot {
    /// A key that nobody has worked on yet and that is to be looked at then.
    pub(super) fn new(
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        wake_at: Timestamp,
    ) -> Self {
        Self {
            managed,
            wish: None,
            orders: VecDeque::new(),
            findings: VecDeque::new(),
            reconcile: true,
            look_at_sinks: false,
            look_again: false,
            interrupted: Arc::new(AtomicBool::new(false)),
            wake_at: Some(wake_at),
            standing: Standing::of(&state),
            current: 0,
            rotates_at: None,
            failing_since: None,
            idle: Some(Idle {
                state,
                memory: None,
                unrecorded: Vec::new(),
            }),
        }
    }

    /// Hands the key to a worker; none if somebody has it.
    pub(super) fn hand_out(&mut self, parts: &Arc<Parts>, turn: Turn) -> Option<Worker> {
        let idle = self.idle.take()?;
        self.wake_at = None;
        self.current = sequence_of(&idle.state);
        Some(Worker {
            parts: Arc::clone(parts),
            turn,
            managed: self.managed.clone(),
            state: idle.state,
            memory: idle.memory.map(|memory| *memory),
            unrecorded: idle.unrecorded,
            wish: self.wish.take(),
            orders: std::mem::take(&mut self.orders),
            findings: std::mem::take(&mut self.findings),
            reconcile: std::mem::take(&mut self.reconcile),
            look_at_sinks: std::mem::take(&mut self.look_at_sinks),
            interrupted: Arc::clone(&self.interrupted),
            wants_sweep: false,
            wake_at: None,
            rotates_at: None,
            unclear: false,
        })
    }

    /// Takes the key back; what its worker has left to do comes before what has
    /// come up since.
    pub(super) fn take_back(&mut self, worker: Worker, now: Timestamp) {
        self.failing_since = match worker.state.attempt {
            0 => None,
            _ => self.failing_since.or(Some(now)),
        };
        self.standing = Standing::of(&worker.state);
        self.rotates_at = worker.rotates_at;
        self.idle = Some(Idle {
            state: worker.state,
            memory: worker.memory.map(Box::new),
            unrecorded: worker.unrecorded,
        });
        self.interrupted.store(false, Ordering::Relaxed);
        self.reconcile |= worker.reconcile;
        self.look_at_sinks |= worker.look_at_sinks;
        // A reload may have taken the key out of the configuration.
        let wish = worker.wish.filter(|_| self.managed.is_some());
        self.wish = match (wish, self.wish.take()) {
            (Some(before), Some(since)) => Some(before.and(since)),
            (before, since) => before.or(since),
        };
        for order in worker.orders.into_iter().rev() {
            self.orders.push_front(order);
        }
        for finding in worker.findings.into_iter().rev() {
            self.findings.push_front(finding);
        }
        // Whatever has come up meanwhile has waked it.
        let news = std::mem::take(&mut self.look_again);
        self.wake_at = if news { Some(now) } else { worker.wake_at };
    }

    /// How it stands, while nobody works on it.
    pub(super) fn state(&self) -> Option<&KeyState> {
        self.idle.as_ref().map(|idle| &idle.state)
    }

    /// Whether a rotation is open, as far as that is known while nobody works
    /// on the key.
    pub(super) fn is_rotating(&self) -> bool {
        self.state().is_some_and(|state| state.open().is_some())
    }

    /// The sequence of its current rotation, 0 if it has none; while somebody
    /// works on it, that of before.
    pub(super) fn sequence(&self) -> u64 {
        self.state().map_or(self.current, sequence_of)
    }
}

fn sequence_of(state: &KeyState) -> u64 {
    state.current().map_or(0, |current| current.sequence)
}
