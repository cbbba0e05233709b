//! Drives rotations: which keys have something to do now, side by side up to
//! `max-in-flight`, each by the decisions of [`crate::core`].
//!
//! The engine neither sleeps nor keeps time: whoever runs it asks
//! [`Engine::next_at`] when to call [`Engine::start_due`] again. Start, wake
//! and recovery are the same code: a key is looked at, and what the ledger
//! says decides.

pub mod chance;
pub mod clock;
mod effects;
mod reconcile;
mod tell;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::core::change::Change;
use crate::core::names::KeyName;
use crate::core::record::KeyState;
use crate::core::rotation::Phase;
use crate::core::step::Memory;
use crate::core::{conclude, time};
use crate::ledger::LedgerError;
use worker::Worker;
pub use worker::{ManagedKey, Parts, Wish};

/// Drives all keys of one ledger.
pub struct Engine {
    parts: Arc<Parts>,
    keys: BTreeMap<KeyName, Slot>,
    /// When each idle key has something to do; a key at work is not in here.
    queue: BTreeSet<(Timestamp, KeyName)>,
    running: JoinSet<Worker>,
    stopping: Arc<AtomicBool>,
    watching_since: Timestamp,
    scheduled: bool,
}

struct Slot {
    managed: Option<Arc<ManagedKey>>,
    wish: Option<Wish>,
    wake_at: Option<Timestamp>,
    /// What is known, while nobody works on the key.
    idle: Option<Idle>,
}

struct Idle {
    state: KeyState,
    memory: Option<Memory>,
    unrecorded: Vec<Change>,
}

