//! Decides the next work of a key, without waiting and without effects: the first of its
//! duties that is due.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, DueRun, MissedRun, ScheduleChange};
use crate::core::decide::due::{Due, check_due, timetable_change};
use crate::core::decide::next_step::{Permits, Step, is_optional_delivery, next_step};
use crate::core::decide::revocation::{
    RevocationReason, leak_reason, wants_successor, without_deferrals,
};
use crate::core::decide::secret_source::{added_sinks, sinks_in_delivery};
use crate::core::decide::sightings::{may_withdraw_repair, next_repair};
use crate::core::decide::sink_sync;
use crate::core::gate::RequestClass;
use crate::core::ids::{RotationId, SinkId};
use crate::core::schedule::timetable::Timetable;
use crate::core::state::KeyState;
use crate::core::time;
use crate::engine::effects::retirement::retired_problem;
use crate::engine::managed_key::ManagedKey;
use crate::engine::rotation_request::RotationStart;
use crate::engine::work::Work;
use crate::engine::worker::Worker;
use crate::platform::clock::ClockReading;

/// For how long a check of the targets decides whether a repair is made.
const REPAIR_RECHECK_INTERVAL: Duration = Duration::from_secs(60);

impl Worker {
    /// Returns the work that is due now. If none is, as for nearly every evaluated key,
    /// sets the time of the next evaluation.
    pub(crate) fn next_work(&mut self) -> Option<Work> {
        self.held_back_by = None;
        let work = self.decide_work();
        if work.is_none() {
            if self.held_back_by.is_none() {
                self.wait_for_held_step();
            }
            if self.held_back_by.is_none() {
                self.gate_turn = None;
            }
        }
        work
    }

    fn decide_work(&mut self) -> Option<Work> {
        if self.context.only_proposes {
            self.wake_at = None;
            return self.commands.pop_front().map(Work::Execute);
        }
        if self.unclear_commit.is_some() {
            return Some(Work::ReadState);
        }
        if !self.unrecorded.is_empty() {
            return Some(Work::FlushUnrecorded);
        }
        if self.services.ledger.take_stale(&self.state.key) {
            return Some(Work::ReadState);
        }
        if self.needs_sink_sync
            && let Some(changes) = self.sink_changes()
        {
            if !changes.is_empty() {
                return Some(Work::SyncSinks(changes));
            }
            self.needs_sink_sync = false;
        }
        if !self.deadlines.is_empty() {
            return Some(Work::MoveDeadlines);
        }
        self.queue_observed_ends();
        let permits = self.permits();
        if let Some(command) = self.commands.pop_front() {
            return Some(Work::Execute(command));
        }
        if self.needs_drift_check && !self.ends_leak() {
            self.needs_drift_check = false;
            return Some(Work::CheckDrift);
        }
        if permits.can_use_provider
            && permits.can_read
            && let Some(discrepancy) = self.discrepancies.pop_front()
        {
            return Some(Work::HandleDiscrepancy(discrepancy));
        }
        if let Some(open) = self.rotation_to_expedite() {
            return Some(Work::Expedite(open));
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let state = self.state_to_step();
        let step = next_step(&state, self.in_flight.as_ref(), policy, permits, now);
        match step {
            // The removal of this sink is not recorded yet, because the provider's time
            // is unknown: a reconciliation observes it.
            Step::Deliver { sink, .. } | Step::RunOnChange { sink, .. }
                if !self.has_sink(&sink) =>
            {
                self.needs_reconciliation = !self.has_provider_time();
                None
            }
            // What the targets hold now decides about it.
            Step::Revoke(rotation)
                if self.drift_checked_at.is_none() && self.is_superseded(&rotation, now) =>
            {
                Some(Work::CheckDrift)
            }
            Step::Wait(until) => self.repair_or_start(until, now),
            step @ (Step::Deliver { .. } | Step::RunOnChange { .. })
                if self.is_optional_delivery(&step) =>
            {
                self.optional_delivery_or_more_urgent(step, permits, now)
            }
            step @ (Step::Record(_)
            | Step::TakeSecret(_)
            | Step::Create(_)
            | Step::FindLabel { .. }
            | Step::Verify(_)
            | Step::Deliver { .. }
            | Step::RunOnChange { .. }
            | Step::Revoke(_)
            | Step::RecheckMissing(_)) => Some(Work::Step(step)),
        }
    }

    /// Returns the changes by which the deliveries follow the configured sinks; none before
    /// the provider's time is known.
    pub(crate) fn sink_changes(&self) -> Option<Vec<Change>> {
        if !self.has_provider_time() {
            return None;
        }
        let sinks = self.managed.as_deref().map(ManagedKey::all_sinks);
        let from = self.overlap_start();
        let in_flight = self.in_flight.as_ref();
        Some(sink_sync::sink_changes(
            &self.state,
            sinks.as_deref(),
            in_flight,
            from,
        ))
    }

    /// Returns the work that is due besides an optional delivery, since a sink that no
    /// rotation waits for must delay none: another step, or the start of a rotation.
    /// Otherwise returns the delivery if it has a place now; without one, the key waits for
    /// the place and for its other work alike.
    fn optional_delivery_or_more_urgent(
        &mut self,
        delivery: Step,
        permits: Permits,
        now: Timestamp,
    ) -> Option<Work> {
        let permits = Permits {
            can_deliver_optional: false,
            ..permits
        };
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let state = self.state_to_step();
        let step = next_step(&state, self.in_flight.as_ref(), policy, permits, now);
        let Step::Wait(until) = step else {
            return Some(Work::Step(step));
        };
        if let Some(work) = self.start_if_due(until, now) {
            return Some(work);
        }
        let delivery = Work::Step(delivery);
        self.reserve(&delivery).then_some(delivery)
    }

    /// Returns the check of a target whose time with a retired credential is over, or the
    /// start of a rotation; otherwise sets the time of the next evaluation.
    fn repair_or_start(&mut self, until: Option<Timestamp>, now: Timestamp) -> Option<Work> {
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let permits = self.services.conditions.permits(&self.context.scope);
        if !permits.can_trust_clock {
            // No tolerance is over; the end of the condition wakes the key.
            return self.start_if_due(until, now);
        }
        if self.has_doubtful_repair(now) {
            return Some(Work::CheckDrift);
        }
        let repair = next_repair(&self.state, policy, now);
        let is_unchecked = |at| self.drift_checked_at.is_none_or(|checked| checked < at);
        if repair.is_some_and(|at| at <= now && is_unchecked(at)) && !self.ends_leak() {
            return Some(Work::CheckDrift);
        }
        let repair = repair.filter(|at| *at > now);
        self.start_if_due(until.into_iter().chain(repair).min(), now)
    }

    /// Returns whether the repair of a target must be decided again, because a clock that
    /// was wrong may have recorded it. Once the target was checked by the clock as it is
    /// now, its drift counts.
    fn has_doubtful_repair(&self, now: Timestamp) -> bool {
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let is_fresh = |at: Timestamp| at <= now && time::until(at, now) < REPAIR_RECHECK_INTERVAL;
        let deliveries = self
            .state
            .current()
            .into_iter()
            .flat_map(|row| &row.deliveries);
        !self.drift_checked_at.is_some_and(is_fresh) && { deliveries }
            .into_iter()
            .any(|delivery| may_withdraw_repair(&self.state, delivery, policy, now))
    }

    /// Returns the key's state, without the waits of deferred revocations that are decided
    /// again.
    pub(crate) fn state_to_step(&self) -> Cow<'_, KeyState> {
        if self.rechecks.is_empty() {
            return Cow::Borrowed(&self.state);
        }
        Cow::Owned(without_deferrals(&self.state, &self.rechecks))
    }

