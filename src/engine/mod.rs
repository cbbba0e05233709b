//! Drives rotations: which keys have something to do now, side by side up to
//! `max-in-flight`, each by the decisions of [`crate::core`].
//!
//! The engine neither sleeps nor keeps time: whoever runs it asks
//! [`Engine::next_at`] when to call [`Engine::start_due`] again. Start, wake
//! and recovery are the same code: a key is looked at, and what the ledger
//! says decides.

mod agenda;
pub mod chance;
pub mod clock;
pub mod condition;
mod effects;
mod ending;
mod errand;
mod looks;
mod notice;
pub mod observe;
pub mod order;
mod planned;
pub mod post;
mod probe;
mod reconcile;
mod reload;
mod slot;
mod standing;
mod sweep;
mod task;
mod tell;
mod view;
mod watch;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};

use crate::core::change::Why;
use crate::core::due::Absence;
use crate::core::duration;
use crate::core::names::{CredentialId, KeyName};
use crate::core::problem::trouble_of;
use crate::core::record::KeyState;
use crate::ledger::LedgerError;
use agenda::Agenda;
use clock::{Moment, Parted};
use condition::Condition;
use errand::{Errand, Errands};
use order::Asked;
use planned::Planned;
use post::Recorded;
use slot::Slot;
use standing::{Standing, Standings};
use sweep::Swept;
pub use view::KeyView;
use watch::Watch;
pub use worker::{ManagedKey, Parts, Wish};
use worker::{Turn, Worker};

/// So many keys are seen to before somebody else has a turn: what is asked of
/// the daemon is not to wait until ten thousand have been seen to.
const AT_A_TURN: usize = 256;

/// How a process goes about its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// The daemon: rotations are begun by schedule, and everything is compared
    /// with the provider at start.
    Daemon,
    /// `once`: as the daemon, but a comparison of less than `sweep-every` ago
    /// will do.
    Once,
    /// Rotations are begun by [`Engine::wish`] alone.
    ByHand,
}

/// Drives all keys of one ledger.
pub struct Engine {
    parts: Arc<Parts>,
    /// Boxed, since half of the room in the nodes of a map is empty.
    keys: BTreeMap<KeyName, Box<Slot>>,
    /// When each idle key has something to do; a key at work is not in here.
    agenda: Agenda,
    /// When each key is rotated next.
    rotations: Planned,
    running: JoinSet<Back>,
    keys_at_work: usize,
    /// Whether [`Engine::start_due`] left keys for its next call.
    is_unfinished: bool,
    errands: Errands,
    /// From which key on the sinks are still to be looked at.
    unlooked: Option<Bound<KeyName>>,
    /// Keys that cannot be begun before the provider was listed again.
    waiting_for_sweep: Vec<KeyName>,
    standings: Standings,
    /// The keys that something is wrong with.
    troubled: BTreeSet<KeyName>,
    /// The keys with an open rotation.
    rotating: BTreeSet<KeyName>,
    stopping: Arc<AtomicBool>,
    /// When nobody was there last to see a firing.
    absence: Absence,
    /// When the clocks were looked at last.
    seen: Moment,
    scheduled: bool,
    /// What people are told.
    watch: Watch,
}

/// What comes back from work.
enum Back {
    Key(Box<Worker>),
    Probed,
    /// The keys whose sinks seem to have lost something.
    Looked(Vec<KeyName>),
    Swept(Option<Swept>),
    Noted,
    Told(Recorded),
}

