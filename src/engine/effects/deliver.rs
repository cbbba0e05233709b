//! Delivers a secret to one sink, and runs its `on-change` command.

use std::sync::Arc;

use crate::core::change::{DeliveryResult, OnChangeState};
use crate::core::decide::outcome::{self, OverlapBounds};
use crate::core::ids::{RotationId, SinkId};
use crate::core::policy::{RetryClass, backoff_delay};
use crate::core::state::{DeliveryState, Rotation};
use crate::core::time;
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Acceptance, DeliveredPayload, DeliveryError, Payload, ReplacedCredential};

impl Worker {
    /// Delivers the secret to one sink.
    pub(crate) async fn deliver(
        &mut self,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<(), LedgerError> {
        let Some(row) = self.state.rotation(rotation).cloned() else {
            return Err(LedgerError::Corrupt(format!(
                "no rotation {rotation} to deliver"
            )));
        };
        let Some(managed) = self.managed.clone() else {
            return Ok(());
        };
        let Some((payload, target)) = self.payload(&row, &managed).zip(managed.sink(sink)) else {
            return Ok(());
        };
        // `Worker::reserve` took the place; it is free again when this returns.
        let place = self.delivery_place.take();
        let mut deliveries = row.deliveries.iter();
        let is_started =
            deliveries.any(|row| row.sink == *sink && row.state == DeliveryState::Uncertain);
        if !is_started {
            if let Some(problem) = self.first_write_problem(target).await? {
                drop(place);
                let error = DeliveryError::new(Acceptance::Rejected, problem);
                let result = self.failed_result(&row, &managed, sink, &error);
                return self.record_delivery_result(&row, &managed, result).await;
            }
            self.record(vec![outcome::start_delivery(&row, sink)])
                .await?;
        }
        let Some(delivered) = self
            .attempt_before_deadline(target.deliver_with_note(&payload))
            .await
        else {
            return Ok(());
        };
        drop(place);
        let Some(row) = self.state.rotation(rotation).cloned() else {
            return Ok(());
        };
        let result = match delivered {
            Ok(file) if target.has_on_change() => DeliveryResult {
                on_change: OnChangeState::Pending,
                file,
                ..DeliveryResult::uncertain(rotation, sink)
            },
            Ok(file) => DeliveryResult {
                file,
                ..self.accepted_result(rotation, sink)
            },
            Err(error) => self.failed_result(&row, &managed, sink, &error),
        };
        self.record_delivery_result(&row, &managed, result).await
    }

    /// Runs the `on-change` command of a sink whose file was written. Another process may
    /// have written the file, or the ledger may be an older backup, so the file is
    /// checked first: no command runs for a secret that the file does not hold.
    pub(crate) async fn run_on_change(
        &mut self,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<(), LedgerError> {
        let (Some(row), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Ok(());
        };
        let (Some(target), Some(credential)) = (managed.sink(sink), row.credential.clone()) else {
            return Ok(());
        };
        let place = self.delivery_place.take();
        let expected = self.services.provider.expected_secret(&credential);
        let Some(drift) = self
            .attempt_before_deadline(target.check_drift(&expected))
            .await
        else {
            return Ok(());
        };
        let result = if let Some(drift) = drift {
            // The secret is delivered again after a back-off, because another writer of
            // the file may overwrite it again.
            let error = DeliveryError::uncertain(drift.message);
            self.failed_result(&row, &managed, sink, &error)
        } else {
            let delivered = DeliveredPayload {
                key: managed.name.clone(),
                rotation: rotation.clone(),
                sequence: row.sequence,
                credential,
            };
            let Some(result) = self
                .attempt_before_deadline(target.run_on_change(&delivered))
                .await
            else {
                return Ok(());
            };
            match result {
                Ok(()) => self.accepted_result(rotation, sink),
                Err(problem) => {
                    let error = DeliveryError::uncertain(problem.message);
                    DeliveryResult {
                        on_change: OnChangeState::Failed,
                        ..self.failed_result(&row, &managed, sink, &error)
                    }
                }
            }
        };
        drop(place);
        self.record_delivery_result(&row, &managed, result).await
    }

    /// Returns the sink of the next pending delivery, if the delivery has a place now.
    pub(crate) fn place_for_next_delivery(&mut self, rotation: &Rotation) -> Option<SinkId> {
        let next = outcome::next_pending_sink(rotation)?.clone();
        let target = Arc::clone(self.managed.as_ref()?.sink(&next)?);
        // The worker reads what the target of a first delivery holds before it delivers.
        if !self.may_write(target.as_ref()) {
            return None;
        }
        let destination = target.destination();
        let has_place = self.take_delivery_place(destination);
        // Otherwise the step of the delivery takes the place.
        self.awaits = None;
        has_place.then_some(next)
    }

    async fn record_delivery_result(
        &mut self,
        rotation: &Rotation,
        managed: &ManagedKey,
        result: DeliveryResult,
    ) -> Result<(), LedgerError> {
        let in_flight = self.in_flight.as_ref();
        let in_flight = in_flight.filter(|in_flight| in_flight.rotation == rotation.id);
        let overlap = OverlapBounds::new(managed.policy.overlap, in_flight);
        let next_sink = self.place_for_next_delivery(rotation);
        let next_sink = next_sink.as_ref();
        let now = self.now();
        let changes =
            outcome::finish_delivery(rotation, result, &self.state, overlap, next_sink, now);
        self.record(changes).await
    }

    fn accepted_result(&self, rotation: &RotationId, sink: &SinkId) -> DeliveryResult {
        DeliveryResult {
            state: DeliveryState::Accepted,
            accepted_at: Some(self.overlap_start()),
            ..DeliveryResult::uncertain(rotation, sink)
        }
    }

    fn failed_result(
        &self,
        rotation: &Rotation,
        managed: &ManagedKey,
        sink: &SinkId,
        error: &DeliveryError,
    ) -> DeliveryResult {
        let now = self.now();
        let delivery = rotation
            .deliveries
            .iter()
            .find(|delivery| delivery.sink == *sink);
        let attempts = delivery.map_or(0, |delivery| delivery.attempts);
        let maybe_accepted = delivery.is_some_and(|delivery| delivery.maybe_accepted);
        let state = match error.acceptance {
            Acceptance::Uncertain => DeliveryState::Uncertain,
            Acceptance::NotAccepted | Acceptance::Rejected if maybe_accepted => {
                DeliveryState::Uncertain
            }
            Acceptance::NotAccepted | Acceptance::Rejected => DeliveryState::Refused,
        };
        let is_late = now >= time::after(rotation.started_at, managed.policy.delivery_deadline);
        let class = match error.acceptance {
            Acceptance::Rejected => RetryClass::FailingSink,
            Acceptance::NotAccepted | Acceptance::Uncertain if is_late => RetryClass::FailingSink,
            Acceptance::NotAccepted | Acceptance::Uncertain => RetryClass::Sink,
        };
        let retry_at = self.retry_time(backoff_delay(class, attempts + 1), error.retry_after);
        let planned = self.planned_retries.of_delivery(sink);
        let planned = planned.filter(|at| *at > now);
        DeliveryResult {
            state,
            retry_at: Some(planned.map_or(retry_at, |planned| planned.min(retry_at))),
            error: Some(error.message.clone()),
            ..DeliveryResult::uncertain(&rotation.id, sink)
        }
    }

    fn payload(&self, rotation: &Rotation, managed: &ManagedKey) -> Option<Payload> {
        let in_flight = self
            .in_flight
            .as_ref()
            .filter(|in_flight| in_flight.rotation == rotation.id)?;
        let verified_at = in_flight.verified_at?;
        Some(Payload {
            key: managed.name.clone(),
            rotation: rotation.id.clone(),
            sequence: rotation.sequence,
            label: rotation.label.clone()?,
            credential: rotation.credential.clone()?,
            secret: in_flight.secret.clone()?,
            verified_at,
            previous: in_flight
                .previous
                .clone()
                .map(|(id, not_before)| ReplacedCredential { id, not_before }),
        })
    }
}
