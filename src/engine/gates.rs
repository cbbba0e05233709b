//! The gates of the scopes, the requests that passed them, and the keys that wait at them.
//!
//! A worker takes a pass before a request, and says what became of it. A key that gets none
//! is parked, and the engine wakes as many of the waiting keys as may pass, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::core::gate::{Closing, Gate, Pass, RequestClass};
use crate::core::ids::KeyName;
use crate::core::refusals::Refusals;
use crate::core::scope::Scope;

/// A gate: its scope and the class of its requests.
pub(crate) type GateKey = (Scope, RequestClass);

/// The gates. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Shared>);

/// A request that passed a gate. If it is dropped, nothing follows from it.
#[must_use = "a pass that is dropped makes room for another request"]
#[derive(Debug)]
pub(crate) struct GatePass {
    gates: Gates,
    gate: GateKey,
    pass: Pass,
    is_settled: AtomicBool,
}

/// A gate that holds the next work of a key back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// The class of its requests.
    pub(crate) class: RequestClass,
    /// Whether the key's rotation waits there, and not only a revocation or a check.
    pub(crate) delays_rotation: bool,
}

/// What the engine does about a key that waits at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaiterState {
    /// The key is woken.
    Idle,
    /// The key is about to pass: it waits for a place at the provider.
    Queued,
    /// Something else delays the key: others pass before it.
    Delayed,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    gates: BTreeMap<GateKey, Gate>,
    refusals: BTreeMap<Scope, Refusals>,
    /// The waiting keys of each gate, by the start of their wait.
    waiting: BTreeMap<GateKey, BTreeSet<(Timestamp, KeyName)>>,
    /// The gate at which each key waits, and since when.
    places: BTreeMap<KeyName, (GateKey, Timestamp)>,
    /// Whether a request ended since [`Gates::unopened`].
    is_changed: bool,
}

impl Gates {
    /// Lets a request of `key` pass, if one may. The key does not wait any more then.
    pub(crate) fn enter(&self, key: &KeyName, gate: &GateKey, now: Timestamp) -> Option<GatePass> {
        let mut inner = self.inner();
        let pass = match inner.gates.get_mut(gate) {
            Some(state) => state.enter(now)?,
            None => Gate::default().bypass(),
        };
        inner.leave(key);
        drop(inner);
        Some(self.pass(gate, pass))
    }

    /// Lets a request pass that a person asked for, whatever the state of the gate.
    pub(crate) fn bypass(&self, gate: &GateKey) -> GatePass {
        let pass = self.inner().state(gate).bypass();
        self.pass(gate, pass)
    }

    /// Returns whether a request may pass now.
    pub(crate) fn may_enter(&self, gate: &GateKey, now: Timestamp) -> bool {
        self.inner().state(gate).free(now) != Some(0)
    }

    /// Closes a gate, because the provider refused the request of `pass`. Returns until
    /// when.
    pub(crate) fn close(&self, pass: &GatePass, closing: Closing, now: Timestamp) -> Timestamp {
        pass.is_settled.store(true, Ordering::Relaxed);
        let mut inner = self.inner();
        let gate = inner.gates.entry(pass.gate.clone()).or_default();
        gate.close(pass.pass, closing, now);
        let until = gate.closed_until().unwrap_or(now);
        self.announce(inner);
        until
    }

    /// Records that the create of a key was refused. Returns whether the cause is the
    /// scope.
    pub(crate) fn record_refusal(
        &self,
        scope: &Scope,
        code: &str,
        key: &KeyName,
        lifetime: Option<Duration>,
    ) -> bool {
        let mut inner = self.inner();
        let refusals = inner.refusals.entry(scope.clone()).or_default();
        refusals.record(code, key, lifetime)
    }

    /// Queues a key at a gate, in the order of `since`.
    pub(crate) fn wait(&self, key: &KeyName, gate: GateKey, since: Timestamp) {
        let mut inner = self.inner();
        inner.leave(key);
        let queue = inner.waiting.entry(gate.clone()).or_default();
        queue.insert((since, key.clone()));
        inner.places.insert(key.clone(), (gate, since));
    }

    /// Removes a key from the gate at which it waits.
    pub(crate) fn leave(&self, key: &KeyName) {
        self.inner().leave(key);
    }

