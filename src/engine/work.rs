//! Works on one key: performs its next work (one external effect, then one commit), and
//! continues until no work is due or no place is free for the next. `next_work.rs` decides
//! which work is next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, ReplacementApproval, RetryRequest};
use crate::core::decide::next_step::Step;
use crate::core::decide::outcome;
use crate::core::gate::RequestClass;
use crate::core::ids::{RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::Delivery;
use crate::core::time;
use crate::engine::activity::Activity;
use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::operator_command::PendingCommand;
use crate::engine::rotation_request::RotationStart;
use crate::engine::worker::{PlannedRetries, Worker};
use crate::ledger::{Discrepancy, LedgerError};
use crate::sink::Destination;

/// The next work of a key.
pub(crate) enum Work {
    /// Read the key's state, because the outcome of the last commit is unknown.
    ReadState,
    /// Record the changes that could not be recorded before.
    FlushUnrecorded,
    /// Record how the configured sinks changed.
    SyncSinks(Vec<Change>),
    /// Record earlier deadlines of leaked credentials, since the clock was set back.
    MoveDeadlines,
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
                Step::TakeSecret(_)
                | Step::Create(_)
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
            | Self::MoveDeadlines
            | Self::CheckDrift
            | Self::Expedite(_)
            | Self::Preflight(..) => false,
        }
    }

    /// Returns what callers that wait see of the work.
    fn activity(&self) -> Activity {
        match self {
            Self::ReadState
            | Self::FlushUnrecorded
            | Self::SyncSinks(_)
            | Self::MoveDeadlines
            | Self::Expedite(_) => Activity::Ledger,
            Self::Execute(_) => Activity::Command,
            Self::CheckDrift => Activity::TargetCheck,
            Self::HandleDiscrepancy(_) | Self::StartRotation(..) => Activity::Provider,
            Self::Preflight(sink, _) => Activity::Preflight(sink.clone()),
            Self::Step(step) => match step {
                Step::Record(_) | Step::Wait(_) => Activity::Ledger,
                Step::TakeSecret(_)
                | Step::Create(_)
                | Step::FindLabel { .. }
                | Step::Verify(_)
                | Step::Revoke(_)
                | Step::RecheckMissing(_) => Activity::Provider,
                Step::Deliver { sink, .. } => Activity::Delivery(sink.clone()),
                Step::RunOnChange { sink, .. } => Activity::OnChange(sink.clone()),
            },
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
            if work.uses_provider()
                && let Err(error) = self.services.ledger.check_files().await
            {
                self.return_work(work);
                self.handle_ledger_error(&error).await;
                break;
            }
            self.activity.set(work.activity());
            let performed = self.perform(work).await;
            self.leave_gates();
            next = match performed {
                Ok(true) if !self.is_interrupted() => self.next_work(),
                Ok(_) => None,
                Err(error) => {
                    self.handle_ledger_error(&error).await;
                    None
                }
            };
        }
        self.record_due_run().await;
        self.passes.clear();
        self.provider_place = None;
        self.delivery_place = None;
        self
    }

    /// Records the scheduled run whose start has failed.
    async fn record_due_run(&mut self) {
        let is_settled = self.unclear_commit.is_none() && self.unrecorded.is_empty();
        let change = self.due_run_to_record(self.now());
        if let Some(change) = change.filter(|_| is_settled)
            && let Err(error) = self.record(vec![change]).await
        {
            self.handle_ledger_error(&error).await;
        }
    }

    /// Takes the place that this work needs: at the provider for its requests, at its
    /// destination for a delivery. Returns false if none is free.
    pub(crate) fn reserve(&mut self, work: &Work) -> bool {
        self.awaits = None;
        if work.uses_provider() {
            return self.take_provider_place() && self.enter_gates(work);
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
            | Work::MoveDeadlines
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
            | Work::MoveDeadlines
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

    /// Raises the ledger's condition after a failed commit, also if another program changed
    /// the key's rows. If only this key's changes are impossible, reads the rows instead: the
    /// ledger counts.
    async fn handle_ledger_error(&mut self, error: &LedgerError) {
        if !error.is_content_error() {
            raise_ledger_condition(&self.services.conditions, error);
            return;
        }
        if let LedgerError::Corrupt(found) = error {
            let (ledger, key) = (&self.services.ledger, &self.state.key);
            if let Err(damaged) = ledger.report_contradiction(key, found).await {
                raise_ledger_condition(&self.services.conditions, &damaged);
                return;
            }
        }
        tracing::error!(key = %self.state.key, "{error}");
        let is_changed = self.read_state().await.unwrap_or(false);
        let pause = if is_changed {
            Duration::ZERO
        } else {
            self.show_contradiction(error).await;
            CORRUPT_PAUSE
        };
        self.wake_at = Some(time::after(self.now(), pause));
    }

    /// Records why a due key with contradictory rows is not started, if its own row can be
    /// written: the log alone shows nobody that it waits.
    async fn show_contradiction(&mut self, error: &LedgerError) {
        if !self.is_due_by_itself() {
            return;
        }
        let problem = format!("its rows in the ledger contradict each other: {error}");
        let change = self.back_off_before_create(&problem, Some(CORRUPT_PAUSE));
        let ledger = &self.services.ledger;
        match ledger.record(&self.state, self.now(), &[change]).await {
            Ok(state) => self.state = state,
            // A trigger of another program, perhaps: the ledger itself cannot show it.
            Err(error) => raise_ledger_condition(&self.services.conditions, &error),
        }
    }

    /// Performs the work. Returns false if no other work is due after it.
    pub(crate) async fn perform(&mut self, work: Work) -> Result<bool, LedgerError> {
        match work {
            Work::ReadState => {
                self.read_state().await?;
            }
            Work::FlushUnrecorded => self.record(Vec::new()).await?,
            Work::SyncSinks(mut changes) => {
                self.recognize_files(&mut changes).await;
                self.record(changes).await?;
                self.needs_sink_sync = false;
            }
            Work::MoveDeadlines => self.move_deadlines().await?,
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
            Step::TakeSecret(rotation) => self.take_secret(&rotation).await?,
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
        let is_started = self.state.open_rotation().is_some();
        if !is_started && !is_requested && !self.may_pass(RequestClass::Read) {
            self.hold_rotation_back(RequestClass::Read);
        }
        // A start that must wait does not keep an optional sink waiting.
        Ok(is_started || has_evicted || self.has_optional_delivery())
    }

    /// Returns whether the current credential is still to be delivered to an optional sink,
    /// and no request has to be answered first.
    fn has_optional_delivery(&self) -> bool {
        let current = self.state.current();
        let mut deliveries = current.into_iter().flat_map(|current| &current.deliveries);
        self.request.is_none() && deliveries.any(Delivery::is_outstanding)
    }

    /// Sets when a rotation that could not start is tried again. One that waits for a
    /// reconciliation or the end of a condition is woken by that instead.
    fn wait_for_retry(&mut self, until: Option<Timestamp>) {
        let now = self.now();
        if std::mem::take(&mut self.needs_evaluation) {
            self.wake_at = Some(now);
            return;
        }
        let retry_at = self.state.retry_at.filter(|at| *at > now);
        if self.state.open_rotation().is_none() && !self.needs_reconciliation {
            self.wake_at = until.into_iter().chain(retry_at).min();
            self.rotates_at = retry_at;
        }
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
        let mut retry = vec![Change::from(RetryRequest {
            rotation: open.clone(),
            operator: request.operator.clone(),
        })];
        let targets = request.replacement.targets(self.managed.as_deref());
        if !targets.is_empty() {
            retry.push(Change::from(ReplacementApproval {
                targets,
                operator: request.operator.clone(),
            }));
        }
        let is_given_up = request.revoke_previous || rotation.deadline.is_some();
        if is_given_up && rotation.phase == Phase::Intended {
            // The outcome of its create must be known before it is abandoned.
            self.request = Some(request);
            let is_due = rotation.retry_at.is_none_or(|at| at <= self.now());
            // The request stays, and must not repeat a search that fails again and again.
            if is_due || self.planned_retries.step.is_some() {
                return Ok(false);
            }
            self.planned_retries = PlannedRetries::of(rotation, self.now());
            self.record(retry).await?;
        } else if is_given_up {
            let changes = outcome::abandon(rotation, "abandoned for a requested rotation");
            self.request = Some(request);
            self.record(changes).await?;
        } else {
            self.planned_retries = PlannedRetries::of(rotation, self.now());
            self.record(retry).await?;
        }
        Ok(true)
    }
}