impl Engine {
    /// Reads how every key stands and makes the ledger agree with the
    /// configured sinks.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open(
        parts: Parts,
        managed: Vec<ManagedKey>,
        course: Course,
    ) -> Result<Self, LedgerError> {
        let states = parts.ledger.all_key_states().await?;
        Self::open_knowing(states, parts, managed, course).await
    }

    /// As [`Engine::open`] where it is known how every key stands; in the order
    /// of their names.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open_knowing(
        states: Vec<KeyState>,
        parts: Parts,
        mut managed: Vec<ManagedKey>,
        course: Course,
    ) -> Result<Self, LedgerError> {
        let seen = Moment::of(parts.clock.as_ref());
        let now = seen.wall;
        // By hand, a person is there.
        let told = match course {
            Course::Daemon | Course::Once => parts.ledger.tell_only(parts.audience.ids()).await?,
            Course::ByHand => BTreeMap::new(),
        };
        let mut engine = Self {
            watch: Watch::new(Arc::clone(&parts.audience), told, now),
            errands: Errands::at_start(&parts, course, now).await?,
            parts: Arc::new(parts),
            keys: BTreeMap::new(),
            agenda: Agenda::default(),
            rotations: Planned::default(),
            running: JoinSet::new(),
            keys_at_work: 0,
            is_unfinished: false,
            unlooked: None,
            waiting_for_sweep: Vec::new(),
            standings: Standings::default(),
            troubled: BTreeSet::new(),
            rotating: BTreeSet::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            absence: Absence::before_start(now),
            seen,
            scheduled: course != Course::ByHand,
        };
        let mut slots = Vec::with_capacity(states.len().max(managed.len()));
        let mut states = states.into_iter().peekable();
        managed.sort_by(|one, other| one.name.cmp(&other.name));
        for key in managed {
            while let Some(state) = states.next_if(|state| state.key < key.name) {
                slots.push(engine.know(None, state, now));
            }
            let state = states.next_if(|state| state.key == key.name);
            let state = state.unwrap_or_else(|| KeyState::unknown(key.name.clone()));
            slots.push(engine.know(Some(Arc::new(key)), state, now));
        }
        slots.extend(states.map(|state| engine.know(None, state, now)));
        for (key, slot) in &slots {
            engine.agenda.insert(now, key.clone(), slot.is_rotating());
        }
        // What is in order needs no search for the place of each.
        engine.keys = slots.into_iter().collect();
        engine.read_failures().await?;
        Ok(engine)
    }

    /// Since when keys have been failing: the rows do not tell.
    async fn read_failures(&mut self) -> Result<(), LedgerError> {
        for (key, slot) in &mut self.keys {
            if slot
                .idle
                .as_ref()
                .is_some_and(|idle| idle.state.attempt > 0)
            {
                slot.failing_since = self.parts.ledger.failing_since(key).await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, managed: Option<Arc<ManagedKey>>, state: KeyState, now: Timestamp) {
        let (key, slot) = self.know(managed, state, now);
        self.agenda.insert(now, key.clone(), slot.is_rotating());
        self.keys.insert(key, slot);
    }

    /// A key that is to be looked at now.
    fn know(
        &mut self,
        managed: Option<Arc<ManagedKey>>,
        state: KeyState,
        now: Timestamp,
    ) -> (KeyName, Box<Slot>) {
        let key = state.key.clone();
        self.watch.know(&state);
        let troubled = trouble_of(&state, managed.is_some()).is_some();
        keep(&mut self.troubled, &key, troubled);
        let slot = Slot::new(managed, state, now);
        self.standings.count(Standing::None, slot.standing);
        (key, Box::new(slot))
    }

    /// Asks for a rotation of `key` now. False if it is not configured.
    pub fn wish(&mut self, key: &KeyName, wish: Wish) -> bool {
        let Some(slot) = self.keys.get_mut(key).filter(|slot| slot.managed.is_some()) else {
            return false;
        };
        slot.wish = Some(match slot.wish.take() {
            Some(before) => before.and(wish),
            None => wish,
        });
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Asks for no rotation of `key` any more, unless it was begun.
    pub fn unwish(&mut self, key: &KeyName) {
        if let Some(slot) = self.keys.get_mut(key) {
            slot.wish = None;
        }
    }

    /// Asks for a rotation of every configured key now: a person who does is
    /// sure of the organization.
    pub fn wish_all(&mut self, wish: &Wish) {
        self.parts.conditions.clear(Condition::Organization);
        self.errands.organization_is_right = true;
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.wish(&key, wish.clone());
        }
    }

    /// Asks for something to be done with a credential of `key`. False if the
    /// key is neither configured nor in the ledger.
    pub fn order(&mut self, key: &KeyName, asked: Asked) -> bool {
        let Some(slot) = self.keys.get_mut(key) else {
            return false;
        };
        slot.orders.push_back(asked);
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Which key a credential belongs to, if it has a row.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn key_of(&self, credential: &CredentialId) -> Result<Option<KeyName>, LedgerError> {
        self.parts.ledger.key_of(credential).await
    }

    /// Has a key looked at. Whoever works on it may have looked before the
    /// reason for this came up: then it is looked at again afterwards.
    fn wake(&mut self, key: &KeyName, at: Timestamp) {
        let Some(slot) = self.keys.get_mut(key) else {
            return;
        };
        if slot.idle.is_none() {
            slot.look_again = true;
            return;
        }
        if let Some(before) = slot.wake_at {
            if before <= at {
                return;
            }
            self.agenda.remove(before, key);
        }
        slot.wake_at = Some(at);
        self.agenda
            .insert(at, key.clone(), self.rotating.contains(key));
    }

    /// Has every key looked at.
    fn wake_all(&mut self) {
        let now = self.parts.clock.now();
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
        let mut now = self.heed_clock();
        self.run_errands(now);
        self.watch_due(now);
        // Nothing can be recorded: nothing may be done.
        if self.parts.conditions.holds(Condition::Ledger) {
            return;
        }
        for _ in 0..AT_A_TURN {
            if self.keys_at_work >= self.parts.max_in_flight {
                return;
            }
            let Some(key) = self.agenda.pop_due(now) else {
                return;
            };
            self.put_to_work(&key);
            // It may have been set meanwhile: who finds that comes back at
            // once, to be put to work by the new time.
            now = self.heed_clock();
        }
        self.is_unfinished = true;
    }

    /// After the clock was set back, whatever was planned by it would come too
    /// late: everything is looked at anew. After it jumped ahead, nobody was
    /// there in between. Tells the time.
    fn heed_clock(&mut self) -> Timestamp {
        let now = Moment::of(self.parts.clock.as_ref());
        let before = std::mem::replace(&mut self.seen, now);
        let Some(parted) = before.parted(now) else {
            return now.wall;
        };
        self.watch.watch_anew(now.wall);
        match parted {
            Parted::Back => {
                tracing::warn!("the clock was set back; looking at everything anew");
                self.absence.to = self.absence.to.min(now.wall);
                self.errands.plan_anew(now.wall);
                self.wake_all();
            }
            Parted::Ahead(by) => {
                let slept = duration::for_people(by);
                tracing::info!("the host slept, or its clock was set forward, by {slept}");
                self.absence = Absence {
                    from: before.wall,
                    to: now.wall,
                    why: Why::Asleep,
                };
            }
        }
        now.wall
    }

    fn run_errands(&mut self, now: Timestamp) {
        let conditions = &self.parts.conditions;
        for errand in self.errands.due(conditions, now) {
            let parts = Arc::clone(&self.parts);
            match errand {
                Errand::Probe => {
                    self.running.spawn(async move {
                        probe::probe(parts).await;
                        Back::Probed
                    });
                }
                Errand::Sweep => {
                    let keys = Arc::new(self.keys.keys().cloned().collect::<Vec<_>>());
                    self.running
                        .spawn(async move { Back::Swept(sweep::sweep(parts, keys).await) });
                }
                Errand::LookAtSinks => self.look_at_sinks(),
            }
        }
        self.note_conditions();
    }

    /// Tells the ledger of conditions that began or ended, for those who ask
    /// beside the daemon.
    fn note_conditions(&mut self) {
        for (condition, problem) in self.parts.conditions.take_unwritten() {
            if condition == Condition::Ledger {
                // It cannot be told to what cannot be written.
                continue;
            }
            self.note(condition.as_str(), problem);
        }
        self.watch_conditions();
    }

    fn note(&mut self, word: &'static str, problem: Option<String>) {
        let (ledger, now) = (self.parts.ledger.clone(), self.parts.clock.now());
        self.running.spawn(async move {
            if let Err(error) = ledger.set_condition(word, now, problem).await {
                tracing::debug!(%error, "cannot record the condition {word}");
            }
            Back::Noted
        });
    }

    fn put_to_work(&mut self, key: &KeyName) {
        let Some(slot) = self.keys.get_mut(key) else {
            return;
        };
        let turn = Turn {
            stopping: Arc::clone(&self.stopping),
            scheduled: self.scheduled,
            absence: self.absence,
            seen: self.seen,
            compared_at: self.errands.compared_at,
        };
        let Some(mut worker) = slot.hand_out(&self.parts, turn) else {
            return;
        };
        let before = self.parts.conditions.changes();
        // Nearly all that are looked at have nothing to do now.
        if let Some(task) = worker.task() {
            let mut work = Box::pin(worker.work(task));
            // What was decided is begun before anybody can have the key
            // configured otherwise.
            let mut unheard = Context::from_waker(Waker::noop());
            worker = match work.as_mut().poll(&mut unheard) {
                Poll::Ready(worker) => worker,
                Poll::Pending => {
                    self.keys_at_work += 1;
                    self.running
                        .spawn(async move { Back::Key(Box::new(work.await)) });
                    return;
                }
            };
        }
        self.put_back(worker);
        if self.parts.conditions.changes() != before {
            self.heed_conditions();
        }
    }

    /// Waits for something to come back from work, and takes in all that has.
    /// False if nothing is at work. Safe to drop and call again.
    pub async fn finish_some(&mut self) -> bool {
        let unfinished = std::mem::take(&mut self.is_unfinished);
        let mut next = if unfinished {
            // Whoever else is ready comes first, and then the next keys.
            tokio::task::yield_now().await;
            self.running.try_join_next()
        } else {
            self.running.join_next().await
        };
        let any = unfinished || next.is_some();
        while let Some(back) = next {
            self.take_in(back);
            next = self.running.try_join_next();
        }
        any
    }

    fn take_in(&mut self, back: Result<Back, JoinError>) {
        match back {
            Ok(Back::Key(worker)) => {
                self.keys_at_work -= 1;
                self.put_back(*worker);
            }
            Ok(Back::Probed) => self.errands.probed(),
            Ok(Back::Looked(suspect)) => self.looked(suspect),
            Ok(Back::Swept(findings)) => self.swept(findings),
            Ok(Back::Noted) => {}
            Ok(Back::Told(recorded)) => self.watch.post.recorded(recorded),
            Err(error) => {
                // A panic in a step: its key stays away until a restart, which
                // finds its rotation open and strands it.
                self.keys_at_work = self.keys_at_work.saturating_sub(1);
                tracing::error!("a step panicked ({error}); restart rekeyd, and report this");
            }
        }
        self.heed_conditions();
    }

    /// Plans a probe while something is wrong, and wakes all when it is over.
    fn heed_conditions(&mut self) {
        let now = self.parts.clock.now();
        let held = self.parts.conditions.held();
        let held: BTreeSet<_> = held.into_iter().map(|(condition, _)| condition).collect();
        let passed = self.errands.plan_probe(&held, now);
        if passed {
            self.wake_all();
        }
        self.note_conditions();
    }

    fn put_back(&mut self, worker: Worker) {
        let now = self.parts.clock.now();
        let key = worker.state.key.clone();
        if worker.unclear {
            self.errands.sweep_after_unclear(now);
        }
        if worker.wants_sweep {
            self.errands.sweep_now(now);
            self.waiting_for_sweep.push(key.clone());
        }
        let Some(slot) = self.keys.get_mut(&key) else {
            return;
        };
        let (standing, rotates_at) = (slot.standing, slot.rotates_at);
        slot.take_back(worker, now);
        self.standings.count(standing, slot.standing);
        let is_configured = slot.managed.is_some();
        let troubled = slot
            .state()
            .and_then(|state| trouble_of(state, is_configured));
        keep(&mut self.troubled, &key, troubled.is_some());
        let is_rotating = slot.is_rotating();
        keep(&mut self.rotating, &key, is_rotating);
        if let Some(before) = rotates_at {
            self.rotations.remove(before, &key);
        }
        if let Some(at) = slot.rotates_at {
            self.rotations.insert(at, key.clone());
        }
        if let Some(at) = slot.wake_at {
            self.agenda.insert(at, key.clone(), is_rotating);
        }
        self.judge_organization();
        self.watch_key(&key, now);
    }

    fn swept(&mut self, swept: Option<Swept>) {
        let now = self.parts.clock.now();
        let findings = swept.map(|swept| {
            self.watch_listed(&swept.lookalikes, now);
            swept.findings
        });
        let every = self.parts.sweep_every;
        if self.errands.swept(findings.is_some(), every, now) {
            self.wake_all();
        }
        if findings.is_some() {
            for key in std::mem::take(&mut self.waiting_for_sweep) {
                self.wake(&key, now);
            }
        }
        for (key, found) in findings.into_iter().flatten() {
            if let Some(slot) = self.keys.get_mut(&key) {
                slot.findings.extend(found);
            }
            self.wake(&key, now);
        }
    }

    /// When [`Engine::start_due`] is to be called again; none if nothing is to
    /// be done ever, as it stands.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let errand = self.errands.next_at();
        if self.parts.conditions.holds(Condition::Ledger) {
            return errand;
        }
        let key = self.agenda.next_at();
        let look = self.watch.next_at();
        key.into_iter().chain(errand).chain(look).min()
    }
}

/// Has `key` in the set, or not.
fn keep(set: &mut BTreeSet<KeyName>, key: &KeyName, wanted: bool) {
    if !wanted {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}

#[cfg(test)]
mod tests;
