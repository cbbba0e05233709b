//! What is to be done beside the keys, and when: the probe, the sweep, the
//! look at the sinks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::time;
use crate::engine::conditions::Conditions;
use crate::engine::reconciliation::{FOLLOW_UP_DELAYS, RETRY_BACKOFF};
use crate::engine::services::{RunMode, Services};
use crate::ledger::LedgerError;

/// How often the sinks are asked whether they still have what they took.
const DRIFT_CHECK_INTERVAL: Duration = time::HOUR;

/// Something to do beside the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaintenanceTask {
    /// Find out whether what is wrong has passed.
    Probe,
    /// Compare every row with the provider.
    Reconciliation,
    /// Ask the sinks whether they still have what they took.
    DriftCheck,
}

/// When each is due.
#[derive(Debug)]
pub(crate) struct MaintenanceSchedule {
    /// The conditions as they were when this was last asked.
    active_conditions: BTreeSet<Condition>,
    probe_at: Option<Timestamp>,
    is_probing: bool,
    probe_attempts: u32,
    /// When the provider is swept as always: one sweep plans the next.
    regular_at: Option<Timestamp>,
    /// When it is swept besides, for a reason.
    extra_reconciliations: BTreeSet<Timestamp>,
    is_reconciling: bool,
    /// How many sweeps in a row had no answer.
    failed_reconciliations: u32,
    /// When the ledger was last compared with the provider, if that is lately
    /// enough to begin anything.
    pub(crate) reconciled_at: Option<Timestamp>,
    /// When it was compared at all.
    pub(crate) last_reconciliation: Option<Timestamp>,
    drift_check_at: Timestamp,
    /// A person has said that the organization is the right one.
    pub(crate) is_organization_confirmed: bool,
}

impl MaintenanceSchedule {
    /// What is to be done at start. A process that does not last need not
    /// compare again what was compared a short while ago.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) async fn at_start(
        parts: &Services,
        course: RunMode,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let recent = FOLLOW_UP_DELAYS[2];
        let (swept_at, unclear) = parts
            .ledger
            .last_reconciliation(time::before(now, recent))
            .await?;
        let fresh = swept_at.is_some_and(|at| {
            at <= now && time::until(at, now) < parts.reconcile_every && !unclear
        });
        let mut errands = Self {
            active_conditions: BTreeSet::new(),
            probe_at: None,
            is_probing: false,
            probe_attempts: 0,
            regular_at: None,
            extra_reconciliations: BTreeSet::new(),
            is_reconciling: false,
            failed_reconciliations: 0,
            reconciled_at: swept_at.filter(|_| fresh && course != RunMode::Daemon),
            last_reconciliation: swept_at,
            drift_check_at: now,
            is_organization_confirmed: false,
        };
        match course {
            RunMode::Daemon => errands.regular_at = Some(now),
            RunMode::Once | RunMode::Command if !fresh => errands.regular_at = Some(now),
            RunMode::Once | RunMode::Command => {}
        }
        if unclear {
            errands.schedule_follow_ups(now);
        }
        if course == RunMode::Command {
            errands.drift_check_at = time::after(now, DRIFT_CHECK_INTERVAL);
        }
        Ok(errands)
    }

    /// What is due now; each is told of once.
    pub(crate) fn due(&mut self, conditions: &Conditions, now: Timestamp) -> Vec<MaintenanceTask> {
        let mut due = Vec::new();
        if self.probe_at.is_some_and(|at| at <= now) && !self.is_probing {
            self.is_probing = true;
            self.probe_at = None;
            due.push(MaintenanceTask::Probe);
        }
        let blocked =
            !conditions.permits().can_use_provider || conditions.is_active(Condition::Ledger);
        if !self.is_reconciling
            && !blocked
            && self.next_reconciliation().is_some_and(|at| at <= now)
        {
            self.is_reconciling = true;
            self.regular_at = self.regular_at.filter(|at| *at > now);
            self.extra_reconciliations.retain(|at| *at > now);
            due.push(MaintenanceTask::Reconciliation);
        }
        if self.drift_check_at <= now {
            self.drift_check_at = time::after(now, DRIFT_CHECK_INTERVAL);
            due.push(MaintenanceTask::DriftCheck);
        }
        due
    }

    /// When one is due next.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let mut times = vec![self.drift_check_at];
        times.extend(self.probe_at);
        // While something is wrong a sweep waits for the probe.
        if !self.is_reconciling && self.active_conditions.is_empty() {
            times.extend(self.next_reconciliation());
        }
        times.into_iter().min()
    }

    fn next_reconciliation(&self) -> Option<Timestamp> {
        self.regular_at
            .into_iter()
            .chain(self.extra_reconciliations.first().copied())
            .min()
    }

    /// What is wrong may have been put right: the probe is due now.
    pub(crate) fn probe_now(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
    }

    /// A probe has come back.
    pub(crate) fn finish_probe(&mut self) {
        self.is_probing = false;
    }

    /// Plans the next probe by what holds now. True if something has passed
    /// since this was last asked.
    pub(crate) fn schedule_probe(&mut self, held: &BTreeSet<Condition>, now: Timestamp) -> bool {
        let passed = self
            .active_conditions
            .iter()
            .any(|before| !held.contains(before));
        let began = held.iter().any(|now| !self.active_conditions.contains(now));
        if held.is_empty() {
            self.probe_at = None;
            self.probe_attempts = 0;
        } else if began {
            self.probe_attempts = 0;
            self.probe_at = None;
        }
        if self.probe_at.is_none() && !self.is_probing {
            self.probe_attempts = self.probe_attempts.saturating_add(1);
            let pauses = held
                .iter()
                .map(|condition| condition.probe_delay(self.probe_attempts));
            self.probe_at = pauses.min().map(|pause| time::after(now, pause));
        }
        if passed && self.failed_reconciliations > 0 {
            // What it was to find out may be what everybody waits for.
            self.extra_reconciliations.insert(now);
        }
        self.active_conditions.clone_from(held);
        passed
    }

    /// The clock was set back: what was planned by it is done now.
    pub(crate) fn reschedule_all(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
        self.regular_at = Some(now);
        self.extra_reconciliations.clear();
        self.drift_check_at = now;
    }

    /// The provider is swept at `at`, if not before.
    pub(crate) fn reconcile_by(&mut self, at: Timestamp) {
        self.regular_at = Some(self.regular_at.map_or(at, |planned| planned.min(at)));
    }

    /// A create may land late: the provider is swept a few times more.
    pub(crate) fn schedule_follow_ups(&mut self, now: Timestamp) {
        for pause in FOLLOW_UP_DELAYS {
            self.extra_reconciliations.insert(time::after(now, pause));
        }
    }

    /// A key cannot be begun before the provider was listed again.
    pub(crate) fn reconcile_now(&mut self, now: Timestamp) {
        if !self.is_reconciling {
            self.extra_reconciliations.insert(now);
        }
    }

    /// A sweep has come back. True if it was the first that was answered.
    pub(crate) fn finish_reconciliation(
        &mut self,
        answered: bool,
        every: Duration,
        now: Timestamp,
    ) -> bool {
        self.is_reconciling = false;
        let first = answered && self.reconciled_at.is_none();
        let next = if answered {
            self.reconciled_at = Some(now);
            self.last_reconciliation = Some(now);
            self.failed_reconciliations = 0;
            every
        } else {
            self.failed_reconciliations = self.failed_reconciliations.saturating_add(1);
            RETRY_BACKOFF.delay(self.failed_reconciliations)
        };
        self.regular_at = Some(time::after(now, next));
        first
    }
}

#[cfg(test)]
mod tests;
