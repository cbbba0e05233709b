//! The schedule of the reconciliations of one scope.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::scope::Scope;
use crate::core::time::{self, HOUR, MINUTE};
use crate::engine::services::{RunMode, Services};
use crate::ledger::LedgerError;

/// The delays after an unclear create, which may be applied late, until a scope is
/// reconciled again.
pub(super) const FOLLOW_UP_DELAYS: [Duration; 3] = [MINUTE, Duration::from_secs(15 * 60), HOUR];

/// The delays until a failed reconciliation is retried; the last one repeats.
const RETRY_BACKOFF: Backoff = Backoff(&[5, 30, 60, 300]);

/// A comparison of a scope with the provider's list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// See [`crate::engine::reconciliation::ReconciliationReport::generation`].
    pub(crate) generation: Option<u64>,
}

/// The times of the reconciliations of a scope.
#[derive(Debug, Default)]
pub(super) struct ReconciliationSchedule {
    /// The next regular reconciliation. Each one schedules the next.
    pub(super) regular_at: Option<Timestamp>,
    /// The additional reconciliations.
    pub(super) extra: BTreeSet<Timestamp>,
    is_running: bool,
    /// The number of failed reconciliations since the last success.
    failed: u32,
    /// The last reconciliation, if it is recent enough to start a rotation. Without one,
    /// the ledger may be an older backup.
    pub(super) reconciled_at: Option<Timestamp>,
    /// The generation of the admin key with which this process compared the scope
    /// last.
    pub(super) compared_with: Option<u64>,
    /// The last reconciliation, by this process or an earlier one.
    pub(super) last_reconciliation: Option<Timestamp>,
    /// Why the scope could not be listed since the last reconciliation.
    pub(super) list_problem: Option<String>,
}

impl ReconciliationSchedule {
    /// Returns the schedule of a scope that has not been reconciled yet.
    pub(super) fn starting_at(now: Timestamp) -> Self {
        Self {
            regular_at: Some(now),
            ..Self::default()
        }
    }

    /// Returns the schedule of a scope at the start of a process, by the ledger's
    /// records.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(super) async fn at_start(
        services: &Services,
        scope: &Scope,
        run_mode: RunMode,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let [.., last_follow_up] = FOLLOW_UP_DELAYS;
        let (last_reconciliation, has_unclear_create) = services
            .ledger
            .last_reconciliation(scope, time::before(now, last_follow_up))
            .await?;
        let is_recent = last_reconciliation.is_some_and(|at| {
            at <= now && time::until(at, now) < services.reconcile_every && !has_unclear_create
        });
        let is_needed = match run_mode {
            RunMode::Daemon => true,
            RunMode::Once | RunMode::Command => !is_recent,
            RunMode::Proposal => false,
        };
        let mut schedule = Self {
            regular_at: is_needed.then_some(now),
            reconciled_at: last_reconciliation.filter(|_| !is_needed),
            last_reconciliation,
            ..Self::default()
        };
        if has_unclear_create && run_mode != RunMode::Proposal {
            schedule.schedule_follow_ups(now);
        }
        Ok(schedule)
    }

    /// Returns when the next reconciliation is due; none while one runs.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let extra = self.extra.first().copied();
        let next = self.regular_at.into_iter().chain(extra).min();
        next.filter(|_| !self.is_running)
    }

    /// Returns whether a reconciliation is due. If so, it counts as running from now on.
    pub(super) fn take_due(&mut self, now: Timestamp) -> bool {
        if self.next_at().is_none_or(|at| at > now) {
            return false;
        }
        self.is_running = true;
        self.regular_at = self.regular_at.filter(|at| *at > now);
        self.extra.retain(|at| *at > now);
        true
    }

    /// See [`super::MaintenanceSchedule::reconcile_by`].
    pub(super) fn reconcile_by(&mut self, at: Timestamp) {
        self.regular_at = Some(self.regular_at.map_or(at, |planned| planned.min(at)));
    }

    /// See [`super::MaintenanceSchedule::schedule_follow_ups`].
    pub(super) fn schedule_follow_ups(&mut self, now: Timestamp) {
        let delays = FOLLOW_UP_DELAYS.into_iter();
        self.extra
            .extend(delays.map(|delay| time::after(now, delay)));
    }

    /// See [`super::MaintenanceSchedule::reconcile_now`].
    pub(super) fn reconcile_now(&mut self, now: Timestamp) {
        if !self.is_running {
            self.extra.insert(now);
        }
    }

    /// Makes a failed reconciliation due now, because the condition that caused the
    /// failure has ended, and every key may wait for it.
    pub(super) fn retry_failed(&mut self, now: Timestamp) {
        if self.failed > 0 {
            self.extra.insert(now);
        }
    }

    /// Makes one reconciliation due now, instead of all planned ones.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.regular_at = Some(now);
        self.extra.clear();
    }

    /// See [`super::MaintenanceSchedule::record_list_problem`].
    pub(super) fn record_list_problem(
        &mut self,
        problem: String,
        pause: Option<Duration>,
        now: Timestamp,
    ) {
        self.list_problem = Some(problem);
        let not_before = pause.map(|pause| time::after(now, pause));
        self.regular_at = self.regular_at.max(not_before);
        self.extra = self
            .extra
            .iter()
            .map(|at| (*at).max(not_before.unwrap_or(*at)))
            .collect();
    }

    /// See [`super::MaintenanceSchedule::finish_reconciliation`].
    pub(super) fn finish(
        &mut self,
        compared: Option<Comparison>,
        interval: Duration,
        now: Timestamp,
    ) -> bool {
        self.is_running = false;
        let has_succeeded = compared.is_some();
        let is_first = has_succeeded && self.reconciled_at.is_none();
        let delay = if has_succeeded {
            self.compared_with = compared.and_then(|compared| compared.generation);
            self.reconciled_at = Some(now);
            self.last_reconciliation = Some(now);
            self.failed = 0;
            self.list_problem = None;
            interval
        } else {
            self.failed = self.failed.saturating_add(1);
            RETRY_BACKOFF.delay(self.failed)
        };
        self.regular_at = Some(time::after(now, delay));
        is_first
    }
}
