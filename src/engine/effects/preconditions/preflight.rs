//! Whether the required sinks can receive a secret, before a rotation starts.

use std::time::Duration;

use crate::core::ids::SinkId;
use crate::core::time;
use crate::engine::effects::preconditions::Readiness;
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::{Preflight, Worker};
use crate::ledger::LedgerError;
use crate::sink::{Destination, Sink, SinkError};

/// How long a rotation may wait for its place at the provider before its endpoints are
/// checked again.
const PREFLIGHT_VALIDITY: Duration = Duration::from_secs(2 * 60);

/// How long the check of a file or a program may take before the key gives back its
/// place at the provider.
const LOCAL_PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(1);

impl Worker {
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
        let problem = format!("sink {}: {error}", sink.name);
        self.record_backoff(&problem, None).await?;
        // The recorded problem is the reply to the request.
        self.request = None;
        Ok(false)
    }

    /// Checks the required sinks on this host; the endpoints were checked before the
    /// rotation got its place at the provider. If a check takes long, the key gives that
    /// place back.
    pub(super) async fn check_local_sinks(
        &mut self,
        managed: &ManagedKey,
    ) -> Result<Readiness, LedgerError> {
        for (sink, is_required) in &managed.sinks {
            if !*is_required || is_endpoint(sink.as_ref()) || self.has_passed_preflight(sink.id()) {
                continue;
            }
            self.note_recorded_access(sink.as_ref()).await?;
            let mut check = std::pin::pin!(sink.preflight());
            let in_time = tokio::time::timeout(LOCAL_PREFLIGHT_TIMEOUT, &mut check).await;
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
}

fn is_endpoint(sink: &dyn Sink) -> bool {
    match sink.destination() {
        Destination::Endpoint { .. } => true,
        Destination::File | Destination::Program => false,
    }
}
