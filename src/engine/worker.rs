//! Works on one key: step after step, one outside effect and then one commit,
//! until there is nothing to do before a later time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::core::audience::Audience;
use crate::core::change::{ByHand, Change};
use crate::core::due::Absence;
use crate::core::names::{KeyName, RotationId, SinkId};
use crate::core::policy::{KeyPolicy, Waiting, back_off, overlap_of, pause_of_key};
use crate::core::record::{Delivery, KeyState};
use crate::core::rotation::Phase;
use crate::core::step::Memory;
use crate::core::time;
use crate::engine::chance::Chance;
use crate::engine::clock::{Clock, Moment};
use crate::engine::condition::{Condition, Conditions};
use crate::engine::observe::Observer;
use crate::engine::order::Asked;
use crate::engine::probe::{self, problem};
use crate::engine::sweep::Finding;
use crate::engine::task::Task;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::{Answer, Provider, ProviderError};
use crate::sink::Sink;

/// What all keys share.
#[derive(Clone)]
pub struct Parts {
    /// Who issues credentials.
    pub provider: Arc<dyn Provider>,
    /// Where everything is recorded.
    pub ledger: Ledger,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and labels.
    pub chance: Arc<dyn Chance>,
    /// How many keys are worked on at once.
    pub max_in_flight: usize,
    /// How often every row is compared with the provider.
    pub sweep_every: Duration,
    /// What is wrong with the daemon as a whole.
    pub conditions: Arc<Conditions>,
    /// Who counts what is recorded.
    pub observer: Arc<dyn Observer>,
    /// Who is told of what.
    pub audience: Arc<Audience>,
    /// Looks a time zone up by its name, for timetables that stand in the
    /// ledger.
    pub zone: fn(&str) -> Option<TimeZone>,
}

/// A configured key with its sinks ready to take secrets.
pub struct ManagedKey {
    /// Its name.
    pub name: KeyName,
    /// When and how patiently it rotates.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery, and whether each is required.
    pub sinks: Vec<(Arc<dyn Sink>, bool)>,
}

impl ManagedKey {
    /// The sink with this name and target.
    #[must_use]
    pub fn sink(&self, id: &SinkId) -> Option<&Arc<dyn Sink>> {
        self.sinks
            .iter()
            .map(|(sink, _)| sink)
            .find(|sink| sink.id() == id)
    }

    /// The sinks that a rotation waits for.
    #[must_use]
    pub fn required(&self) -> Vec<SinkId> {
        let required = self.sinks.iter().filter(|(_, required)| *required);
        required.map(|(sink, _)| sink.id().clone()).collect()
    }

    /// Every sink, and whether a rotation waits for it.
    #[must_use]
    pub fn all_sinks(&self) -> Vec<(SinkId, bool)> {
        let sinks = self.sinks.iter();
        sinks
            .map(|(sink, required)| (sink.id().clone(), *required))
            .collect()
    }
}

/// A person's wish that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who it is, and why.
    pub by_hand: Option<ByHand>,
    /// Whether every older credential is to go as soon as the new one is
    /// current; what is open is given up first.
    pub revoke_previous: bool,
}

impl Wish {
    /// Both this and one that came later: nobody's leaked key is spared because
    /// somebody else wished for less.
    pub(super) fn and(self, later: Self) -> Self {
        match (self.revoke_previous, later.revoke_previous) {
            (true, false) => self,
            (_, _) => later,
        }
    }
}

/// What whoever is put to work has to know of the process, as it was then.
pub(crate) struct Turn {
    pub(crate) stopping: Arc<AtomicBool>,
    /// Whether rotations are begun by schedule.
    pub(crate) scheduled: bool,
    /// When nobody was there last to see a firing.
    pub(crate) absence: Absence,
    /// When the clocks were looked at for that.
    pub(crate) seen: Moment,
    /// When the ledger was compared with the provider: before that nothing is
    /// begun, since it may be an older one.
    pub(crate) compared_at: Option<Timestamp>,
}

/// One key at work. It goes in with what is known and comes out with what is
/// known then.
pub(crate) struct Worker {
    pub(crate) parts: Arc<Parts>,
    pub(crate) turn: Turn,
    pub(crate) managed: Option<Arc<ManagedKey>>,
    pub(crate) state: KeyState,
    pub(crate) memory: Option<Memory>,
    /// What was done and could not be recorded yet.
    pub(crate) unrecorded: Vec<Change>,
    pub(crate) wish: Option<Wish>,
    pub(crate) orders: VecDeque<Asked>,
    pub(crate) findings: VecDeque<Finding>,
    /// Whether the ledger is still to be made to agree with the sinks.
    pub(crate) reconcile: bool,
    /// Whether the sinks are to be asked if they still have what they took.
    pub(crate) look_at_sinks: bool,
    /// Whether to come back after the present step: the key is configured
    /// otherwise.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Whether it is to be compared again before this key can be begun.
    pub(crate) wants_sweep: bool,
    /// When there is something to do again.
    pub(crate) wake_at: Option<Timestamp>,
    /// When the key is rotated next.
    pub(crate) rotates_at: Option<Timestamp>,
    /// Whether a create was unclear: the provider is swept again soon.
    pub(crate) unclear: bool,
}

/// How long to wait with a key whose rows make no sense.
const CORRUPT_PAUSE: Duration = Duration::from_secs(300);

