//! Works on one key: decides what is next without waiting for anything, does
//! it (one external effect, then one commit), and goes on until nothing is to be
//! done before a later time, or until there is no place for what is next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, MissedRun, RetryRequest};
use crate::core::condition::Condition;
use crate::core::decide::due::{Due, check_due, timetable_change};
use crate::core::decide::next_step::{Step, next_step};
use crate::core::decide::{outcome, sink_sync};
use crate::core::ids::{RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::schedule::timetable::Timetable;
use crate::core::time;
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::PendingCommand;
use crate::engine::probe::describe_problem;
use crate::engine::rotation_request::RotationStart;
use crate::engine::worker::Worker;
use crate::ledger::{Discrepancy, LedgerError};
use crate::platform::clock::ClockReading;
use crate::sink::Destination;

/// What is done next.
pub(crate) enum Work {
    /// To read the key's state, since it is unknown whether the last commit was
    /// done.
    ReadState,
    /// To record what could not be recorded before.
    FlushUnrecorded,
    /// To make the ledger agree with the configured sinks.
    SyncSinks(Vec<Change>),
    /// What a person asked for.
    Execute(PendingCommand),
    /// To ask the sinks whether they still have what they took.
    CheckDrift,
    /// What the provider's list told.
    HandleDiscrepancy(Discrepancy),
    /// What a person's wish says of the open rotation.
    Expedite(RotationId),
    /// The next step of a rotation.
    Step(Step),
    /// To check a sink at an endpoint before a rotation starts. The time is that
    /// of the key's next other work.
    Preflight(SinkId, Option<Timestamp>),
    /// To start a rotation. The time is that of the key's next other work.
    StartRotation(RotationStart, Option<Timestamp>),
}

impl Work {
    /// Whether it sends requests to the provider.
    pub(crate) fn uses_provider(&self) -> bool {
        match self {
            Self::Execute(pending) => pending.command.uses_provider(),
            Self::HandleDiscrepancy(_) | Self::StartRotation(..) => true,
            Self::Step(step) => match step {
                Step::Create(_)
                | Step::FindLabel { .. }
                | Step::Verify(_)
                | Step::Revoke(_)
                | Step::RecheckMissing(_) => true,
                Step::Record(_)
                | Step::Deliver { .. }
                | Step::RunOnChange { .. }
                | Step::Wait(_) => false,
            },
            Self::FlushUnrecorded
            | Self::ReadState
            | Self::SyncSinks(_)
            | Self::CheckDrift
            | Self::Expedite(_)
            | Self::Preflight(..) => false,
        }
    }
}

/// How long to wait with a key whose rows make no sense.
const CORRUPT_PAUSE: Duration = Duration::from_secs(300);

impl Worker {
    /// Performs `first`, whose place was reserved, and then whatever is next,
    /// until nothing is left to do now or there is no place for it.
    pub(crate) async fn run(mut self, first: Work) -> Self {
        let mut next = Some(first);
        if self.is_interrupted() {
            // The key was configured otherwise after this was decided.
            next.take()
                .into_iter()
                .for_each(|work| self.return_work(work));
        }
        while let Some(task) = next {
            if !self.reserve(&task) {
                self.return_work(task);
                break;
            }
            next = match self.perform(task).await {
                Ok(true) if !self.is_interrupted() => self.next_work(),
                Ok(_) => None,
                Err(error) => {
                    self.handle_ledger_error(&error).await;
                    None
                }
            };
        }
        self.provider_place = None;
        self.delivery_place = None;
        self
    }

    /// Takes the place that this work needs: at the provider for its requests,
    /// at its destination for a delivery. False if there is none now.
    pub(crate) fn reserve(&mut self, work: &Work) -> bool {
        self.awaits = None;
        if work.uses_provider() {
            return self.take_provider_place();
        }
        match work {
            Work::Step(Step::Deliver { sink, .. }) | Work::Preflight(sink, _) => {
                let managed = self.managed.as_ref();
                let sink = managed.and_then(|managed| managed.sink(sink));
                let destination = sink.map(|sink| sink.destination());
                self.reserve_at(destination)
            }
            Work::Step(Step::RunOnChange { .. }) => self.reserve_at(Some(Destination::Program)),
            Work::CheckDrift => self.reserve_at(None),
            Work::FlushUnrecorded
            | Work::ReadState
            | Work::SyncSinks(_)
            | Work::Execute(_)
            | Work::HandleDiscrepancy(_)
            | Work::Expedite(_)
            | Work::Step(_)
            | Work::StartRotation(..) => true,
        }
    }

    fn reserve_at(&mut self, destination: Option<Destination>) -> bool {
        self.provider_place = None;
        // The process ends: no delivery starts any more.
        if *self.context.deliveries_dropped.borrow() {
            return false;
        }
        destination.is_none_or(|destination| self.take_delivery_place(destination))
    }

    /// Leaves undone what was decided: it is decided again when the key is
    /// worked on the next time.
    pub(crate) fn return_work(&mut self, work: Work) {
        match work {
            Work::Execute(command) => self.commands.push_front(command),
            Work::HandleDiscrepancy(found) => self.discrepancies.push_front(found),
            Work::CheckDrift => self.needs_drift_check = true,
            Work::FlushUnrecorded
            | Work::ReadState
            | Work::SyncSinks(_)
            | Work::Expedite(_)
            | Work::Step(_)
            | Work::Preflight(..)
            | Work::StartRotation(..) => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        let signs = [&self.context.stopping, &self.interrupted];
        signs.iter().any(|sign| sign.load(Ordering::Relaxed))
    }

    /// The ledger did not record. That is the whole daemon's problem, unless
    /// this key's changes and rows contradict each other: then what the ledger
    /// holds counts.
    async fn handle_ledger_error(&mut self, error: &LedgerError) {
        if !error.is_content_error() {
            let text = describe_problem(Condition::Ledger, &error.to_string());
            self.services.conditions.raise(Condition::Ledger, &text);
            return;
        }
        tracing::error!(key = %self.state.key, "{error}");
        let is_changed = self.read_state().await.unwrap_or(false);
        let pause = if is_changed {
            Duration::ZERO
        } else {
            CORRUPT_PAUSE
        };
        self.wake_at = Some(time::after(self.now(), pause));
    }

    /// What is to be done now; none if there is nothing, as with nearly every
    /// key that is looked at. Notes then when to look again.
    pub(crate) fn next_work(&mut self) -> Option<Work> {
        if self.unclear_commit.is_some() {
            return Some(Work::ReadState);
        }
        if !self.unrecorded.is_empty() {
            return Some(Work::FlushUnrecorded);
        }
        if self.needs_sink_sync && self.has_provider_time() {
            let sinks = self.managed.as_deref().map(ManagedKey::all_sinks);
            let from = self.overlap_start();
            let in_flight = self.in_flight.as_ref();
            let changes = sink_sync::sink_changes(&self.state, sinks.as_deref(), in_flight, from);
            if !changes.is_empty() {
                return Some(Work::SyncSinks(changes));
            }
            self.needs_sink_sync = false;
        }
        let allowed = self.services.conditions.permits(&self.context.scope);
        if let Some(asked) = self.commands.pop_front() {
            return Some(Work::Execute(asked));
        }
        if std::mem::take(&mut self.needs_drift_check) {
            return Some(Work::CheckDrift);
        }
        if allowed.can_use_provider
            && let Some(finding) = self.discrepancies.pop_front()
        {
            return Some(Work::HandleDiscrepancy(finding));
        }
        if let Some(open) = self.rotation_to_expedite() {
            return Some(Work::Expedite(open));
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        match next_step(&self.state, self.in_flight.as_ref(), policy, allowed, now) {
            // That it is not configured any more is not recorded yet, since the
            // provider has not told its time: a sweep brings it.
            Step::Deliver { sink, .. } | Step::RunOnChange { sink, .. }
                if !self.has_sink(&sink) =>
            {
                self.needs_reconciliation = !self.has_provider_time();
                None
            }
            Step::Wait(until) => self.start_if_due(until, now),
            step @ (Step::Record(_)
            | Step::Create(_)
            | Step::FindLabel { .. }
            | Step::Verify(_)
            | Step::Deliver { .. }
            | Step::RunOnChange { .. }
            | Step::Revoke(_)
            | Step::RecheckMissing(_)) => Some(Work::Step(step)),
        }
    }

    /// To begin a rotation if one is due; otherwise notes when to look again.
    fn start_if_due(&mut self, until: Option<Timestamp>, now: Timestamp) -> Option<Work> {
        self.wake_at = until;
        let managed = self.managed.clone()?;
        if let Some(open) = self.state.open_rotation() {
            return self
                .request
                .is_some()
                .then(|| Work::Expedite(open.id.clone()));
        }
        if self.has_clock_jumped() {
            // What was missed is seen first, and then this key is looked at.
            self.wake_at = Some(now);
            return None;
        }
        if self.context.is_scheduling
            && let Some(change) = self.timetable_change(&managed, now)
        {
            return Some(Work::Step(Step::Record(vec![change])));
        }
        self.context.reconciled_at?;
        if let Some(wish) = self.request.clone() {
            return Some(self.preflight_or_start(
                &managed,
                RotationStart::from_request(wish),
                until,
            ));
        }
        if !self.context.is_scheduling
            || !self
                .services
                .conditions
                .can_start_rotation(&self.context.scope)
        {
            return None;
        }
        let required = managed.required_sinks();
        match check_due(
            &managed.policy,
            &required,
            &self.state,
            self.context.downtime,
            now,
        ) {
            Due::NotDue { next } => {
                self.wake_at = until.into_iter().chain(next).min();
                self.rotates_at = next;
                None
            }
            Due::MissedRunSkipped {
                firing,
                reason: why,
            } => {
                let missed = Change::from(MissedRun {
                    firing,
                    reason: why,
                    is_skipped: true,
                });
                Some(Work::Step(Step::Record(vec![missed])))
            }
            Due::Now {
                scheduled_for,
                trigger,
                missed_reason: missed,
                ..
            } => {
                let begin = RotationStart {
                    trigger,
                    scheduled_for,
                    missed_run: scheduled_for.zip(missed),
                    request: None,
                };
                Some(self.preflight_or_start(&managed, begin, until))
            }
        }
    }

    /// To check the key's endpoints first, if that was not done just now.
    fn preflight_or_start(
        &mut self,
        managed: &ManagedKey,
        start: RotationStart,
        until: Option<Timestamp>,
    ) -> Work {
        match self.next_endpoint_to_check(managed) {
            Some(sink) => Work::Preflight(sink, until),
            None => Work::StartRotation(start, until),
        }
    }

    /// Does it. False if nothing is to be done now after it.
    pub(crate) async fn perform(&mut self, task: Work) -> Result<bool, LedgerError> {
        match task {
            Work::ReadState => {
                self.read_state().await?;
            }
            Work::FlushUnrecorded => self.record(Vec::new()).await?,
            Work::SyncSinks(changes) => {
                self.record(changes).await?;
                self.needs_sink_sync = false;
            }
            Work::Execute(asked) => self.execute(asked).await?,
            Work::CheckDrift => self.check_drift().await?,
            Work::HandleDiscrepancy(finding) => self.handle_discrepancy(finding).await?,
            Work::Expedite(open) => return self.expedite(&open).await,
            Work::Step(step) => return self.run_step(step).await,
            Work::Preflight(sink, until) => {
                let has_passed = self.check_endpoint(&sink).await?;
                if !has_passed {
                    self.wait_for_retry(until);
                }
                return Ok(has_passed);
            }
            Work::StartRotation(begin, until) => return self.start_rotation(begin, until).await,
        }
        Ok(true)
    }

    /// Takes a step of a rotation. False if there is none.
    async fn run_step(&mut self, step: Step) -> Result<bool, LedgerError> {
        match step {
            Step::Record(changes) => self.record(changes).await?,
            Step::Create(rotation) => self.create(&rotation).await?,
            Step::FindLabel {
                rotation,
                after_restart,
            } => self.find(&rotation, after_restart).await?,
            Step::Verify(rotation) => self.verify(&rotation).await?,
            Step::Deliver { rotation, sink } => self.deliver(&rotation, &sink).await?,
            Step::RunOnChange { rotation, sink } => self.run_on_change(&rotation, &sink).await?,
            Step::Revoke(rotation) => self.revoke(&rotation).await?,
            Step::RecheckMissing(rotation) => self.check_presence(&rotation).await?,
            Step::Wait(_) => return Ok(false),
        }
        Ok(true)
    }

    async fn start_rotation(
        &mut self,
        begin: RotationStart,
        until: Option<Timestamp>,
    ) -> Result<bool, LedgerError> {
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        let operator = begin.request.is_some();
        let live = self.state.live.clone();
        self.record_intent(&managed, begin).await?;
        self.wait_for_retry(until);
        // What was done instead of beginning may have made room.
        let made_room = !operator && self.state.live != live;
        Ok(self.state.open_rotation().is_some() || made_room)
    }

    /// Notes when a rotation is tried again that could not be begun. Where that
    /// is no matter of time, the sweep that it waits for wakes it, or the end of
    /// the condition.
    fn wait_for_retry(&mut self, until: Option<Timestamp>) {
        let now = self.now();
        let retry_at = self.state.retry_at.filter(|at| *at > now);
        if self.state.open_rotation().is_none() && !self.needs_reconciliation {
            self.wake_at = until.into_iter().chain(retry_at).min();
            self.rotates_at = retry_at;
        }
    }

    /// Whether the clock was set, or the host slept, since this key was put to
    /// work: then it is not known here what nobody was there for.
    fn has_clock_jumped(&self) -> bool {
        let now = ClockReading::read(self.services.clock.as_ref());
        self.context.clock_reading.jump_until(now).is_some()
    }

    /// What is to be recorded of another timetable before its firings count.
    fn timetable_change(&self, managed: &ManagedKey, now: Timestamp) -> Option<Change> {
        let key = &self.state.key;
        let read = |text: &str| Timetable::from_text(text, key, self.services.find_zone);
        timetable_change(
            &managed.policy,
            &self.state,
            self.context.downtime,
            read,
            now,
        )
    }

    fn has_sink(&self, sink: &SinkId) -> bool {
        let managed = self.managed.as_ref();
        managed.is_some_and(|managed| managed.sink(sink).is_some())
    }

    /// The open rotation that a person's wish is about, if it goes on in this
    /// process: were it over first, the wish would be for another one.
    fn rotation_to_expedite(&self) -> Option<RotationId> {
        let wish = self.request.as_ref()?;
        let open = self.state.open_rotation()?;
        let goes_on = open.can_finish_without_secret() || self.in_flight.is_some();
        (goes_on && !wish.revoke_previous && self.managed.is_some()).then(|| open.id.clone())
    }

    /// A person wants the rotation that is open already: it is tried now, or
    /// given up where the person wants another.
    async fn expedite(&mut self, open: &RotationId) -> Result<bool, LedgerError> {
        let Some(wish) = self.request.take() else {
            return Ok(false);
        };
        let Some(rotation) = self.state.rotation(open) else {
            return Ok(false);
        };
        let try_now = Change::from(RetryRequest {
            rotation: open.clone(),
            operator: wish.operator.clone(),
        });
        if wish.revoke_previous && rotation.phase == Phase::Intended {
            // Whether it was made is to be known first.
            self.request = Some(wish);
            if rotation.retry_at.is_none_or(|at| at <= self.now()) {
                return Ok(false);
            }
            self.record(vec![try_now]).await?;
        } else if wish.revoke_previous {
            let changes = outcome::abandon(rotation, "given up for a rotation by hand");
            self.request = Some(wish);
            self.record(changes).await?;
        } else {
            self.record(vec![try_now]).await?;
        }
        Ok(true)
    }
}
