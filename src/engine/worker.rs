//! Works on one key: step after step, one outside effect and then one commit,
//! until there is nothing to do before a later time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::core::audience::Audience;
use crate::core::change::{ByHand, Change, Why};
use crate::core::due::{Absence, Due, due, retimed};
use crate::core::names::{KeyName, RotationId, SinkId};
use crate::core::policy::{KeyPolicy, Waiting, back_off, pause_of_key};
use crate::core::record::{Delivery, KeyState, Trigger};
use crate::core::rotation::Phase;
use crate::core::step::{Memory, Step, next_step};
use crate::core::timetable::Timetable;
use crate::core::{conclude, time};
use crate::engine::chance::Chance;
use crate::engine::clock::{Clock, Moment};
use crate::engine::condition::{Condition, Conditions};
use crate::engine::observe::Observer;
use crate::engine::order::Asked;
use crate::engine::probe::{self, problem};
use crate::engine::reconcile;
use crate::engine::sweep::Finding;
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

/// Why, and for what, a rotation is begun.
pub(crate) struct Begin<'w> {
    pub(crate) trigger: Trigger,
    pub(crate) scheduled_for: Option<Timestamp>,
    /// The firing that it makes up for, and why nobody was there.
    pub(crate) missed: Option<(Timestamp, Why)>,
    pub(crate) wish: Option<&'w Wish>,
}

