//! Starts a rotation: checks its preconditions, then records its intent.

use std::time::Duration;

use crate::core::change::{
    Change, ImmediateRevocation, MissedRun, PreviousRevocation, RotationIntent, Transition,
};
use crate::core::decide::revocation::{Revocation, RevocationReason, is_evictable};
use crate::core::ids::{CredentialId, Label, RotationId, SinkId};
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::{Rotation, Trigger};
use crate::core::time;
use crate::engine::effects::retry_delay;
use crate::engine::managed_key::ManagedKey;
use crate::engine::rotation_request::RotationStart;
use crate::engine::worker::{Preflight, Worker};
use crate::ledger::LedgerError;
use crate::provider::ProviderError;
use crate::sink::{Destination, Sink, SinkError};

/// The age up to which a list proves that a key without rows has no lookalikes.
const LISTING_FRESHNESS: Duration = Duration::from_secs(5 * 60);

/// How long a rotation may wait for its place at the provider before its endpoints are
/// checked again.
const PREFLIGHT_VALIDITY: Duration = Duration::from_secs(2 * 60);

/// How long the check of a file or a program may take before the key gives back its
/// place at the provider.
const LOCAL_PREFLIGHT_PATIENCE: Duration = Duration::from_secs(1);

/// Whether a rotation may start.
enum Readiness {
    /// The rotation may start.
    Ready,
    /// The key's back-off was recorded, or an eviction makes room.
    Deferred,
    /// A condition blocks the rotation: nothing is recorded for the key.
    Blocked,
}

impl Worker {
    /// Checks the preconditions of a create, then records the intent.
    pub(crate) async fn record_intent(
        &mut self,
        managed: &ManagedKey,
        start: RotationStart,
    ) -> Result<(), LedgerError> {
        let RotationStart {
            trigger,
            scheduled_for,
            missed_run,
            request,
        } = start;
        match self.check_preconditions(managed, trigger).await? {
            Readiness::Ready => {}
            Readiness::Deferred => {
                // The recorded problem is the reply to the request.
                self.request = None;
                return Ok(());
            }
            Readiness::Blocked => return Ok(()),
        }
        self.request = None;
        let (mut id, mut suffix) = ([0; 8], [0; 3]);
        let entropy = &self.services.entropy;
        let filled = entropy
            .fill(&mut id)
            .and_then(|()| entropy.fill(&mut suffix));
        if let Err(error) = filled {
            return self.record_backoff(&error.to_string(), None).await;
        }
        let rotation = RotationId::new(id);
        let operator = request
            .as_ref()
            .and_then(|request| request.operator.clone());
        let intent = RotationIntent {
            rotation: rotation.clone(),
            scope: managed.scope.clone(),
            sequence: self.state.next_sequence(self.now()),
            label: Label::new(&managed.name, self.now(), suffix),
            trigger,
            scheduled_for,
            timetable: managed.policy.timetable.to_text(),
            sinks: managed.all_sinks(),
            operator: operator.clone(),
        };
        let mut changes = Vec::new();
        changes.extend(missed_run.map(|(firing, reason)| {
            Change::from(MissedRun {
                firing,
                reason,
                is_skipped: false,
            })
        }));
        changes.push(Change::from(intent));
        if request.is_some_and(|request| request.revoke_previous) {
            changes.push(Change::from(PreviousRevocation {
                is_pending: true,
                operator,
            }));
        }
        self.record(changes).await?;
        self.preflight = Preflight::default();
        self.in_flight = Some(InFlight::new(rotation));
        Ok(())
    }

    async fn check_preconditions(
        &mut self,
        managed: &ManagedKey,
        trigger: Trigger,
    ) -> Result<Readiness, LedgerError> {
        let is_requested = trigger == Trigger::Manual;
        if !self.has_create_budget(managed, is_requested).await? {
            return Ok(Readiness::Deferred);
        }
        match self.enforce_live_limit(managed, is_requested).await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        match self.check_local_sinks(managed).await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        match self.check_provider().await? {
            Readiness::Ready => {}
            readiness @ (Readiness::Deferred | Readiness::Blocked) => return Ok(readiness),
        }
        if self.state.sequence == 0 && !is_requested {
            return self.check_no_lookalikes().await;
        }
        Ok(Readiness::Ready)
    }