    /// Returns the gates that are not open, and how many requests may pass each.
    pub(crate) fn unopened(&self, now: Timestamp) -> Vec<(GateKey, u32)> {
        let mut inner = self.inner();
        inner.is_changed = false;
        let gates = inner.gates.iter();
        gates
            .filter_map(|(key, gate)| Some((key.clone(), gate.free(now)?)))
            .collect()
    }

    /// Opens a gate at which no key waits, if its pause is over and no request is on its
    /// way. Returns whether it did.
    pub(crate) fn open_if_unused(&self, gate: &GateKey, now: Timestamp) -> bool {
        let mut inner = self.inner();
        let is_awaited = inner.waiting.get(gate).is_some_and(|keys| !keys.is_empty());
        match inner.gates.get_mut(gate) {
            Some(state) if !is_awaited && state.is_idle(now) => {
                state.open();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Returns the first `count` keys that wait at a gate, except those that something else
    /// delays, with the start of their wait. Those that are about to pass are counted and not
    /// returned.
    pub(crate) fn first_waiting(
        &self,
        gate: &GateKey,
        count: u32,
        state_of: impl Fn(&KeyName) -> WaiterState,
    ) -> Vec<(Timestamp, KeyName)> {
        let inner = self.inner();
        let queue = inner.waiting.get(gate).into_iter().flatten();
        let mut left = count;
        let mut first = Vec::new();
        for (since, key) in queue {
            if left == 0 {
                break;
            }
            match state_of(key) {
                WaiterState::Idle => first.push((*since, key.clone())),
                WaiterState::Queued => {}
                WaiterState::Delayed => continue,
            }
            left -= 1;
        }
        first
    }

    /// Returns when the next pause of a gate ends.
    pub(crate) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let inner = self.inner();
        let pauses = inner.gates.values().filter_map(Gate::closed_until);
        pauses.filter(|until| *until > now).min()
    }

    /// Ends all pauses, because the clock was set back.
    pub(crate) fn end_pauses(&self, now: Timestamp) {
        let mut inner = self.inner();
        inner
            .gates
            .values_mut()
            .for_each(|gate| gate.end_pause(now));
    }

    /// Waits until a request has ended that passed a gate which is not open. The future is
    /// safe to drop.
    pub(crate) async fn changed(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.inner().is_changed {
                return;
            }
            changed.await;
        }
    }

    fn pass(&self, gate: &GateKey, pass: Pass) -> GatePass {
        GatePass {
            gates: self.clone(),
            gate: gate.clone(),
            pass,
            is_settled: AtomicBool::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals a change to the engine.
    fn announce(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.is_changed = true;
        // `Notify` stores the permit for the next call, so no wake-up is lost.
        self.0.changed.notify_one();
    }
}

impl Inner {
    fn state(&self, gate: &GateKey) -> Gate {
        self.gates.get(gate).copied().unwrap_or_default()
    }

    fn leave(&mut self, key: &KeyName) {
        if let Some((gate, since)) = self.places.remove(key)
            && let Some(queue) = self.waiting.get_mut(&gate)
        {
            queue.remove(&(since, key.clone()));
        }
    }
}

impl GatePass {
    /// Returns whether the gate has not closed since.
    pub(crate) fn is_current(&self) -> bool {
        self.gates
            .inner()
            .state(&self.gate)
            .bypass()
            .is_same_time(self.pass)
    }

    /// Records that the provider took the request.
    pub(crate) fn succeed(&self) {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut inner = self.gates.inner();
        if self.gate.1 == RequestClass::Create {
            inner.refusals.remove(&self.gate.0);
        }
        self.end_with(inner, |gate| gate.succeed(self.pass));
    }

    fn end_with(&self, mut inner: MutexGuard<'_, Inner>, end: impl FnOnce(&mut Gate)) {
        let Some(gate) = inner.gates.get_mut(&self.gate) else {
            return;
        };
        end(gate);
        if !gate.is_open() {
            self.gates.announce(inner);
        }
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        if !self.is_settled.load(Ordering::Relaxed) {
            self.end_with(self.gates.inner(), |gate| gate.release(self.pass));
        }
    }
}
