//! Handles the results of the engine's tasks, first of all the keys that workers return.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::task::JoinError;

use crate::core::condition::Condition;
use crate::core::decide::revocation::{RecheckCause, rotations_to_recheck};
use crate::core::health::alertable_error;
use crate::core::ids::CredentialId;
use crate::core::scope::Scope;
use crate::engine::conditions::FOREIGN_LIST;
use crate::engine::decision_log::LoggedDecisions;
use crate::engine::maintenance::Comparison;
use crate::engine::presence::CredentialPresence;
use crate::engine::reconciliation::{
    DiscrepanciesByKey, ReconciliationFailure, ReconciliationReport,
};
use crate::engine::scheduler::{Completion, Engine, set_membership};
use crate::engine::worker::{AwaitedPlace, Worker};

impl Engine {
    /// Waits for a task to complete, and handles every completed one. Returns false if no
    /// task is running. The future is safe to drop.
    pub async fn process_completions(&mut self) -> bool {
        let has_more_due = std::mem::take(&mut self.has_more_due);
        let mut next = if has_more_due {
            // Other ready tasks run before the next keys.
            tokio::task::yield_now().await;
            self.running.try_join_next()
        } else {
            let places = self.places.clone();
            let gates = self.services.conditions.gates().clone();
            tokio::select! {
                biased;
                next = self.running.join_next() => next,
                () = places.changed() => {
                    self.wake_ready_keys(self.services.clock.now());
                    return true;
                }
                () = gates.changed() => {
                    self.update_gates(self.services.clock.now());
                    return true;
                }
            }
        };
        let is_active = has_more_due || next.is_some();
        while let Some(completion) = next {
            self.handle_completion(completion);
            next = self.running.try_join_next();
        }
        is_active
    }

    fn handle_completion(&mut self, completion: Result<Completion, JoinError>) {
        match completion {
            Ok(Completion::Key(worker)) => {
                self.park(*worker);
            }
            Ok(Completion::Probe) => self.maintenance.finish_probe(),
            Ok(Completion::DriftCheck(suspect)) => self.finish_drift_batch(suspect),
            Ok(Completion::Reconciliation(scope, report)) => {
                self.handle_reconciliation(&scope, report);
            }
            Ok(Completion::LedgerWrite) => {}
            Ok(Completion::LedgerCheck(size)) => {
                self.is_checking_ledger = false;
                self.ledger_size = size.or(self.ledger_size);
                self.publish_process();
            }
            Ok(Completion::Notifications(outcome)) => {
                self.alert_tracker.outbox.finish_batch(outcome)
            }
            Err(error) => {
                // A step panicked: its key has no worker until a restart, which finds
                // its rotation open and strands it.
                tracing::error!(
                    "a worker panicked: {error}; hint: restart rekeyd, and report \
                    this bug"
                );
            }
        }
        self.apply_condition_changes();
    }

    /// Schedules a probe while a condition is active, and wakes every key when one ends.
    pub(super) fn apply_condition_changes(&mut self) {
        self.report_rotations_if_damaged();
        let now = self.services.clock.now();
        let conditions = &self.services.conditions;
        conditions.log_lasting(now);
        let active = conditions.active_keys();
        self.maintenance
            .pause_probes(conditions.requests_paused_until(now));
        if self.maintenance.schedule_probe(&active, now) {
            self.wake_all();
        }
        self.record_conditions();
    }