impl Engine {
    /// Reads how every key stands and makes the ledger agree with the
    /// configured sinks. With `scheduled` off, rotations are begun by
    /// [`Engine::wish`] alone.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open(
        parts: Parts,
        managed: Vec<ManagedKey>,
        scheduled: bool,
    ) -> Result<Self, LedgerError> {
        let now = parts.clock.now();
        let mut engine = Self {
            parts: Arc::new(parts),
            keys: BTreeMap::new(),
            queue: BTreeSet::new(),
            running: JoinSet::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            watching_since: now,
            scheduled,
        };
        for state in engine.parts.ledger.all_key_states().await? {
            engine.add(None, state, now);
        }
        for key in managed {
            let state = match engine.keys.remove(&key.name) {
                Some(Slot {
                    idle: Some(idle), ..
                }) => idle.state,
                Some(_) | None => KeyState::unknown(key.name.clone()),
            };
            engine.add(Some(Arc::new(key)), state, now);
        }
        engine.reconcile_all(now).await?;
        Ok(engine)
    }

    fn add(&mut self, managed: Option<Arc<ManagedKey>>, state: KeyState, now: Timestamp) {
        let key = state.key.clone();
        self.queue.insert((now, key.clone()));
        let idle = Some(Idle {
            state,
            memory: None,
            unrecorded: Vec::new(),
        });
        self.keys.insert(
            key,
            Slot {
                managed,
                wish: None,
                wake_at: Some(now),
                idle,
            },
        );
    }

    async fn reconcile_all(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        for slot in self.keys.values_mut() {
            let Some(idle) = &mut slot.idle else { continue };
            let changes = reconcile::sinks(&idle.state, slot.managed.as_deref(), now);
            if !changes.is_empty() {
                let key = idle.state.key.clone();
                let before = idle.state.clone();
                idle.state = self.parts.ledger.record(&key, now, changes.clone()).await?;
                tell::tell(&before, &idle.state, &changes);
            }
        }
        Ok(())
    }

    /// Asks for a rotation of `key` now. False if it is not configured.
    pub fn wish(&mut self, key: &KeyName, wish: Wish) -> bool {
        let Some(slot) = self.keys.get_mut(key).filter(|slot| slot.managed.is_some()) else {
            return false;
        };
        slot.wish = Some(wish);
        if slot.idle.is_some() {
            if let Some(at) = slot.wake_at {
                self.queue.remove(&(at, key.clone()));
            }
            slot.wake_at = Some(Timestamp::MIN);
            self.queue.insert((Timestamp::MIN, key.clone()));
        }
        true
    }

    /// Puts every key to work that has something to do now, as far as there is
    /// room.
    pub fn start_due(&mut self) {
        let now = self.parts.clock.now();
        while !self.stopping.load(Ordering::Relaxed)
            && self.running.len() < self.parts.max_in_flight
            && self.queue.first().is_some_and(|(at, _)| *at <= now)
        {
            let Some((_, key)) = self.queue.pop_first() else {
                break;
            };
            let Some(slot) = self.keys.get_mut(&key) else {
                continue;
            };
            let Some(idle) = slot.idle.take() else {
                continue;
            };
            slot.wake_at = None;
            let worker = Worker {
                parts: Arc::clone(&self.parts),
                managed: slot.managed.clone(),
                state: idle.state,
                memory: idle.memory,
                unrecorded: idle.unrecorded,
                wish: slot.wish.take(),
                watching_since: self.watching_since,
                stopping: Arc::clone(&self.stopping),
                scheduled: self.scheduled,
                wake_at: None,
            };
            self.running.spawn(worker.work());
        }
    }

    /// Waits for a key to come back from work. False if none is at work. Safe
    /// to drop and call again.
    pub async fn finish_one(&mut self) -> bool {
        match self.running.join_next().await {
            None => false,
            Some(Ok(worker)) => {
                self.put_back(worker);
                true
            }
            Some(Err(error)) => {
                // A panic in a step: its key stays away until a restart, which
                // finds its rotation open and strands it.
                tracing::error!("a step panicked ({error}); restart rekeyd, and report this");
                true
            }
        }
    }

    fn put_back(&mut self, worker: Worker) {
        let key = worker.state.key.clone();
        let Some(slot) = self.keys.get_mut(&key) else {
            return;
        };
        slot.idle = Some(Idle {
            state: worker.state,
            memory: worker.memory,
            unrecorded: worker.unrecorded,
        });
        slot.wish = slot.wish.take().or(worker.wish);
        slot.wake_at = if slot.wish.is_some() {
            Some(Timestamp::MIN)
        } else {
            worker.wake_at
        };
        if let Some(at) = slot.wake_at {
            self.queue.insert((at, key));
        }
    }

    /// When [`Engine::start_due`] is to be called again; none if nothing is to
    /// be done ever, as it stands.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// How many keys are at work.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.running.len()
    }

    /// How a key stands; none while it is worked on.
    #[must_use]
    pub fn state(&self, key: &KeyName) -> Option<&KeyState> {
        self.keys.get(key)?.idle.as_ref().map(|idle| &idle.state)
    }

    /// Whether nothing is at work, nothing is to be done now and no rotation
    /// is open.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let now = self.parts.clock.now();
        self.running.is_empty()
            && self.next_at().is_none_or(|at| at > now)
            && self.keys.values().all(|slot| {
                slot.idle
                    .as_ref()
                    .is_some_and(|idle| idle.state.open().is_none())
            })
    }

    /// Whether a person's wish for `key` has not been taken up yet.
    #[must_use]
    pub fn is_wished(&self, key: &KeyName) -> bool {
        self.keys.get(key).is_some_and(|slot| slot.wish.is_some())
    }

    /// The time by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Lets every key at work finish the step it is in, and begins nothing
    /// more.
    pub async fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.finish_one().await {}
    }

    /// Works on the keys with an orphaned credential once more, after
    /// [`Engine::stop`], for `limit` at most: what no sink can hold need not
    /// wait for the next start.
    pub async fn revoke_orphans(&mut self, limit: std::time::Duration) {
        let orphaned = |slot: &Slot| {
            slot.idle.as_ref().is_some_and(|idle| {
                idle.state
                    .live
                    .iter()
                    .any(|rotation| rotation.phase == Phase::Orphaned)
            })
        };
        let now = self.parts.clock.now();
        let keys: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, slot)| orphaned(slot))
            .map(|(key, _)| key.clone())
            .collect();
        self.queue = keys.iter().map(|key| (now, key.clone())).collect();
        self.scheduled = false;
        self.stopping.store(false, Ordering::Relaxed);
        self.start_due();
        let finished = async { while self.finish_one().await {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("an orphaned credential is revoked at the next start");
        }
    }

    /// Gives up every rotation that is open in this process and revokes what
    /// no sink can hold; the next rotation of such a key waits `pause` at
    /// least.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn give_up_open(
        &mut self,
        why: &str,
        pause: std::time::Duration,
    ) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        for slot in self.keys.values_mut() {
            let Some(idle) = &mut slot.idle else { continue };
            let Some(open) = idle.state.open() else {
                continue;
            };
            let mut changes = if open.credential.is_some() {
                conclude::given_up(open, why)
            } else {
                Vec::new()
            };
            changes.push(Change::Deferred {
                attempt: idle.state.attempt.saturating_add(1),
                retry_at: time::after(now, pause),
                problem: why.to_owned(),
            });
            let before = idle.state.clone();
            idle.state = self
                .parts
                .ledger
                .record(&before.key, now, changes.clone())
                .await?;
            idle.memory = None;
            tell::tell(&before, &idle.state, &changes);
        }
        Ok(())
    }
}
