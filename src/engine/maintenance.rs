//! The schedule of the maintenance tasks: the probe, the reconciliation of each scope and
//! the drift check.

mod reconciliation_schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::scope::Scope;
use crate::core::time;
use crate::engine::conditions::{ConditionKey, Conditions, concerns};
pub(crate) use crate::engine::maintenance::reconciliation_schedule::Comparison;
use crate::engine::maintenance::reconciliation_schedule::ReconciliationSchedule;
use crate::engine::services::{RunMode, Services};
use crate::ledger::LedgerError;

/// The interval at which the daemon checks whether the sinks still hold what they
/// accepted.
const DRIFT_CHECK_INTERVAL: Duration = time::HOUR;

/// A task that concerns more than one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MaintenanceTask {
    /// Checks which of the active conditions have ended.
    Probe,
    /// Compares every row of a scope with the provider's list.
    Reconciliation(Scope),
    /// Checks whether the sinks still hold what they accepted.
    DriftCheck,
}

/// The times at which the tasks are due.
#[derive(Debug)]
pub(crate) struct MaintenanceSchedule {
    /// The conditions that were active at the last call of
    /// [`MaintenanceSchedule::schedule_probe`].
    active_conditions: BTreeSet<ConditionKey>,
    probe_at: Option<Timestamp>,
    is_probing: bool,
    probe_attempts: u32,
    /// The time before which the provider is sent no probe, because it asked for that.
    requests_paused_until: Option<Timestamp>,
    scopes: BTreeMap<Scope, ReconciliationSchedule>,
    drift_check_at: Timestamp,
}