    /// Takes a key back from its worker, and queues its next evaluation.
    pub(super) fn park(&mut self, mut worker: Worker) {
        let now = self.services.clock.now();
        let key = worker.state.key.clone();
        self.notify_of_operators(&key, std::mem::take(&mut worker.notices), now);
        // Its commits may have changed rows of other keys, which read them again.
        let has_leaked = worker.state.live.iter().any(|row| row.deadline.is_some());
        for stale in self.services.ledger.stale_keys() {
            self.wake(&stale, now);
            if has_leaked && let Some(entry) = self.keys.get(&stale) {
                entry.interrupt_delivery();
            }
        }
        if worker.moved_targets {
            self.rechecks.add(RecheckCause::Targets);
        }
        if worker.needs_follow_up {
            self.maintenance
                .schedule_follow_ups(&worker.context.scope, now);
        }
        if worker.has_learned_names {
            let scope = &worker.context.scope;
            self.maintenance.reconcile_now(scope, now);
        }
        if worker.needs_reconciliation {
            let scope = worker.context.scope.clone();
            self.maintenance.reconcile_now(&scope, now);
            self.awaiting_reconciliation.push((scope, key.clone()));
        }
        let causes = self.rechecks.causes_since(worker.context.recheck_count);
        let rechecks = rotations_to_recheck(&worker.state, &causes, now);
        if causes.contains(&RecheckCause::Targets) && !rechecks.is_empty() {
            self.rechecks.by_targets_at = Some(now);
        }
        let Some(entry) = self.keys.get_mut(&key) else {
            return;
        };
        let previous_presence = (entry.scope.clone(), entry.presence);
        let previous_rotation = entry.rotates_at;
        let awaits = worker.awaits;
        let logged = entry.logged_decisions.take();
        entry.logged_decisions = LoggedDecisions::update(logged, &worker, now);
        entry.check_in(worker, rechecks, now);
        let gates = self.services.conditions.gates();
        match entry.held_back_by.zip(entry.gate_turn) {
            Some((held, since)) => gates.wait(&key, (entry.scope.clone(), held.class), since),
            // It waits for the place with which it passes.
            None if entry.awaits.is_some() && entry.gate_turn.is_some() => {}
            None => gates.leave(&key),
        }
        let presence = (entry.scope.clone(), entry.presence);
        let is_configured = entry.active().is_some();
        let error = entry
            .state()
            .and_then(|state| alertable_error(state, is_configured));
        set_membership(&mut self.unhealthy, &key, error.is_some());
        let is_rotating = entry.is_rotating();
        set_membership(&mut self.rotating, &key, is_rotating);
        set_membership(&mut self.deferring, &key, entry.has_deferral());
        set_membership(
            &mut self.due_by_age,
            &key,
            entry.may_fall_due_with_others(now),
        );
        if let Some(at) = previous_rotation {
            self.next_rotations.remove(&(at, key.clone()));
        }
        if let Some(at) = entry.rotates_at {
            self.next_rotations.insert((at, key.clone()));
        }
        if let Some(at) = entry.wake_at {
            self.run_queue.insert(at, key.clone(), is_rotating);
        }
        if entry.is_queued_for_provider
            && let Some(since) = entry.provider_turn
        {
            self.awaiting_provider
                .insert(since, key.clone(), is_rotating);
        }
        self.view.publish(&key, &entry.view(), now);
        if awaits != Some(AwaitedPlace::Destination) {
            self.places.leave(&key);
        }
        self.settle_request(&key);
        self.update_presence(previous_presence, presence);
        self.update_key_alerts(&key, now);
        if self.has_reported_rotations {
            self.report_rotations(vec![key]);
        }
    }

    /// Moves a key to its new presence in the tallies, perhaps of another scope.
    fn update_presence(
        &mut self,
        (from, mut before): (Scope, CredentialPresence),
        (to, after): (Scope, CredentialPresence),
    ) {
        if from != to {
            let tally = self.presence.entry(from.clone()).or_default();
            tally.update(before, CredentialPresence::None);
            self.check_organization(&from);
            before = CredentialPresence::None;
        }
        let tally = self.presence.entry(to.clone()).or_default();
        tally.update(before, after);
        self.check_organization(&to);
    }

