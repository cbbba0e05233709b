//! Asks the sinks whether they still have what they took.
//!
//! Nearly all have, and to find that out nobody has to be put to work: the
//! sinks of many keys are asked together. A key that seems to have lost
//! something looks again by itself and records what it sees, for meanwhile it
//! may have been given something else.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use crate::core::change::Change;
use crate::core::names::KeyName;
use crate::core::record::{Delivery, DeliveryState, KeyState, Rotation};
use crate::engine::worker::{ManagedKey, Worker};
use crate::engine::{Back, Engine, Slot};
use crate::ledger::LedgerError;
use crate::sink::Look;

/// So many keys are looked at together: more would only take more room.
pub(super) const LOOKS_AT_ONCE: usize = 256;

/// So many times that: while the files of some keys are looked at, the looks at
/// the next are made ready.
pub(super) const IN_FLIGHT: usize = 2;

impl Engine {
    /// Looks at the sinks of all keys.
    pub(super) fn look_at_sinks(&mut self) {
        self.unlooked = Some(Bound::Unbounded);
        for _ in 0..IN_FLIGHT {
            self.look_on();
        }
    }

    /// Looks at the sinks of the next keys, if there are any.
    fn look_on(&mut self) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Some(from) = self.unlooked.take() else {
            return;
        };
        let mut keys = self.keys.range_mut((from, Bound::Unbounded));
        let mut looks = Vec::new();
        let mut last = None;
        for (key, slot) in keys.by_ref().take(LOOKS_AT_ONCE) {
            looks.extend(slot.looks().map(|look| (key.clone(), look)));
            last = Some(key);
        }
        let last = last.cloned().filter(|_| keys.next().is_some());
        self.unlooked = last.map(Bound::Excluded);
        self.running.spawn(async move {
            let mut suspect = Vec::new();
            // They are done in their order: when the last one is, nearly all
            // are, and nobody was waked for each.
            for (key, look) in looks.into_iter().rev() {
                if look.await.is_some() {
                    suspect.push(key);
                }
            }
            Back::Looked(suspect)
        });
    }

    /// Has the keys looked at that seem to have lost something, and goes on
    /// with the next ones.
    pub(super) fn looked(&mut self, suspect: Vec<KeyName>) {
        let now = self.parts.clock.now();
        for key in suspect {
            if let Some(slot) = self.keys.get_mut(&key) {
                slot.look_at_sinks = true;
            }
            self.wake(&key, now);
        }
        self.look_on();
    }
}

impl Slot {
    /// Begins to look at the sinks of the key; whoever works on it looks by
    /// itself.
    fn looks(&mut self) -> impl Iterator<Item = Look> {
        if self.managed.is_some() && self.idle.is_none() {
            self.look_at_sinks = true;
            self.look_again = true;
        }
        let current = self.state().and_then(KeyState::current);
        let known = self.managed.as_deref().zip(current);
        let looks = known.into_iter().flat_map(|(key, one)| looks(key, one));
        looks.map(|(_, look)| look)
    }
}

impl Worker {
    /// Asks the sinks of the current credential whether they still have what
    /// they accepted. What is gone is made good by a new rotation.
    pub(crate) async fn look_at_sinks(&mut self) -> Result<(), LedgerError> {
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current()) else {
            return Ok(());
        };
        let mut changes = Vec::new();
        for (delivery, look) in looks(&managed, current) {
            if let Some(problem) = look.await {
                changes.push(Change::TargetLost {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    problem,
                });
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.record(changes).await
    }
}

/// Begins to look, one after another, at what was accepted of a credential.
fn looks<'r>(
    managed: &'r ManagedKey,
    rotation: &'r Rotation,
) -> impl Iterator<Item = (&'r Delivery, Look)> {
    let deliveries = rotation.deliveries.iter();
    let accepted = deliveries.filter(|delivery| delivery.state == DeliveryState::Accepted);
    accepted.filter_map(|delivery| {
        let sink = managed.sink(&delivery.sink)?;
        let credential = rotation.credential.as_ref()?;
        Some((delivery, sink.lost(credential)))
    })
}
