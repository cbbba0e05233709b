//! What whoever works on a key does next: decided without waiting for anything,
//! and then done.

use jiff::Timestamp;

use crate::core::change::{Change, Why};
use crate::core::conclude;
use crate::core::due::{Due, due, retimed};
use crate::core::names::{RotationId, SinkId};
use crate::core::record::Trigger;
use crate::core::rotation::Phase;
use crate::core::step::{Step, next_step};
use crate::core::timetable::Timetable;
use crate::engine::clock::Moment;
use crate::engine::order::Asked;
use crate::engine::reconcile;
use crate::engine::sweep::Finding;
use crate::engine::worker::{ManagedKey, Wish, Worker};
use crate::ledger::LedgerError;

/// What is done next.
pub(crate) enum Task {
    /// To record what could not be recorded before.
    RecordAgain,
    /// To make the ledger agree with the configured sinks.
    Reconcile(Vec<Change>),
    /// What a person asked for.
    Obey(Asked),
    /// To ask the sinks whether they still have what they took.
    LookAtSinks,
    /// What the provider's list told.
    Heed(Finding),
    /// What a person's wish says of the open rotation.
    Hurry(RotationId),
    /// The next step of a rotation.
    Step(Step),
    /// To begin a rotation; where that cannot be, there is something else to do
    /// then.
    Begin(Begin, Option<Timestamp>),
}

/// Why, and for what, a rotation is begun.
pub(crate) struct Begin {
    pub(crate) trigger: Trigger,
    pub(crate) scheduled_for: Option<Timestamp>,
    /// The firing that it makes up for, and why nobody was there.
    pub(crate) missed: Option<(Timestamp, Why)>,
    pub(crate) wish: Option<Wish>,
}

impl Begin {
    /// By a person's wish.
    const fn by_hand(wish: Wish) -> Self {
        Self {
            trigger: Trigger::Manual,
            scheduled_for: None,
            missed: None,
            wish: Some(wish),
        }
    }
}

impl Worker {
    /// What is to be done now; none if there is nothing, as with nearly every
    /// key that is looked at. Notes then when to look again.
    pub(crate) fn task(&mut self) -> Option<Task> {
        if !self.unrecorded.is_empty() {
            return Some(Task::RecordAgain);
        }
        if self.reconcile && self.knows_the_time() {
            let managed = self.managed.as_deref();
            let from = self.held_from();
            let changes = reconcile::sinks(&self.state, managed, self.memory.as_ref(), from);
            if !changes.is_empty() {
                return Some(Task::Reconcile(changes));
            }
            self.reconcile = false;
        }
        let allowed = self.parts.conditions.allowed();
        if let Some(asked) = self.orders.pop_front() {
            return Some(Task::Obey(asked));
        }
        if std::mem::take(&mut self.look_at_sinks) {
            return Some(Task::LookAtSinks);
        }
        if allowed.provider
            && let Some(finding) = self.findings.pop_front()
        {
            return Some(Task::Heed(finding));
        }
        if let Some(open) = self.hurried() {
            return Some(Task::Hurry(open));
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        match next_step(&self.state, self.memory.as_ref(), policy, allowed, now) {
            // That it is not configured any more is not recorded yet, since the
            // provider has not told its time: a sweep brings it.
            Step::Deliver { sink, .. } | Step::After { sink, .. } if !self.has_sink(&sink) => {
                self.wants_sweep = !self.knows_the_time();
                None
            }
            Step::Wait(until) => self.begin_if_due(until, now),
            step @ (Step::Record(_)
            | Step::Create(_)
            | Step::Find { .. }
            | Step::Verify(_)
            | Step::Deliver { .. }
            | Step::After { .. }
            | Step::Revoke(_)
            | Step::Look(_)) => Some(Task::Step(step)),
        }
    }

    /// To begin a rotation if one is due; otherwise notes when to look again.
    fn begin_if_due(&mut self, until: Option<Timestamp>, now: Timestamp) -> Option<Task> {
        self.wake_at = until;
        let managed = self.managed.clone()?;
        if let Some(open) = self.state.open() {
            return self.wish.is_some().then(|| Task::Hurry(open.id.clone()));
        }
        if self.clocks_have_parted() {
            // What was missed is seen first, and then this key is looked at.
            self.wake_at = Some(now);
            return None;
        }
        if self.turn.scheduled
            && let Some(change) = self.retimed(&managed, now)
        {
            return Some(Task::Step(Step::Record(vec![change])));
        }
        self.turn.compared_at?;
        if let Some(wish) = self.wish.clone() {
            return Some(Task::Begin(Begin::by_hand(wish), until));
        }
        if !self.turn.scheduled || !self.parts.conditions.may_begin() {
            return None;
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
                None
            }
            Due::Dropped { firing, why } => {
                let missed = Change::Missed {
                    firing,
                    why,
                    dropped: true,
                };
                Some(Task::Step(Step::Record(vec![missed])))
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
                Some(Task::Begin(begin, until))
            }
        }
    }

    /// Does it. False if nothing is to be done now after it.
    pub(crate) async fn perform(&mut self, task: Task) -> Result<bool, LedgerError> {
        match task {
            Task::RecordAgain => self.record(Vec::new()).await?,
            Task::Reconcile(changes) => {
                self.record(changes).await?;
                self.reconcile = false;
            }
            Task::Obey(asked) => self.obey(asked).await?,
            Task::LookAtSinks => self.look_at_sinks().await?,
            Task::Heed(finding) => self.heed(finding).await?,
            Task::Hurry(open) => return self.hurry(&open).await,
            Task::Step(step) => return self.take(step).await,
            Task::Begin(begin, until) => return self.begin(begin, until).await,
        }
        Ok(true)
    }

    /// Takes a step of a rotation. False if there is none.
    async fn take(&mut self, step: Step) -> Result<bool, LedgerError> {
        match step {
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
            Step::Wait(_) => return Ok(false),
        }
        Ok(true)
    }

    async fn begin(&mut self, begin: Begin, until: Option<Timestamp>) -> Result<bool, LedgerError> {
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        let by_hand = begin.wish.is_some();
        let live = self.state.live.clone();
        self.intend(&managed, begin).await?;
        self.wait_for_retry(until);
        // What was done instead of beginning may have made room.
        let made_room = !by_hand && self.state.live != live;
        Ok(self.state.open().is_some() || made_room)
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
}