    /// Returns whether a step delivers the current credential to an optional sink.
    fn is_optional_delivery(&self, step: &Step) -> bool {
        let (Step::Deliver { rotation, sink } | Step::RunOnChange { rotation, sink }) = step else {
            return false;
        };
        let row = self.state.rotation(rotation);
        row.is_some_and(|row| is_optional_delivery(row, sink))
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
        if self.state.is_retired() {
            self.refuse_request();
            return None;
        }
        if self.context.is_scheduling
            && let Some(change) = self.timetable_change(&managed, now)
        {
            return Some(Work::Step(Step::Record(vec![change])));
        }
        if let Some(change) = self.due_run_to_record(now) {
            return Some(Work::Step(Step::Record(vec![change])));
        }
        let is_leaked = wants_successor(&self.state);
        // A list that fails does not delay the end of what leaked.
        let is_compared = self.context.reconciled_at.is_some()
            || (is_leaked && self.context.list_problem.is_some());
        if !is_compared || self.needs_reconciliation {
            return None;
        }
        if let Some(request) = self.request.clone() {
            let start = RotationStart::from_request(request);
            return Some(self.preflight_or_start(&managed, start, until));
        }
        if !self.context.is_scheduling || !self.can_start_in_spite_of_conditions(is_leaked) {
            return None;
        }
        let mut required = managed.required_sinks();
        let served = sinks_in_delivery(&self.state, self.has_secret_of_current());
        required.retain(|sink| !served.contains(&sink));
        let (policy, downtime) = (&managed.policy, self.context.downtime);
        let state = self.state_without_ignored_backoff();
        let due = check_due(policy, &required, &state, downtime, now);
        if matches!(due, Due::Now { .. })
            && let Some(current) = self.current_to_take(&managed, required, now)
        {
            return Some(Work::Step(Step::TakeSecret(current)));
        }
        if matches!(due, Due::Now { .. })
            && let Some(class) = self.closed_gate_before_start()
        {
            self.hold_rotation_back(class);
            return None;
        }
        match due {
            // What failed is not tried again, because nothing asks for it any more.
            Due::NotDue { .. } if self.state.last_error.is_some() && self.has_no_cause() => {
                let recovered = Change::Schedule(ScheduleChange::Recovered);
                Some(Work::Step(Step::Record(vec![recovered])))
            }
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

    /// Returns the gate at which a due rotation waits before its preconditions are checked: a
    /// new credential can neither be made nor verified. Before it waits for the first time,
    /// they are checked in spite of a closed gate of creates, because they show the key's own
    /// trouble.
    fn closed_gate_before_start(&self) -> Option<RequestClass> {
        if !self.may_pass(RequestClass::Read) {
            return Some(RequestClass::Read);
        }
        let is_waiting = self.gate_turn.is_some();
        let is_closed = is_waiting && !self.may_pass(RequestClass::Create);
        is_closed.then_some(RequestClass::Create)
    }

    /// Drops a request for a rotation of a retired key.
    fn refuse_request(&mut self) {
        if self.request.take().is_some() {
            self.request_problem = Some(retired_problem(&self.state));
        }
    }

    /// Returns the record of a scheduled run that is due and cannot start now: without it, a
    /// restart would take the run for one that was missed.
    pub(crate) fn due_run_to_record(&self, now: Timestamp) -> Option<Change> {
        let managed = self.managed.as_ref()?;
        let is_compared = self.context.reconciled_at.is_some();
        let is_backed_off = self.state.retry_at.is_some_and(|at| at > now);
        let can_start = is_compared
            && self.held_back_by.is_none()
            && self.may_pass(RequestClass::Create)
            && self.can_start_in_spite_of_conditions(false);
        if !self.context.is_scheduling
            || (can_start && !is_backed_off)
            || self.state.open_rotation().is_some()
        {
            return None;
        }
        let state = KeyState {
            retry_at: None,
            ..self.state.clone()
        };
        let (required, downtime) = (managed.required_sinks(), self.context.downtime);
        match check_due(&managed.policy, &required, &state, downtime, now) {
            Due::Now {
                scheduled_for: Some(firing),
                missed_reason: None,
                ..
            } if state.due_run.is_none_or(|due| due < firing || due > now) => {
                Some(Change::from(DueRun { firing }))
            }
            Due::Now { .. } | Due::NotDue { .. } | Due::MissedRunSkipped { .. } => None,
        }
    }

    /// Returns the current rotation if nothing but sinks that were added asks for a new
    /// one, and if they may get its secret from a file.
    fn current_to_take(
        &self,
        managed: &ManagedKey,
        mut required: Vec<SinkId>,
        now: Timestamp,
    ) -> Option<RotationId> {
        let added = added_sinks(&self.state, &required, now);
        let current = &self.state.current()?.id;
        if added.is_empty() || self.sourceless.as_ref() == Some(current) {
            return None;
        }
        required.retain(|sink| !added.contains(sink));
        let downtime = self.context.downtime;
        match check_due(&managed.policy, &required, &self.state, downtime, now) {
            Due::Now { .. } => None,
            Due::NotDue { .. } | Due::MissedRunSkipped { .. } => Some(current.clone()),
        }
    }

    /// Returns whether this process has the secret of the current credential.
    fn has_secret_of_current(&self) -> bool {
        let current = self.state.current().map(|current| &current.id);
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|in_flight| {
            in_flight.secret.is_some() && Some(&in_flight.rotation) == current
        })
    }

    /// Returns the key's state, without a back-off that is ignored once: a start, a reload
    /// or a person may have repaired what failed before a create was sent.
    fn state_without_ignored_backoff(&mut self) -> Cow<'_, KeyState> {
        self.ignores_backoff &= self.state.failed_before_create;
        if !self.ignores_backoff {
            return Cow::Borrowed(&self.state);
        }
        Cow::Owned(KeyState {
            retry_at: None,
            ..self.state.clone()
        })
    }

