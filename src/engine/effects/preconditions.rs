//! The preconditions of a create: the number of creates and of live credentials, the
//! answers to earlier ones, the sinks, what their targets hold, the provider, the
//! organization, and that a key without rows has no lookalikes.

mod live_limit;
mod preflight;

use std::time::Duration;

use crate::core::decide::revocation::wants_successor;
use crate::core::first_few::join_few;
use crate::core::ids::CredentialId;
use crate::core::state::Trigger;
use crate::core::time;
use crate::engine::managed_key::ManagedKey;
use crate::engine::probe::raise_condition_of;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::Destination;

/// The age up to which a list proves that a key without rows has no lookalikes.
const LISTING_FRESHNESS: Duration = Duration::from_secs(5 * 60);

/// The number of lookalikes that are compared with the key's files.
const MAX_COMPARED_LOOKALIKES: usize = 8;

/// Whether a rotation may start.
pub(super) enum Readiness {
    /// The rotation may start.
    Ready,
    /// The key's back-off was recorded, or an eviction makes room.
    Deferred,
    /// A condition blocks the rotation: nothing is recorded for the key.
    Blocked,
}

impl Worker {
    /// Checks the preconditions in order, until one fails. A rotation that replaces what
    /// leaked has one alone, the provider: no limit and no sink delays it.
    pub(super) async fn check_preconditions(
        &mut self,
        managed: &ManagedKey,
        trigger: Trigger,
        replaces: &[String],
    ) -> Result<Readiness, LedgerError> {
        self.exceeded_limits.clear();
        if wants_successor(&self.state) {
            // A provider whose answers are not true would be asked again and again.
            if self.request.is_none()
                && let readiness @ (Readiness::Deferred | Readiness::Blocked) =
                    self.check_earlier_answers().await?
            {
                return Ok(readiness);
            }
            return match self.check_provider().await? {
                Readiness::Ready => Ok(self.check_organization()),
                readiness @ (Readiness::Deferred | Readiness::Blocked) => Ok(readiness),
            };
        }
        let is_requested = trigger == Trigger::Manual;
        if !self.has_create_budget(managed, is_requested).await? {
            return Ok(Readiness::Deferred);
        }
        if !is_requested {
            match self.check_earlier_answers().await? {
                Readiness::Ready => {}
                readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
            }
        }
        match self.enforce_live_limit(managed, is_requested).await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        // It gives the place at the provider back; the next check takes it again.
        let problem = self.required_first_write_problem(managed, replaces);
        if let Some(problem) = problem.await? {
            self.record_backoff(&problem, None).await?;
            return Ok(Readiness::Deferred);
        }
        match self.check_local_sinks(managed).await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        match self.check_provider().await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        match self.check_organization() {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        if self.state.sequence == 0 && !is_requested {
            return self.check_no_lookalikes().await;
        }
        Ok(Readiness::Ready)
    }

    /// Logs the limits that a requested rotation exceeds, when it starts.
    pub(super) fn log_exceeded_limits(&mut self) {
        let name = &self.state.key;
        for problem in std::mem::take(&mut self.exceeded_limits) {
            tracing::warn!(key = %name, "{name}: {problem}; rotating anyway, as requested");
        }
    }

    /// Checks `max-creates-per-day`, which limits loops even across restarts. An
    /// operator's request is not limited.
    async fn has_create_budget(
        &mut self,
        managed: &ManagedKey,
        is_requested: bool,
    ) -> Result<bool, LedgerError> {
        let now = self.now();
        let limit = managed.policy.max_creates_per_day;
        let ledger = &self.services.ledger;
        let (from, to) = (time::before(now, time::DAY), time::after(now, time::DAY));
        let (count, oldest) = ledger.creates_between(&managed.name, from, to).await?;
        if count < limit {
            return Ok(true);
        }
        let problem = format!(
            "max-creates-per-day is used up: rekeyd sent {count} of {limit} creates in 24 hours"
        );
        if is_requested {
            self.exceeded_limits.push(problem);
            return Ok(true);
        }
        let delay = oldest.map(|oldest| time::until(now, time::after(oldest, time::DAY)));
        let problem = format!(
            "{problem}; hint: `rekeyd rotate {}` ignores this limit",
            managed.name
        );
        self.record_backoff(&problem, delay).await?;
        Ok(false)
    }

    /// Checks that the provider is reachable, accepts rekeyd's credential, and agrees on
    /// the time, unless it answered recently.
    async fn check_provider(&mut self) -> Result<Readiness, LedgerError> {
        let conditions = &self.services.conditions;
        if !conditions.has_recent_response(self.now()) {
            let diagnosis = conditions.lock_diagnosis().await;
            if !conditions.has_recent_response(self.now()) && conditions.is_provider_usable() {
                let response = self.services.provider.check().await;
                self.observe_response(&response);
                if let Err(error) = &response {
                    if self.closes_gate(error) {
                        return Ok(Readiness::Blocked);
                    }
                    raise_condition_of(&self.services, error);
                }
                drop(diagnosis);
            }
        }
        if self.can_start_in_spite_of_conditions(wants_successor(&self.state)) {
            Ok(Readiness::Ready)
        } else {
            Ok(Readiness::Blocked)
        }
    }

    /// Checks that this process has listed the scope with the admin key that it
    /// works with: a list shows whether that one is of another organization. A list that
    /// fails does not delay the end of what leaked, and is a condition for all others.
    fn check_organization(&mut self) -> Readiness {
        let generation = self.services.provider.own_credential_generation();
        let is_listed = self.context.compared_with == Some(generation);
        let is_excused = wants_successor(&self.state) && self.context.list_problem.is_some();
        if is_listed || is_excused {
            return Readiness::Ready;
        }
        self.needs_reconciliation = true;
        Readiness::Blocked
    }

    /// Returns whether no active condition stops a rotation of this key.
    pub(crate) fn can_start_in_spite_of_conditions(&self, is_leaked: bool) -> bool {
        let (conditions, scope) = (&self.services.conditions, &self.context.scope);
        if is_leaked {
            conditions.can_replace_leaked(scope)
        } else {
            conditions.can_start_rotation(scope)
        }
    }

    /// Checks for lookalikes before the first create of a key without rows: a live
    /// credential with its name means that a ledger was lost. The list is that of the
    /// last reconciliation, for all keys.
    async fn check_no_lookalikes(&mut self) -> Result<Readiness, LedgerError> {
        let now = self.now();
        let is_recent = self
            .context
            .reconciled_at
            .is_some_and(|at| at <= now && time::until(at, now) <= LISTING_FRESHNESS);
        if !is_recent {
            let Some(problem) = &self.context.list_problem else {
                self.needs_reconciliation = true;
                return Ok(Readiness::Blocked);
            };
            let problem = format!(
                "this ledger has no record of {key}, and rekeyd cannot check whether the provider \
                 has credentials of it: {problem}",
                key = self.state.key
            );
            self.record_backoff(&problem, None).await?;
            return Ok(Readiness::Deferred);
        }
        let lookalikes = self
            .services
            .ledger
            .lookalikes(&self.context.scope, &self.state.key);
        let lookalikes = lookalikes.await?;
        if lookalikes.is_empty() {
            return Ok(Readiness::Ready);
        }
        let proposed = self.likely_current(&lookalikes).await;
        let (key, ids) = (&self.state.key, join_few(&lookalikes));
        let problem = format!(
            "this ledger has no record of {key}, but the provider has live credentials with \
             names like those of {key} ({ids}); hint: if the ledger was lost, restore a backup; to take over \
             one of them, run `rekeyd adopt {key} {}`; to create a new credential and leave these \
             as they are, run `rekeyd rotate {key}`",
            proposed.as_str()
        );
        self.record_backoff(&problem, None).await?;
        Ok(Readiness::Deferred)
    }

    /// Returns the lookalike whose secret the key's files hold, if it is one alone, or the
    /// newest.
    async fn likely_current(&self, lookalikes: &[CredentialId]) -> CredentialId {
        let files: Vec<_> = self
            .managed
            .iter()
            .flat_map(|managed| &managed.sinks)
            .collect();
        let files = files.into_iter().map(|(sink, _)| sink);
        let files: Vec<_> = files
            .filter(|sink| sink.destination() == Destination::File)
            .collect();
        let mut held = Vec::new();
        for id in lookalikes.iter().take(MAX_COMPARED_LOOKALIKES) {
            let answer = self.services.provider.retrieve(id).await;
            self.observe_response(&answer);
            let Some(listed) = answer.ok().and_then(|answer| answer.value) else {
                continue;
            };
            let mut is_held = !files.is_empty();
            let expected = self.services.provider.expected_secret(&listed.metadata);
            for file in &files {
                is_held = is_held && file.check_drift(&expected).await.is_none();
            }
            if is_held {
                held.push(id);
            }
        }
        match held[..] {
            [only] => only.clone(),
            _ => lookalikes.first().cloned().unwrap_or(CredentialId::new("")),
        }
    }

    /// Records why a rotation could not start. Nothing is recorded for a request about a
    /// key that is not due: its schedule is as it was, and the caller gets the problem.
    pub(super) async fn record_backoff(
        &mut self,
        problem: &str,
        after: Option<Duration>,
    ) -> Result<(), LedgerError> {
        if self.request.is_some() && !self.is_due_by_itself() {
            let key = &self.state.key;
            tracing::warn!(%key, "{key}: not rotated on request: {problem}");
            self.request_problem = Some(problem.to_owned());
            self.needs_evaluation = true;
            return Ok(());
        }
        let change = self.back_off_before_create(problem, after);
        self.ignores_backoff = false;
        self.record(vec![change]).await
    }
}