    /// Returns the next required endpoint that has not passed the preflight of the next
    /// rotation. A complete preflight is valid for [`PREFLIGHT_VALIDITY`].
    pub(crate) fn next_endpoint_to_check(&mut self, managed: &ManagedKey) -> Option<SinkId> {
        let next = self.next_unchecked_endpoint(managed);
        if next.is_some() {
            return next;
        }
        let now = self.now();
        let is_valid = self
            .preflight
            .passed_at
            .is_none_or(|at| at <= now && time::until(at, now) <= PREFLIGHT_VALIDITY);
        if is_valid {
            return None;
        }
        self.preflight = Preflight::default();
        self.next_unchecked_endpoint(managed)
    }

    fn next_unchecked_endpoint(&self, managed: &ManagedKey) -> Option<SinkId> {
        let mut sinks = managed.sinks.iter();
        let next = sinks.find(|(sink, is_required)| {
            *is_required && is_endpoint(sink.as_ref()) && !self.has_passed_preflight(sink.id())
        });
        next.map(|(sink, _)| sink.id().clone())
    }

    fn has_passed_preflight(&self, sink: &SinkId) -> bool {
        self.preflight.passed.contains(sink)
    }

    /// Connects to a required endpoint before a rotation starts. Returns false if that
    /// failed and was recorded, or if the process ends.
    pub(crate) async fn check_endpoint(&mut self, sink: &SinkId) -> Result<bool, LedgerError> {
        let place = self.delivery_place.take();
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        let Some(target) = managed.sink(sink) else {
            return Ok(false);
        };
        let Some(checked) = self.attempt_at_sink(target.preflight()).await else {
            return Ok(false);
        };
        drop(place);
        self.finish_preflight(sink, checked).await
    }

    async fn finish_preflight(
        &mut self,
        sink: &SinkId,
        checked: Result<(), SinkError>,
    ) -> Result<bool, LedgerError> {
        let Err(error) = checked else {
            self.preflight.passed.push(sink.clone());
            self.preflight.passed_at = Some(self.now());
            return Ok(true);
        };
        self.preflight = Preflight::default();
        let problem = format!("no rotation begun: sink {}: {error}", sink.name);
        self.record_backoff(&problem, None).await?;
        // The recorded problem is the reply to the request.
        self.request = None;
        Ok(false)
    }

    /// Checks the required sinks on this host; the endpoints were checked before the
    /// rotation got its place at the provider. If a check takes long, the key gives that
    /// place back.
    async fn check_local_sinks(&mut self, managed: &ManagedKey) -> Result<Readiness, LedgerError> {
        for (sink, is_required) in &managed.sinks {
            if !*is_required || is_endpoint(sink.as_ref()) || self.has_passed_preflight(sink.id()) {
                continue;
            }
            let mut check = std::pin::pin!(sink.preflight());
            let in_time = tokio::time::timeout(LOCAL_PREFLIGHT_PATIENCE, &mut check).await;
            let checked = match in_time {
                Ok(checked) => Some(checked),
                Err(_) => self.attempt_at_sink(check).await,
            };
            let Some(checked) = checked else {
                return Ok(Readiness::Blocked);
            };
            if !self.finish_preflight(sink.id(), checked).await? {
                return Ok(Readiness::Deferred);
            }
        }
        if self.take_provider_place() {
            Ok(Readiness::Ready)
        } else {
            Ok(Readiness::Blocked)
        }
    }

