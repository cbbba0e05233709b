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
pub mod post;
mod probe;
mod reconcile;
mod reload;
mod sweep;
mod tell;
mod watch;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};

use crate::core::change::{Change, Why};
use crate::core::due::Absence;
use crate::core::names::{CredentialId, KeyName};
use crate::core::overdue::is_overdue;
use crate::core::problem::trouble_of;
use crate::core::record::KeyState;
use crate::core::step::Memory;
use crate::core::{duration, time};
use crate::ledger::LedgerError;
use agenda::Agenda;
use condition::Condition;
use errand::{Errand, Errands};
use looks::Looked;
use order::Asked;
use post::Recorded;
use sweep::{Finding, Swept};
use watch::Watch;
use worker::Worker;
pub use worker::{ManagedKey, Parts, Wish};

/// A clock that goes back by less was corrected, not set.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// A clock that goes ahead by more than this was set, or the host slept: what
/// fired meanwhile was missed.
const LONGEST_NAP: Duration = Duration::from_secs(30);

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
    rotations: BTreeSet<(Timestamp, KeyName)>,
    running: JoinSet<Back>,
    keys_at_work: usize,
    /// Whether [`Engine::start_due`] left keys for its next call.
    is_unfinished: bool,
    errands: Errands,
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
    /// The time when this was last called, and by the monotonic clock.
    seen: (Timestamp, Duration),
    scheduled: bool,
    /// What people are told.
    watch: Watch,
}

/// What comes back from work.
enum Back {
    Key(Box<Worker>),
    Probed,
    Looked(Looked),
    Swept(Option<Swept>),
    Noted,
    Told(Recorded),
}

/// How a key stands, for those who watch.
#[derive(Debug, Clone, Copy)]
pub struct KeyView<'e> {
    /// Its name.
    pub key: &'e KeyName,
    /// What the ledger says; none while somebody works on it.
    pub state: Option<&'e KeyState>,
    /// When it is rotated next by schedule, as far as that has been seen.
    pub rotates_at: Option<Timestamp>,
    /// Whether it has been due for too long; none if nobody can tell now.
    pub overdue: Option<bool>,
}

struct Slot {
    managed: Option<Arc<ManagedKey>>,
    wish: Option<Wish>,
    orders: VecDeque<Asked>,
    findings: VecDeque<Finding>,
    /// Whether the ledger is still to be made to agree with the sinks.
    reconcile: bool,
    look_at_sinks: bool,
    /// Whether it is to be looked at as soon as it comes back from work.
    look_again: bool,
    /// Has whoever works on it come back after the present step.
    interrupted: Arc<AtomicBool>,
    wake_at: Option<Timestamp>,
    standing: Standing,
    /// The sequence of its current rotation when it was put to work last.
    current: u64,
    /// When it is rotated next, as far as that was seen last.
    rotates_at: Option<Timestamp>,
    /// Since when it has been failing.
    failing_since: Option<Timestamp>,
    /// What is known, while nobody works on the key.
    idle: Option<Idle>,
}

struct Idle {
    state: KeyState,
    /// In a box, since most keys have none.
    memory: Option<Box<Memory>>,
    unrecorded: Vec<Change>,
}

/// How a key's current credential stands at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is none.
    None,
    /// As far as is known it is there.
    There,
    /// The provider said that it is not.
    Missing,
}

/// How many keys' current credentials stand how.
#[derive(Debug, Default)]
struct Standings {
    there: usize,
    missing: usize,
}