    /// Raises the organization's condition in `scope` when most keys' credentials are
    /// gone at once.
    fn check_organization(&self, scope: &Scope) {
        let Some(tally) = self.presence.get(scope) else {
            return;
        };
        let conditions = &self.services.conditions;
        if tally.has_foreign_list {
            conditions.raise_in(scope, Condition::Organization, FOREIGN_LIST);
        } else if tally.is_suspicious() {
            // Of those that the list alone did not show, each key asks the provider.
            let finding = match tally.unlisted {
                0 => "no longer has",
                _ => "does not show",
            };
            let absent = tally.missing + tally.unlisted;
            let problem = format!(
                "the provider {finding} the current credentials of {absent} of {} keys; hint: check \
                 whether the admin key belongs to another organization; if the credentials \
                 were really revoked, run `rekeyd rotate --all`",
                tally.present + absent
            );
            conditions.raise_in(scope, Condition::Organization, &problem);
        } else {
            conditions.clear_in(scope, Condition::Organization);
        }
    }

    fn handle_reconciliation(
        &mut self,
        scope: &Scope,
        report: Result<ReconciliationReport, ReconciliationFailure>,
    ) {
        let now = self.services.clock.now();
        let interval = self.services.reconcile_every;
        let compared = report.as_ref().ok().map(|report| Comparison {
            generation: report.generation,
        });
        let is_first = self
            .maintenance
            .finish_reconciliation(scope, compared, interval, now);
        if is_first {
            self.wake_all();
        }
        match report {
            Ok(report) => {
                self.services
                    .conditions
                    .clear_in(scope, Condition::Reconciliation);
                self.update_lookalike_alerts(&report.lookalikes, now);
                self.show_lookalikes(scope, &report.lookalikes, now);
                self.services.ledger.start_page_check();
                self.wake_awaiting_reconciliation(scope, now);
                self.set_foreign_list(scope, false);
                self.check_missing(scope, &report.listed, now);
                self.add_discrepancies(report.discrepancies, now);
            }
            // The end of the condition repeats it, and wakes the keys.
            Err(ReconciliationFailure::Condition) => {}
            Err(ReconciliationFailure::Foreign) => {
                let problem = FOREIGN_LIST.to_owned();
                self.maintenance
                    .record_list_problem(scope, problem, None, now);
                self.set_foreign_list(scope, true);
                self.wake_awaiting_reconciliation(scope, now);
            }
            Err(ReconciliationFailure::List { problem, pause }) => {
                self.maintenance
                    .record_list_problem(scope, problem, pause, now);
                // They record why they cannot start.
                self.wake_awaiting_reconciliation(scope, now);
            }
        }
    }

    /// Has the keys examine what a list does not show as the ledger has it. Where it lacks
    /// most current credentials, nothing is created before.
    fn add_discrepancies(&mut self, found: DiscrepanciesByKey, now: Timestamp) {
        for (key, found) in found {
            if let Some(entry) = self.keys.get_mut(&key) {
                let before = (entry.scope.clone(), entry.presence);
                entry.add_discrepancies(found, now);
                let after = (entry.scope.clone(), entry.presence);
                self.update_presence(before, after);
            }
            self.wake(&key, now);
        }
    }

    fn set_foreign_list(&mut self, scope: &Scope, is_foreign: bool) {
        let tally = self.presence.entry(scope.clone()).or_default();
        tally.has_foreign_list = is_foreign;
        tally.accepts_any_list &= is_foreign;
        self.check_organization(scope);
    }

    /// Makes the keys check again for credentials that were missing and are listed.
    fn check_missing(&mut self, scope: &Scope, listed: &BTreeSet<CredentialId>, now: Timestamp) {
        let mut found = Vec::new();
        for (key, entry) in &mut self.keys {
            if entry.scope == *scope && entry.check_missing(listed) {
                found.push(key.clone());
            }
        }
        for key in found {
            self.wake(&key, now);
        }
    }

    /// Wakes the keys that wait for a reconciliation of `scope`.
    fn wake_awaiting_reconciliation(&mut self, scope: &Scope, now: Timestamp) {
        let awaiting = std::mem::take(&mut self.awaiting_reconciliation);
        let (ready, rest): (Vec<_>, Vec<_>) = awaiting.into_iter().partition(|(of, _)| of == scope);
        self.awaiting_reconciliation = rest;
        for (_, key) in ready {
            self.wake(&key, now);
        }
    }
}