impl<'w> Begin<'w> {
    /// By a person's wish.
    const fn by_hand(wish: &'w Wish) -> Self {
        Self {
            trigger: Trigger::Manual,
            scheduled_for: None,
            missed: None,
            wish: Some(wish),
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
    /// Works until there is nothing to do now.
    pub(crate) async fn work(mut self) -> Self {
        while !self.turn.stopping.load(Ordering::Relaxed)
            && !self.interrupted.load(Ordering::Relaxed)
        {
            match self.advance().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.ledger_failed(&error).await;
                    break;
                }
            }
        }
        self
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

    /// One step. False when there is none to do now.
    async fn advance(&mut self) -> Result<bool, LedgerError> {
        if !self.unrecorded.is_empty() {
            return self.record(Vec::new()).await.map(|()| true);
        }
        if self.reconcile && self.knows_the_time() {
            return self.reconcile().await.map(|()| true);
        }
        let allowed = self.parts.conditions.allowed();
        if let Some(asked) = self.orders.pop_front() {
            return self.obey(asked).await.map(|()| true);
        }
        if self.look_at_sinks {
            self.look_at_sinks = false;
            return self.look_at_sinks().await.map(|()| true);
        }
        if allowed.provider
            && let Some(finding) = self.findings.pop_front()
        {
            return self.heed(finding).await.map(|()| true);
        }
        if let Some(open) = self.hurried() {
            return self.hurry(&open).await;
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        match next_step(&self.state, self.memory.as_ref(), policy, allowed, now) {
            // That it is not configured any more is not recorded yet: the
            // sweep, which brings the provider's time, wakes all.
            Step::Deliver { sink, .. } | Step::After { sink, .. } if !self.has_sink(&sink) => {
                return Ok(false);
            }
            Step::Record(changes) => self.record(changes).await?,
            Step::Create(rotation) => self.create(&rotation).await?,
            Step::Find {
                rotation,
                after_restart,
            } => self.find(&rotation, after_restart).await?,
            Step::Verify(rotation) => self.verify(&rotation).await?,
            Step::Deliver { rotation, sink } => self.deliver(&rotation, &sink).await?,
            Step::After { rotation, sink } => self.run_after(&rotation, &sink).await?,
            Step::Revoke(rotation) => self.revoke(&rotation).await?,
            Step::Look(rotation) => self.look(&rotation).await?,
            Step::Wait(until) => return self.begin_if_due(until, now).await,
        }
        Ok(true)
    }

    /// Begins a rotation if one is due; otherwise notes when to look again.
    /// True if there is something to do at once.
    async fn begin_if_due(
        &mut self,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        self.wake_at = until;
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        if let Some(open) = self.state.open() {
            let open = open.id.clone();
            return self.hurry(&open).await;
        }
        if self.clocks_have_parted() {
            // What was missed is seen first, and then this key is looked at.
            self.wake_at = Some(now);
            return Ok(false);
        }
        if self.turn.scheduled
            && let Some(change) = self.retimed(&managed, now)
        {
            return self.record(vec![change]).await.map(|()| true);
        }
        if self.turn.compared_at.is_none() {
            return Ok(false);
        }
        if let Some(wish) = self.wish.clone() {
            self.intend(&managed, Begin::by_hand(&wish)).await?;
            self.wait_for_retry(until);
            return Ok(self.state.open().is_some());
        }
        if !self.turn.scheduled || !self.parts.conditions.may_begin() {
            return Ok(false);
        }
        let required = managed.required();
        match due(
            &managed.policy,
            &required,
            &self.state,
            self.turn.absence,
            now,
        ) {
            Due::No { next } => {
                self.wake_at = until.into_iter().chain(next).min();
                self.rotates_at = next;
                Ok(false)
            }
            Due::Dropped { firing, why } => {
                let missed = Change::Missed {
                    firing,
                    why,
                    dropped: true,
                };
                self.record(vec![missed]).await.map(|()| true)
            }
            Due::Since {
                scheduled_for,
                trigger,
                missed,
                ..
            } => {
                let begin = Begin {
                    trigger,
                    scheduled_for,
                    missed: scheduled_for.zip(missed),
                    wish: None,
                };
                let live = self.state.live.clone();
                self.intend(&managed, begin).await?;
                self.wait_for_retry(until);
                // What was done instead of beginning may have made room.
                Ok(self.state.open().is_some() || self.state.live != live)
            }
        }
    }

    /// Notes when a rotation is tried again that could not be begun. Where that
    /// is no matter of time, the sweep that it waits for wakes it, or the end of
    /// the condition.
    fn wait_for_retry(&mut self, until: Option<Timestamp>) {
        let now = self.now();
        let retry_at = self.state.retry_at.filter(|at| *at > now);
        if self.state.open().is_none() && !self.wants_sweep {
            self.wake_at = until.into_iter().chain(retry_at).min();
            self.rotates_at = retry_at;
        }
    }

    /// Whether the clock was set, or the host slept, since this key was put to
    /// work: then it is not known here what nobody was there for.
    fn clocks_have_parted(&self) -> bool {
        let now = Moment::of(self.parts.clock.as_ref());
        self.turn.seen.parted(now).is_some()
    }

    /// What is to be recorded of another timetable before its firings count.
    fn retimed(&self, managed: &ManagedKey, now: Timestamp) -> Option<Change> {
        let key = &self.state.key;
        let read = |text: &str| Timetable::from_text(text, key, self.parts.zone);
        retimed(&managed.policy, &self.state, self.turn.absence, read, now)
    }

    /// Makes the ledger agree with the configured sinks.
    async fn reconcile(&mut self) -> Result<(), LedgerError> {
        let managed = self.managed.as_deref();
        let from = self.held_from();
        let changes = reconcile::sinks(&self.state, managed, self.memory.as_ref(), from);
        if !changes.is_empty() {
            self.record(changes).await?;
        }
        self.reconcile = false;
        Ok(())
    }

    fn has_sink(&self, sink: &SinkId) -> bool {
        let managed = self.managed.as_ref();
        managed.is_some_and(|managed| managed.sink(sink).is_some())
    }

    /// The open rotation that a person's wish is about, if it goes on in this
    /// process: were it over first, the wish would be for another one.
    fn hurried(&self) -> Option<RotationId> {
        let wish = self.wish.as_ref()?;
        let open = self.state.open()?;
        let goes_on = open.is_written() || self.memory.is_some();
        (goes_on && !wish.revoke_previous && self.managed.is_some()).then(|| open.id.clone())
    }

    /// A person wants the rotation that is open already: it is tried now, or
    /// given up where the person wants another.
    async fn hurry(&mut self, open: &RotationId) -> Result<bool, LedgerError> {
        let Some(wish) = self.wish.take() else {
            return Ok(false);
        };
        let Some(rotation) = self.state.rotation(open) else {
            return Ok(false);
        };
        let try_now = Change::TryNow {
            rotation: open.clone(),
            by_hand: wish.by_hand.clone(),
        };
        if wish.revoke_previous && rotation.phase == Phase::Intended {
            // Whether it was made is to be known first.
            self.wish = Some(wish);
            if rotation.retry_at.is_none_or(|at| at <= self.now()) {
                return Ok(false);
            }
            self.record(vec![try_now]).await?;
        } else if wish.revoke_previous {
            let changes = conclude::given_up(rotation, "given up for a rotation by hand");
            self.wish = Some(wish);
            self.record(changes).await?;
        } else {
            self.record(vec![try_now]).await?;
        }
        Ok(true)
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
    fn knows_the_time(&self) -> bool {
        let (conditions, clock) = (&self.parts.conditions, &self.parts.clock);
        let from = conditions.held_from(clock.now(), clock.monotonic());
        from.is_some()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