impl Engine {
    /// Reads how every key stands and makes the ledger agree with the
    /// configured sinks.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn open(
        parts: Parts,
        mut managed: Vec<ManagedKey>,
        course: Course,
    ) -> Result<Self, LedgerError> {
        let now = parts.clock.now();
        let engine_clock = parts.clock.monotonic();
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
            rotations: BTreeSet::new(),
            running: JoinSet::new(),
            keys_at_work: 0,
            is_unfinished: false,
            waiting_for_sweep: Vec::new(),
            standings: Standings::default(),
            troubled: BTreeSet::new(),
            rotating: BTreeSet::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            absence: Absence::before_start(now),
            seen: (now, engine_clock),
            scheduled: course != Course::ByHand,
        };
        let states = engine.parts.ledger.all_key_states().await?;
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
        // What is in order needs no search for the place of each.
        let keys = slots.iter();
        let keys = keys.map(|(key, slot)| (key.clone(), slot.is_rotating()));
        engine.agenda = Agenda::all_at(now, keys);
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
        let standing = Standing::of(&state);
        self.standings.count(Standing::None, standing);
        let slot = Slot {
            managed,
            wish: None,
            orders: VecDeque::new(),
            findings: VecDeque::new(),
            reconcile: true,
            look_at_sinks: false,
            look_again: false,
            interrupted: Arc::new(AtomicBool::new(false)),
            wake_at: Some(now),
            standing,
            current: 0,
            rotates_at: None,
            failing_since: None,
            idle: Some(Idle {
                state,
                memory: None,
                unrecorded: Vec::new(),
            }),
        };
        (key, Box::new(slot))
    }

    /// Asks for a rotation of `key` now. False if it is not configured.
    pub fn wish(&mut self, key: &KeyName, wish: Wish) -> bool {
        let Some(slot) = self.keys.get_mut(key).filter(|slot| slot.managed.is_some()) else {
            return false;
        };
        slot.wish = Some(wish);
        self.wake(key, Timestamp::MIN);
        true
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
        let now = self.parts.clock.now();
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        self.heed_clock(now);
        self.run_errands(now);
        self.watch_due(now);
        // Nothing can be recorded: nothing may be done.
        if self.parts.conditions.holds(Condition::Ledger) {
            return;
        }
        let mut turns = 0;
        while self.keys_at_work < self.parts.max_in_flight
            && let Some(key) = self.agenda.pop_due(now)
        {
            self.put_to_work(&key);
            turns += 1;
            if turns == AT_A_TURN {
                self.is_unfinished = true;
                break;
            }
        }
    }

    /// After the clock was set back, whatever was planned by it would come too
    /// late: everything is looked at anew. After it jumped ahead, nobody was
    /// there in between.
    fn heed_clock(&mut self, now: Timestamp) {
        let monotonic = self.parts.clock.monotonic();
        let (wall, before) = std::mem::replace(&mut self.seen, (now, monotonic));
        let expected = time::after(wall, monotonic.saturating_sub(before));
        if time::until(now, expected) > CLOCK_STEP {
            tracing::warn!("the clock was set back; looking at everything anew");
            self.absence.to = self.absence.to.min(now);
            self.errands.plan_anew(now);
            self.watch.watch_anew(now);
            self.wake_all();
        } else if time::until(expected, now) > LONGEST_NAP {
            let slept = duration::for_people(time::until(expected, now));
            tracing::info!("the host slept, or its clock was set forward, by {slept}");
            self.watch.watch_anew(now);
            self.absence = Absence {
                from: wall,
                to: now,
                why: Why::Asleep,
            };
        }
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
        let Some(idle) = slot.idle.take() else {
            return;
        };
        slot.wake_at = None;
        slot.current = sequence_of(&idle.state);
        let worker = Worker {
            parts: Arc::clone(&self.parts),
            managed: slot.managed.clone(),
            state: idle.state,
            memory: idle.memory.map(|memory| *memory),
            unrecorded: idle.unrecorded,
            wish: slot.wish.take(),
            orders: std::mem::take(&mut slot.orders),
            findings: std::mem::take(&mut slot.findings),
            reconcile: std::mem::take(&mut slot.reconcile),
            look_at_sinks: std::mem::take(&mut slot.look_at_sinks),
            absence: self.absence,
            stopping: Arc::clone(&self.stopping),
            interrupted: Arc::clone(&slot.interrupted),
            scheduled: self.scheduled,
            compared_at: self.errands.compared_at,
            wants_sweep: false,
            wake_at: None,
            rotates_at: None,
            unclear: false,
        };
        let mut work = Box::pin(worker.work());
        // Nearly all that are looked at have nothing to do now, and say so
        // without having to wait for anything.
        let mut unheard = Context::from_waker(Waker::noop());
        let before = self.parts.conditions.changes();
        if let Poll::Ready(worker) = work.as_mut().poll(&mut unheard) {
            self.put_back(worker);
            if self.parts.conditions.changes() != before {
                self.heed_conditions();
            }
            return;
        }
        self.keys_at_work += 1;
        self.running
            .spawn(async move { Back::Key(Box::new(work.await)) });
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
            Ok(Back::Looked(looked)) => self.looked(looked),
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
        slot.failing_since = match worker.state.attempt {
            0 => None,
            _ => slot.failing_since.or(Some(now)),
        };
        let troubled = trouble_of(&worker.state, slot.managed.is_some()).is_some();
        keep(&mut self.troubled, &key, troubled);
        keep(&mut self.rotating, &key, worker.state.open().is_some());
        let standing = Standing::of(&worker.state);
        self.standings.count(slot.standing, standing);
        slot.standing = standing;
        if let Some(before) = std::mem::replace(&mut slot.rotates_at, worker.rotates_at) {
            self.rotations.remove(&(before, key.clone()));
        }
        if let Some(at) = slot.rotates_at {
            self.rotations.insert((at, key.clone()));
        }
        slot.idle = Some(Idle {
            state: worker.state,
            memory: worker.memory.map(Box::new),
            unrecorded: worker.unrecorded,
        });
        // Whatever has come up meanwhile has waked it.
        let news = std::mem::take(&mut slot.look_again);
        slot.interrupted.store(false, Ordering::Relaxed);
        slot.reconcile |= worker.reconcile;
        slot.look_at_sinks |= worker.look_at_sinks;
        slot.wish = slot.wish.take().or(worker.wish);
        for order in worker.orders.into_iter().rev() {
            slot.orders.push_front(order);
        }
        for finding in worker.findings.into_iter().rev() {
            slot.findings.push_front(finding);
        }
        slot.wake_at = if news { Some(now) } else { worker.wake_at };
        if let Some(at) = slot.wake_at {
            self.agenda
                .insert(at, key.clone(), self.rotating.contains(&key));
        }
        self.judge_organization();
        self.watch_key(&key, now);
    }

    /// When more than half of several keys' credentials are gone at once, it is
    /// the organization that is wrong.
    fn judge_organization(&mut self) {
        let Standings { there, missing } = self.standings;
        let wrong = self.standings.are_suspect() && !self.errands.organization_is_right;
        let conditions = &self.parts.conditions;
        if wrong {
            let problem = format!(
                "the current credentials of {missing} of {} keys are gone at the provider; see \
                 whether the admin credential belongs to another organization, or rotate all \
                 keys if they were really revoked (`rekeyd rotate --all`)",
                there + missing
            );
            conditions.raise(Condition::Organization, &problem);
        } else {
            conditions.clear(Condition::Organization);
        }
        if missing == 0 {
            self.errands.organization_is_right = false;
        }
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

    /// How every key stands, for those who watch. Of one that is worked on
    /// there is no state.
    pub fn views(&self) -> impl Iterator<Item = KeyView<'_>> {
        let now = self.parts.clock.now();
        self.keys.iter().map(move |(key, slot)| {
            let state = slot.idle.as_ref().map(|idle| &idle.state);
            let overdue = slot.managed.as_ref().zip(state).map(|(managed, state)| {
                let since = slot.failing_since;
                is_overdue(&managed.policy, &managed.required(), state, since, now)
            });
            KeyView {
                key,
                state,
                rotates_at: slot.rotates_at,
                overdue,
            }
        })
    }

    /// When every row was last compared with the provider, if that was done.
    #[must_use]
    pub fn compared_at(&self) -> Option<Timestamp> {
        self.errands.compared_at
    }

    /// How far the provider's clock was ahead when it was last heard, in
    /// seconds.
    #[must_use]
    pub fn clock_offset(&self) -> Option<f64> {
        self.parts.conditions.offset()
    }

    /// Which key is rotated next by schedule, and when, as far as that has
    /// been seen.
    #[must_use]
    pub fn next_rotation(&self) -> Option<(&KeyName, Timestamp)> {
        self.rotations.first().map(|(at, key)| (key, *at))
    }

    /// The keys that something is wrong with, in the order of their names, as
    /// far as that has been seen.
    #[must_use]
    pub const fn troubled(&self) -> &BTreeSet<KeyName> {
        &self.troubled
    }

    /// The keys whose rotation is under way, as far as that has been seen.
    #[must_use]
    pub const fn rotating(&self) -> &BTreeSet<KeyName> {
        &self.rotating
    }

    /// How much is at work, or waits for its turn.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.running.len() + usize::from(self.is_unfinished)
    }

    /// How a key stands; none while it is worked on.
    #[must_use]
    pub fn state(&self, key: &KeyName) -> Option<&KeyState> {
        self.keys.get(key)?.idle.as_ref().map(|idle| &idle.state)
    }

    /// What is wrong with the daemon as a whole, worst first.
    #[must_use]
    pub fn problems(&self) -> Vec<(Condition, String)> {
        self.parts.conditions.held()
    }

    /// Whether nothing is at work, nothing is to be done now, no rotation is
    /// open and nothing is wrong with the daemon as a whole.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let now = self.parts.clock.now();
        self.running.is_empty()
            && self.next_at().is_none_or(|at| at > now)
            && self.parts.conditions.may_begin()
            && self.errands.compared_at.is_some()
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

    /// The configured keys, in the order of their names.
    #[must_use]
    pub fn configured(&self) -> Vec<KeyName> {
        let keys = self.keys.iter();
        keys.filter(|(_, slot)| slot.managed.is_some())
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The sequence of a key's current rotation, 0 if it has none; while
    /// somebody works on it, that of before.
    #[must_use]
    pub fn current_sequence(&self, key: &KeyName) -> u64 {
        let slot = self.keys.get(key);
        slot.map_or(0, |slot| match &slot.idle {
            Some(idle) => sequence_of(&idle.state),
            None => slot.current,
        })
    }

    /// How long a configured key may take to be delivered.
    #[must_use]
    pub fn deliver_for(&self, key: &KeyName) -> Option<Duration> {
        let managed = self.keys.get(key)?.managed.as_ref()?;
        Some(managed.policy.deliver_for)
    }

    /// What all keys share now.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The time by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
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

fn sequence_of(state: &KeyState) -> u64 {
    state.current().map_or(0, |current| current.sequence)
}

impl Slot {
    /// Whether a rotation is open, as far as that is known while nobody works
    /// on the key.
    fn is_rotating(&self) -> bool {
        let idle = self.idle.as_ref();
        idle.is_some_and(|idle| idle.state.open().is_some())
    }
}

impl Standing {
    fn of(state: &KeyState) -> Self {
        match state.current() {
            None => Self::None,
            Some(current) if current.missing.is_some() => Self::Missing,
            Some(_) => Self::There,
        }
    }
}

impl Standings {
    /// Whether more than half of several keys' credentials are missing.
    fn are_suspect(&self) -> bool {
        self.missing >= 2 && self.missing > self.there
    }

    fn count(&mut self, before: Standing, after: Standing) {
        match before {
            Standing::None => {}
            Standing::There => self.there -= 1,
            Standing::Missing => self.missing -= 1,
        }
        match after {
            Standing::None => {}
            Standing::There => self.there += 1,
            Standing::Missing => self.missing += 1,
        }
    }
}

#[cfg(test)]
mod tests;