    async fn record_backoff(
        &mut self,
        problem: &str,
        after: Option<Duration>,
    ) -> Result<(), LedgerError> {
        let change = self.back_off_key(problem, after);
        self.record(vec![change]).await
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
            "max-creates-per-day is used up: {count} credentials were made, or maybe made, for {} \
             in 24 hours, and {limit} are allowed",
            managed.name
        );
        if is_requested {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(true);
        }
        let delay = oldest.map(|oldest| time::until(now, time::after(oldest, time::DAY)));
        let problem = format!("no rotation begun: {problem}; `rekeyd rotate` rotates all the same");
        self.record_backoff(&problem, delay).await?;
        Ok(false)
    }

    /// Checks `max-live-credentials`. At the limit, it evicts a credential that was
    /// stranded before any delivery started and was never used, so that a crash loop
    /// does not block the key for ever.
    async fn enforce_live_limit(
        &mut self,
        managed: &ManagedKey,
        is_requested: bool,
    ) -> Result<Readiness, LedgerError> {
        let live = self.state.live.iter();
        let live = live
            .filter(|rotation| rotation.credential.is_some())
            .count();
        if live < managed.policy.max_live_credentials {
            return Ok(Readiness::Ready);
        }
        let problem = format!(
            "{live} credentials of {} are alive, and max-live-credentials is {}",
            managed.name, managed.policy.max_live_credentials
        );
        if is_requested {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(Readiness::Ready);
        }
        let live = self.state.live.iter();
        let candidates = live.filter(|rotation| is_evictable(rotation));
        let candidates: Vec<_> = candidates.cloned().collect();
        for candidate in candidates {
            match self.can_evict(&candidate).await {
                Ok(true) => {
                    self.evict(&candidate).await?;
                    return Ok(Readiness::Deferred);
                }
                Ok(false) => {}
                Err(error) if self.is_global_failure(&error).await => {
                    return Ok(Readiness::Blocked);
                }
                Err(error) => {
                    self.record_backoff(&error.to_string(), retry_delay(&error))
                        .await?;
                    return Ok(Readiness::Deferred);
                }
            }
        }
        let problem = format!(
            "no rotation begun: {problem}; see `rekeyd status` for what holds them, \
             and revoke what is not needed (`rekeyd revoke`)"
        );
        self.record_backoff(&problem, None).await?;
        Ok(Readiness::Deferred)
    }

    async fn can_evict(&self, rotation: &Rotation) -> Result<bool, ProviderError> {
        let Some(credential) = &rotation.credential else {
            return Ok(false);
        };
        let reason = RevocationReason::Eviction;
        let decided = self
            .decide_revocation(credential, Some(rotation), reason)
            .await?;
        Ok(match decided.revocation {
            Revocation::Delete | Revocation::AlreadyGone => true,
            Revocation::Defer(_) | Revocation::Blocked(_) | Revocation::Observe(_) => false,
        })
    }

    /// Retires a credential to evict. Its deletion is the next step, for which the
    /// revocation is decided again.
    async fn evict(&mut self, rotation: &Rotation) -> Result<(), LedgerError> {
        let retired = Transition {
            revoke_after: Some(time::next_whole_second(self.now())),
            error: Some("never delivered and never used; it makes room".to_owned()),
            ..Transition::new(&rotation.id, LifecycleEvent::Replaced)
        };
        let changes = vec![
            Change::from(retired),
            Change::from(ImmediateRevocation {
                rotation: rotation.id.clone(),
            }),
        ];
        self.record(changes).await
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
                drop(diagnosis);
                if let Err(error) = response {
                    if self.is_global_failure(&error).await {
                        return Ok(Readiness::Blocked);
                    }
                    self.record_backoff(&error.to_string(), retry_delay(&error))
                        .await?;
                    return Ok(Readiness::Deferred);
                }
            }
        }
        let scope = &self.context.scope;
        if self.services.conditions.can_start_rotation(scope) {
            Ok(Readiness::Ready)
        } else {
            Ok(Readiness::Blocked)
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
            self.needs_reconciliation = true;
            return Ok(Readiness::Blocked);
        }
        let lookalikes = self
            .services
            .ledger
            .lookalikes(&self.context.scope, &self.state.key);
        let lookalikes = lookalikes.await?;
        let lookalikes: Vec<_> = lookalikes.iter().map(CredentialId::as_str).collect();
        if lookalikes.is_empty() {
            return Ok(Readiness::Ready);
        }
        let (key, ids) = (&self.state.key, lookalikes.join(", "));
        let problem = format!(
            "no rotation begun: this ledger knows nothing of {key}, but the provider has live \
             credentials that look like it ({ids}). If the ledger was lost, restore it from a \
             backup; to take one of them over: `rekeyd adopt {key} {}`; to begin anew beside \
             them: `rekeyd rotate {key}`",
            lookalikes.first().copied().unwrap_or_default()
        );
        self.record_backoff(&problem, None).await?;
        Ok(Readiness::Deferred)
    }
}

fn is_endpoint(sink: &dyn Sink) -> bool {
    match sink.destination() {
        Destination::Endpoint { .. } => true,
        Destination::File | Destination::Program => false,
    }
}

#[cfg(test)]
mod tests;