impl MaintenanceSchedule {
    /// Returns the schedule of an engine that starts with keys of these scopes. A
    /// short-lived process does not repeat a recent reconciliation.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) async fn at_start(
        services: &Services,
        run_mode: RunMode,
        scopes: BTreeSet<Scope>,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let mut schedules = BTreeMap::new();
        for scope in scopes {
            let schedule = ReconciliationSchedule::at_start(services, &scope, run_mode, now);
            let schedule = schedule.await?;
            schedules.insert(scope, schedule);
        }
        Ok(Self {
            active_conditions: BTreeSet::new(),
            probe_at: None,
            is_probing: false,
            probe_attempts: 0,
            requests_paused_until: None,
            scopes: schedules,
            drift_check_at: match run_mode {
                RunMode::Daemon | RunMode::Once => now,
                RunMode::Command | RunMode::Proposal => time::after(now, DRIFT_CHECK_INTERVAL),
            },
        })
    }

    /// Starts to reconcile a scope that a new configuration added.
    pub(crate) fn add_scope(&mut self, scope: &Scope, now: Timestamp) {
        self.scopes
            .entry(scope.clone())
            .or_insert_with(|| ReconciliationSchedule::starting_at(now));
    }

    /// Removes and returns the tasks that are due.
    pub(crate) fn due(&mut self, conditions: &Conditions, now: Timestamp) -> Vec<MaintenanceTask> {
        let mut due = Vec::new();
        if self.probe_at.is_some_and(|at| at <= now) && !self.is_probing {
            self.is_probing = true;
            self.probe_at = None;
            due.push(MaintenanceTask::Probe);
        }
        for (scope, schedule) in &mut self.scopes {
            let mut all = Condition::ALL.iter();
            let is_blocked = all.any(|condition| {
                condition.stops_reconciliation() && conditions.is_active_in(scope, *condition)
            });
            if !is_blocked && schedule.take_due(now) {
                due.push(MaintenanceTask::Reconciliation(scope.clone()));
            }
        }
        if self.drift_check_at <= now {
            self.drift_check_at = time::after(now, DRIFT_CHECK_INTERVAL);
            due.push(MaintenanceTask::DriftCheck);
        }
        due
    }

    /// Returns when the next task is due.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        // While such a condition is active, the reconciliation of its scope waits for the
        // probe.
        let unblocked = self.scopes.iter().filter(|(scope, _)| {
            let mut active = self.active_conditions.iter();
            !active.any(|key| key.0.stops_reconciliation() && concerns(key, scope))
        });
        let reconciliations = unblocked.filter_map(|(_, schedule)| schedule.next_at());
        let times = reconciliations.chain(self.probe_at);
        times.chain([self.drift_check_at]).min()
    }

    /// Makes the probe due now, because its condition may have ended.
    pub(crate) fn probe_now(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
    }

    /// Records that the probe has ended.
    pub(crate) fn finish_probe(&mut self) {
        self.is_probing = false;
    }

    /// Sets until when the provider asked not to be sent requests.
    pub(crate) const fn pause_probes(&mut self, until: Option<Timestamp>) {
        self.requests_paused_until = until;
    }

    /// Schedules the next probe for the conditions that are active now. Returns
    /// whether one ended since the last call.
    pub(crate) fn schedule_probe(
        &mut self,
        active: &BTreeSet<ConditionKey>,
        now: Timestamp,
    ) -> bool {
        let has_ended = !self.active_conditions.is_subset(active);
        let has_started = !active.is_subset(&self.active_conditions);
        if active.is_empty() || has_started {
            self.probe_at = None;
            self.probe_attempts = 0;
        }
        if self.probe_at.is_none() && !self.is_probing {
            self.probe_attempts = self.probe_attempts.saturating_add(1);
            let times = active.iter().map(|(condition, _)| {
                let at = time::after(now, condition.probe_delay(self.probe_attempts));
                let paused_until = self.requests_paused_until;
                let paused_until = paused_until.filter(|_| condition.awaits_provider());
                paused_until.map_or(at, |until| until.max(at))
            });
            self.probe_at = times.min();
        }
        if has_ended {
            for schedule in self.scopes.values_mut() {
                schedule.retry_failed(now);
            }
        }
        self.active_conditions.clone_from(active);
        has_ended
    }

    /// Makes every task due now. After the clock was set back, the times planned by it
    /// are too late.
    pub(crate) fn reschedule_all(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
        for schedule in self.scopes.values_mut() {
            schedule.restart(now);
        }
        self.drift_check_at = now;
    }

    /// Moves the regular reconciliations to `at` where they are later.
    pub(crate) fn reconcile_by(&mut self, at: Timestamp) {
        for schedule in self.scopes.values_mut() {
            schedule.reconcile_by(at);
        }
    }

    /// Schedules more reconciliations of a scope, because an unclear create may be
    /// applied late.
    pub(crate) fn schedule_follow_ups(&mut self, scope: &Scope, now: Timestamp) {
        if let Some(schedule) = self.scopes.get_mut(scope) {
            schedule.schedule_follow_ups(now);
        }
    }

    /// Makes a reconciliation of a scope due now, because a key cannot start before it.
    pub(crate) fn reconcile_now(&mut self, scope: &Scope, now: Timestamp) {
        if let Some(schedule) = self.scopes.get_mut(scope) {
            schedule.reconcile_now(now);
        }
    }

    /// Records that a reconciliation of a scope ended, and how it compared the scope if it
    /// succeeded.
    /// Returns whether it was the scope's first success in this process.
    pub(crate) fn finish_reconciliation(
        &mut self,
        scope: &Scope,
        compared: Option<Comparison>,
        interval: Duration,
        now: Timestamp,
    ) -> bool {
        let schedule = self.scopes.get_mut(scope);
        schedule.is_some_and(|schedule| schedule.finish(compared, interval, now))
    }

    /// Returns the last reconciliation of a scope, if it is recent enough to start a
    /// rotation.
    pub(crate) fn reconciled_at(&self, scope: &Scope) -> Option<Timestamp> {
        self.scopes.get(scope)?.reconciled_at
    }

    /// Returns the generation of the admin key with which this process compared a
    /// scope last.
    pub(crate) fn compared_with(&self, scope: &Scope) -> Option<u64> {
        self.scopes.get(scope)?.compared_with
    }

    /// Returns why a scope could not be listed since its last reconciliation.
    pub(crate) fn list_problem(&self, scope: &Scope) -> Option<String> {
        self.scopes.get(scope)?.list_problem.clone()
    }

    /// Records why a scope could not be listed, and does not list it again before `pause`
    /// is over.
    pub(crate) fn record_list_problem(
        &mut self,
        scope: &Scope,
        problem: String,
        pause: Option<Duration>,
        now: Timestamp,
    ) {
        if let Some(schedule) = self.scopes.get_mut(scope) {
            schedule.record_list_problem(problem, pause, now);
        }
    }

    /// Returns the earliest of the scopes' last reconciliations that are recent enough to
    /// start a rotation; none if a scope has none.
    pub(crate) fn all_reconciled_at(&self) -> Option<Timestamp> {
        self.earliest(|schedule| schedule.reconciled_at)
    }

    /// Returns the earliest of the scopes' last reconciliations, by this process or an
    /// earlier one; none if a scope has none.
    pub(crate) fn last_reconciliation(&self) -> Option<Timestamp> {
        self.earliest(|schedule| schedule.last_reconciliation)
    }

    fn earliest(
        &self,
        time: impl Fn(&ReconciliationSchedule) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let times: Option<Vec<_>> = self.scopes.values().map(time).collect();
        times?.into_iter().min()
    }
}

#[cfg(test)]
mod tests;
