//! Works on one key: decides the next work without waiting, performs it (one external
//! effect, then one commit), and continues until no work is due or no place is free for
//! the next.

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

/// The next work of a key.
pub(crate) enum Work {
    /// Read the key's state, because the outcome of the last commit is unknown.
    ReadState,
    /// Record the changes that could not be recorded before.
    FlushUnrecorded,
    /// Record how the configured sinks changed.
    SyncSinks(Vec<Change>),
    /// Execute an operator's command.
    Execute(PendingCommand),
    /// Check whether the sinks still hold what they accepted.
    CheckDrift,
    /// Handle a difference between the ledger and the provider's list.
    HandleDiscrepancy(Discrepancy),
    /// Apply a rotation request to the open rotation.
    Expedite(RotationId),
    /// Take the next step of a rotation.
    Step(Step),
    /// Check a sink at an endpoint before a rotation starts. The time is that of the
    /// key's next other work.
    Preflight(SinkId, Option<Timestamp>),
    /// Start a rotation. The time is that of the key's next other work.
    StartRotation(RotationStart, Option<Timestamp>),
}

impl Work {
    /// Returns whether the work sends requests to the provider.
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

/// The delay after which a key with contradictory rows is evaluated again.
const CORRUPT_PAUSE: Duration = Duration::from_secs(300);

impl Worker {
    /// Performs `first`, whose place was reserved, and then the next work, until none is
    /// due or no place is free for it.
    pub(crate) async fn run(mut self, first: Work) -> Self {
        let mut next = Some(first);
        if self.is_interrupted() {
            // A reload changed the key after this work was decided.
            next.take()
                .into_iter()
                .for_each(|work| self.return_work(work));
        }
        while let Some(work) = next {
            if !self.reserve(&work) {
                self.return_work(work);
                break;
            }
            next = match self.perform(work).await {
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

    /// Takes the place that this work needs: at the provider for its requests, at its
    /// destination for a delivery. Returns false if none is free.
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
        // No delivery starts while the process ends.
        if *self.context.deliveries_dropped.borrow() {
            return false;
        }
        destination.is_none_or(|destination| self.take_delivery_place(destination))
    }

    /// Returns work that was not performed. Steps of the rotation are decided again at
    /// the next evaluation; commands and findings go back to their queues.
    pub(crate) fn return_work(&mut self, work: Work) {
        match work {
            Work::Execute(command) => self.commands.push_front(command),
            Work::HandleDiscrepancy(discrepancy) => self.discrepancies.push_front(discrepancy),
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
        let flags = [&self.context.stopping, &self.interrupted];
        flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Raises the ledger's condition after a failed commit. If only this key's changes
    /// contradict its rows, reads the rows instead: the ledger counts.
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

    /// Returns the work that is due now. If none is, as for nearly every evaluated key,
    /// sets the time of the next evaluation.
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
        let permits = self.services.conditions.permits(&self.context.scope);
        if let Some(command) = self.commands.pop_front() {
            return Some(Work::Execute(command));
        }
        if std::mem::take(&mut self.needs_drift_check) {
            return Some(Work::CheckDrift);
        }
        if permits.can_use_provider
            && let Some(discrepancy) = self.discrepancies.pop_front()
        {
            return Some(Work::HandleDiscrepancy(discrepancy));
        }
        if let Some(open) = self.rotation_to_expedite() {
            return Some(Work::Expedite(open));
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        match next_step(&self.state, self.in_flight.as_ref(), policy, permits, now) {
            // The removal of this sink is not recorded yet, because the provider's time
            // is unknown: a reconciliation observes it.
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

    /// Returns the start of a rotation if one is due; otherwise sets the time of the next
    /// evaluation.
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
            // The engine determines the downtime first, and then evaluates this key.
            self.wake_at = Some(now);
            return None;
        }
        if self.context.is_scheduling
            && let Some(change) = self.timetable_change(&managed, now)
        {
            return Some(Work::Step(Step::Record(vec![change])));
        }
        self.context.reconciled_at?;
        if let Some(request) = self.request.clone() {
            let start = RotationStart::from_request(request);
            return Some(self.preflight_or_start(&managed, start, until));
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
            Due::MissedRunSkipped { firing, reason } => {
                let skipped = Change::from(MissedRun {
                    firing,
                    reason,
                    is_skipped: true,
                });
                Some(Work::Step(Step::Record(vec![skipped])))
            }
            Due::Now {
                scheduled_for,
                trigger,
                missed_reason,
                ..
            } => {
                let start = RotationStart {
                    trigger,
                    scheduled_for,
                    missed_run: scheduled_for.zip(missed_reason),
                    request: None,
                };
                Some(self.preflight_or_start(&managed, start, until))
            }
        }
    }

    /// Returns the check of the next endpoint, or the start if all have passed.
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

    /// Performs the work. Returns false if no other work is due after it.
    pub(crate) async fn perform(&mut self, work: Work) -> Result<bool, LedgerError> {
        match work {
            Work::ReadState => {
                self.read_state().await?;
            }
            Work::FlushUnrecorded => self.record(Vec::new()).await?,
            Work::SyncSinks(changes) => {
                self.record(changes).await?;
                self.needs_sink_sync = false;
            }
            Work::Execute(command) => self.execute(command).await?,
            Work::CheckDrift => self.check_drift().await?,
            Work::HandleDiscrepancy(discrepancy) => self.handle_discrepancy(discrepancy).await?,
            Work::Expedite(open) => return self.expedite(&open).await,
            Work::Step(step) => return self.run_step(step).await,
            Work::Preflight(sink, until) => {
                let has_passed = self.check_endpoint(&sink).await?;
                if !has_passed {
                    self.wait_for_retry(until);
                }
                return Ok(has_passed);
            }
            Work::StartRotation(start, until) => return self.start_rotation(start, until).await,
        }
        Ok(true)
    }

    /// Takes a step of a rotation. Returns false if it is a wait.
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
        start: RotationStart,
        until: Option<Timestamp>,
    ) -> Result<bool, LedgerError> {
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        let is_requested = start.request.is_some();
        let live = self.state.live.clone();
        self.record_intent(&managed, start).await?;
        self.wait_for_retry(until);
        // An eviction makes room for another attempt.
        let has_evicted = !is_requested && self.state.live != live;
        Ok(self.state.open_rotation().is_some() || has_evicted)
    }

    /// Sets when a rotation that could not start is tried again. One that waits for a
    /// reconciliation or the end of a condition is woken by that instead.
    fn wait_for_retry(&mut self, until: Option<Timestamp>) {
        let now = self.now();
        let retry_at = self.state.retry_at.filter(|at| *at > now);
        if self.state.open_rotation().is_none() && !self.needs_reconciliation {
            self.wake_at = until.into_iter().chain(retry_at).min();
            self.rotates_at = retry_at;
        }
    }

    /// Returns whether the clock was set, or the host slept, since the engine dispatched
    /// this key: only the engine knows the downtime then.
    fn has_clock_jumped(&self) -> bool {
        let now = ClockReading::read(self.services.clock.as_ref());
        self.context.clock_reading.jump_until(now).is_some()
    }

    /// Returns the change to record before the firings of a new timetable count.
    fn timetable_change(&self, managed: &ManagedKey, now: Timestamp) -> Option<Change> {
        let key = &self.state.key;
        let parse = |text: &str| Timetable::from_text(text, key, self.services.find_zone);
        timetable_change(
            &managed.policy,
            &self.state,
            self.context.downtime,
            parse,
            now,
        )
    }

    fn has_sink(&self, sink: &SinkId) -> bool {
        let managed = self.managed.as_ref();
        managed.is_some_and(|managed| managed.sink(sink).is_some())
    }

    /// Returns the open rotation that a request expedites, if it can finish in this
    /// process. The request is applied before the rotation's next step: after its last
    /// step, the request would start another rotation.
    fn rotation_to_expedite(&self) -> Option<RotationId> {
        let request = self.request.as_ref()?;
        let open = self.state.open_rotation()?;
        let can_finish = open.can_finish_without_secret() || self.in_flight.is_some();
        (can_finish && !request.revoke_previous && self.managed.is_some()).then(|| open.id.clone())
    }

    /// Applies a request to the open rotation: retries it now, or abandons it for a new
    /// one if the request revokes older credentials.
    async fn expedite(&mut self, open: &RotationId) -> Result<bool, LedgerError> {
        let Some(request) = self.request.take() else {
            return Ok(false);
        };
        let Some(rotation) = self.state.rotation(open) else {
            return Ok(false);
        };
        let retry = Change::from(RetryRequest {
            rotation: open.clone(),
            operator: request.operator.clone(),
        });
        if request.revoke_previous && rotation.phase == Phase::Intended {
            // The outcome of its create must be known before it is abandoned.
            self.request = Some(request);
            if rotation.retry_at.is_none_or(|at| at <= self.now()) {
                return Ok(false);
            }
            self.record(vec![retry]).await?;
        } else if request.revoke_previous {
            let changes = outcome::abandon(rotation, "given up for a rotation by hand");
            self.request = Some(request);
            self.record(changes).await?;
        } else {
            self.record(vec![retry]).await?;
        }
        Ok(true)
    }
}
