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

/// How long a list proves that a key without rows has no lookalikes.
const LISTING_FRESHNESS: Duration = Duration::from_secs(5 * 60);

/// How long a rotation may wait for its place at the provider before its
/// endpoints are checked again.
const PREFLIGHT_VALIDITY: Duration = Duration::from_secs(2 * 60);

/// How long the check of a file or a program may take before it gives its place
/// at the provider back.
const LOCAL_PREFLIGHT_PATIENCE: Duration = Duration::from_secs(1);

/// Whether a rotation may start.
enum Readiness {
    /// It may.
    Ready,
    /// Not now; the key's back-off was recorded, or an eviction makes room.
    Deferred,
    /// Not now, because of a condition: nothing is recorded for the key.
    Blocked,
}

impl Worker {
    /// Checks what must hold before a create, then records the intent.
    pub(crate) async fn record_intent(
        &mut self,
        managed: &ManagedKey,
        begin: RotationStart,
    ) -> Result<(), LedgerError> {
        let RotationStart {
            trigger,
            scheduled_for,
            missed_run: missed,
            request: wish,
        } = begin;
        let ready = self.check_preconditions(managed, trigger).await?;
        match ready {
            Readiness::Ready => {}
            Readiness::Deferred => {
                // The request is answered, with a problem.
                self.request = None;
                return Ok(());
            }
            Readiness::Blocked => return Ok(()),
        }
        self.request = None;
        let (mut id, mut tail) = ([0; 8], [0; 3]);
        let chance = &self.services.entropy;
        if let Err(error) = chance.fill(&mut id).and_then(|()| chance.fill(&mut tail)) {
            return self.record_backoff(&error.to_string(), None).await;
        }
        let rotation = RotationId::new(id);
        let operator = wish.as_ref().and_then(|wish| wish.operator.clone());
        let intent = RotationIntent {
            rotation: rotation.clone(),
            scope: managed.scope.clone(),
            sequence: self.state.next_sequence(self.now()),
            label: Label::new(&managed.name, self.now(), tail),
            trigger,
            scheduled_for,
            timetable: managed.policy.timetable.to_text(),
            sinks: managed.all_sinks(),
            operator: operator.clone(),
        };
        let mut changes = Vec::new();
        changes.extend(missed.map(|(firing, why)| {
            Change::from(MissedRun {
                firing,
                reason: why,
                is_skipped: false,
            })
        }));
        changes.push(Change::from(intent));
        if wish.is_some_and(|wish| wish.revoke_previous) {
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
        let operator = trigger == Trigger::Manual;
        if !self.has_create_budget(managed, operator).await? {
            return Ok(Readiness::Deferred);
        }
        match self.enforce_live_limit(managed, operator).await? {
            Readiness::Ready => {}
            ready @ (Readiness::Deferred | Readiness::Blocked) => return Ok(ready),
        }
        match self.check_local_sinks(managed).await? {
            Readiness::Ready => {}
            ready @ (Readiness::Deferred | Readiness::Blocked) => return Ok(ready),
        }
        match self.check_provider().await? {
            Readiness::Ready => {}
            ready @ (Readiness::Deferred | Readiness::Blocked) => return Ok(ready),
        }
        if self.state.sequence == 0 && !operator {
            return self.check_no_lookalikes().await;
        }
        Ok(Readiness::Ready)
    }

    /// The next required endpoint that has not passed the preflight of the
    /// rotation that is to start. A pass of all of them is valid for a while.
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

    /// Connects to a required endpoint before a rotation starts. False if it
    /// failed and was recorded, or the process ends.
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
        let Err(problem) = checked else {
            self.preflight.passed.push(sink.clone());
            self.preflight.passed_at = Some(self.now());
            return Ok(true);
        };
        self.preflight = Preflight::default();
        let problem = format!("no rotation begun: sink {}: {problem}", sink.name);
        self.record_backoff(&problem, None).await?;
        // A problem answers the request.
        self.request = None;
        Ok(false)
    }

    /// Checks the required sinks on this host; the endpoints were checked
    /// before the rotation got its place at the provider. A file system that
    /// does not answer loses that place.
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

    /// Checks `max-creates-per-day`, which guards against loops across restarts.
    async fn has_create_budget(
        &mut self,
        managed: &ManagedKey,
        operator: bool,
    ) -> Result<bool, LedgerError> {
        let now = self.now();
        let most = managed.policy.max_creates_per_day;
        let ledger = &self.services.ledger;
        let (from, to) = (time::before(now, time::DAY), time::after(now, time::DAY));
        let (count, oldest) = ledger.creates_between(&managed.name, from, to).await?;
        if count < most {
            return Ok(true);
        }
        let problem = format!(
            "max-creates-per-day is used up: {count} credentials were made, or maybe made, for {} \
             in 24 hours, and {most} are allowed",
            managed.name
        );
        if operator {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(true);
        }
        let free = oldest.map(|oldest| time::until(now, time::after(oldest, time::DAY)));
        let problem = format!("no rotation begun: {problem}; `rekeyd rotate` rotates all the same");
        self.record_backoff(&problem, free).await?;
        Ok(false)
    }

    /// Checks `max-live-credentials`. A credential that was stranded before any of
    /// its deliveries started, and was never used, is evicted: a crash loop must not
    /// end in a standstill.
    async fn enforce_live_limit(
        &mut self,
        managed: &ManagedKey,
        operator: bool,
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
        if operator {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(Readiness::Ready);
        }
        let stranded = self.state.live.iter().filter(|one| is_evictable(one));
        let candidates: Vec<_> = stranded.cloned().collect();
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

    /// Retires a credential that is evicted: its deletion is the next step, and
    /// decided again.
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

    /// Checks that the provider is reachable, accepts rekeyd's credential, and
    /// agrees on the time, unless it answered lately.
    async fn check_provider(&mut self) -> Result<Readiness, LedgerError> {
        let conditions = &self.services.conditions;
        if !conditions.has_recent_response(self.now()) {
            let turn = conditions.lock_diagnosis().await;
            if !conditions.has_recent_response(self.now()) && conditions.is_provider_usable() {
                let answer = self.services.provider.check().await;
                self.observe_response(&answer);
                drop(turn);
                if let Err(error) = answer {
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
    /// credential with its name means that a ledger was lost. All keys share one
    /// list.
    async fn check_no_lookalikes(&mut self) -> Result<Readiness, LedgerError> {
        let now = self.now();
        let fresh = self
            .context
            .reconciled_at
            .is_some_and(|at| at <= now && time::until(at, now) <= LISTING_FRESHNESS);
        if !fresh {
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