    /// Returns the check of the next endpoint, or the start if all have passed.
    fn preflight_or_start(
        &mut self,
        managed: &ManagedKey,
        start: RotationStart,
        until: Option<Timestamp>,
    ) -> Work {
        // No sink delays the end of what leaked.
        if wants_successor(&self.state) {
            return Work::StartRotation(start, until);
        }
        match self.next_endpoint_to_check(managed) {
            Some(sink) => Work::Preflight(sink, until),
            None => Work::StartRotation(start, until),
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
            self.context.has_others_due,
            parse,
            now,
        )
    }

    /// Returns whether the schedule revokes a credential, and not a deadline.
    fn is_superseded(&self, rotation: &RotationId, now: Timestamp) -> bool {
        self.state.rotation(rotation).is_some_and(|row| {
            RevocationReason::of_rotation(row, &self.state) == Some(RevocationReason::Superseded)
                && leak_reason(row, &self.state, now).is_none()
        })
    }

    /// Returns whether the end of what leaked is due, or the rotation before it: no check
    /// of a sink delays them.
    fn ends_leak(&self) -> bool {
        let (state, now) = (&self.state, self.now());
        let mut live = state.live.iter();
        wants_successor(state) || live.any(|row| leak_reason(row, state, now).is_some())
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
        let is_given_up = request.revoke_previous || open.deadline.is_some();
        (can_finish && !is_given_up && self.managed.is_some()).then(|| open.id.clone())
    }
}