impl Worker {
    /// Does `first`, and then what there is to do until that is nothing now.
    pub(crate) async fn work(mut self, first: Task) -> Self {
        let mut next = Some(first);
        while let Some(task) = next {
            next = match self.perform(task).await {
                Ok(true) if !self.is_called_back() => self.task(),
                Ok(_) => None,
                Err(error) => {
                    self.ledger_failed(&error).await;
                    None
                }
            };
        }
        self
    }

    fn is_called_back(&self) -> bool {
        let signs = [&self.turn.stopping, &self.interrupted];
        signs.iter().any(|sign| sign.load(Ordering::Relaxed))
    }

    /// The ledger would not record. That is the whole daemon's matter, unless
    /// it is this key's rows that make no sense.
    async fn ledger_failed(&mut self, error: &LedgerError) {
        if !error.is_about_content() {
            let text = problem(Condition::Ledger, &error.to_string());
            self.parts.conditions.raise(Condition::Ledger, &text);
            return;
        }
        tracing::error!(key = %self.state.key, "{error}");
        self.wake_at = Some(time::after(self.now(), CORRUPT_PAUSE));
        // A commit whose answer was lost may have been done all the same:
        // what stands there counts.
        if let Ok(state) = self.parts.ledger.key_state(&self.state.key).await
            && state != self.state
        {
            self.state = state;
            self.unrecorded.clear();
            self.wake_at = Some(self.now());
        }
    }

    /// Records `changes` after whatever could not be recorded before, and
    /// tells the log. What cannot be recorded now is kept.
    pub(crate) async fn record(&mut self, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.unrecorded.extend(changes);
        let now = self.now();
        let changes = self.unrecorded.clone();
        let recorded = self
            .parts
            .ledger
            .record(&self.state.key, now, changes)
            .await;
        if recorded.is_err() {
            // What has had no effect outside yet is dropped and decided anew;
            // everything else has happened, and is recorded when it can be.
            self.unrecorded.retain(|change| !change.is_decision());
        }
        let state = recorded?;
        let told = std::mem::take(&mut self.unrecorded);
        let before = std::mem::replace(&mut self.state, state);
        crate::engine::tell::tell(&before, &self.state, &told, now);
        self.parts.observer.recorded(&self.state, &told);
        self.forget_what_is_over();
        Ok(())
    }

    /// Drops the secret as soon as nobody is to get it any more.
    fn forget_what_is_over(&mut self) {
        let Some(memory) = &self.memory else { return };
        let needed = self
            .state
            .rotation(&memory.rotation)
            .is_some_and(|rotation| {
                rotation.phase.is_open()
                    || (rotation.phase == Phase::Current
                        && rotation.deliveries.iter().any(Delivery::needs_secret))
            });
        if !needed {
            self.memory = None;
        }
    }

    /// Notes that the provider said something, and what time it has.
    pub(crate) fn hear<T>(&self, outcome: &Result<Answer<T>, ProviderError>) {
        let date = match outcome {
            Ok(answer) => answer.date,
            Err(error) if error.date.is_some() => error.date,
            Err(_) => return,
        };
        let monotonic = self.parts.clock.monotonic();
        self.parts.conditions.hear(date, self.now(), monotonic);
    }

    /// Whether a failure is the whole daemon's matter. Then it is told once
    /// for all keys, and counts for none of them.
    pub(crate) async fn is_everybodys(&self, error: &ProviderError) -> bool {
        probe::is_everybodys(&self.parts, error).await
    }

    /// Records that a rotation failed or could not be begun.
    pub(crate) fn deferred(&self, problem: &str, after: Option<Duration>) -> Change {
        let attempt = self.state.attempt.saturating_add(1);
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let creates = policy.map_or(1, |policy| policy.creates_per_day);
        let pause = pause_of_key(attempt, creates).max(after.unwrap_or_default());
        Change::Deferred {
            attempt,
            retry_at: time::after(self.now(), pause),
            problem: problem.to_owned(),
        }
    }

    /// Records that the present step of a rotation failed.
    pub(crate) fn postponed(
        &self,
        rotation: &RotationId,
        waiting: Waiting,
        error: &str,
        after: Option<Duration>,
    ) -> Change {
        let attempt = self
            .state
            .rotation(rotation)
            .map_or(0, |found| found.attempt)
            + 1;
        let pause = back_off(waiting, attempt).max(after.unwrap_or_default());
        Change::Postponed {
            rotation: rotation.clone(),
            attempt,
            retry_at: time::after(self.now(), pause),
            error: error.to_owned(),
        }
    }

    /// From when an overlap counts that begins now.
    pub(crate) fn held_from(&self) -> Timestamp {
        let (conditions, clock) = (&self.parts.conditions, &self.parts.clock);
        let now = clock.now();
        let from = conditions.held_from(now, clock.monotonic());
        time::next_whole_second(from.unwrap_or(now))
    }

    /// Whether the provider has told its time: before that nothing that counts
    /// from now is recorded, and nothing is revoked either.
    pub(crate) fn knows_the_time(&self) -> bool {
        let (conditions, clock) = (&self.parts.conditions, &self.parts.clock);
        let from = conditions.held_from(clock.now(), clock.monotonic());
        from.is_some()
    }

    pub(crate) fn overlap(&self) -> Duration {
        let managed = self.managed.as_deref();
        overlap_of(managed.map(|managed| managed.policy.as_ref()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
