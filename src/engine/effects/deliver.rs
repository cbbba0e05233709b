//! Delivers a secret to one sink, and runs its `on-change` command.

use std::sync::Arc;

use crate::core::change::{DeliveryResult, OnChangeState};
use crate::core::decide::outcome::{self, OverlapBounds};
use crate::core::ids::{RotationId, SinkId};
use crate::core::policy::{RetryClass, backoff_delay};
use crate::core::state::{Delivery, DeliveryState, Rotation};
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
        let delivery = delivery_to(&row, sink);
        let is_started = delivery.is_some_and(|row| row.state == DeliveryState::Uncertain);
        if !is_started {
            if let Some(problem) = self.first_write_problem(target).await? {
                drop(place);
                let may_hold = delivery.is_some_and(Delivery::may_have_received);
                let error = DeliveryError::new(Acceptance::Rejected, problem);
                let result = self.failed_result(&row, &managed, sink, &error, may_hold);
                return self.record_delivery_result(&row, &managed, result).await;
            }
            self.record(vec![outcome::start_delivery(&row, sink)])
                .await?;
        }
        self.note_recorded_access(target.as_ref()).await?;
        let may_hold = self.may_hold_before_attempt(&row, sink);
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
            Err(error) => self.failed_result(&row, &managed, sink, &error, may_hold),
        };
        self.record_delivery_result(&row, &managed, result).await
    }

    /// Returns whether the sink may hold the secret before the attempt that follows now:
    /// the refusal of this one is not certain then. A delivery that started and has no
    /// result was interrupted, by a deadline, by the end of a process or by a commit that
    /// failed, unless this process started it and has not attempted it yet.
    fn may_hold_before_attempt(&mut self, rotation: &Rotation, sink: &SinkId) -> bool {
        let in_flight = self.in_flight.as_mut();
        let in_flight = in_flight.filter(|in_flight| in_flight.rotation == rotation.id);
        let Some(in_flight) = in_flight else {
            return true;
        };
        let is_unattempted = in_flight.unattempted.take_if(|one| one == sink).is_some();
        let Some(delivery) = delivery_to(rotation, sink) else {
            return true;
        };
        in_flight.is_recovered
            || if is_unattempted {
                delivery.maybe_accepted || delivery.accepted_at.is_some()
            } else {
                delivery.may_have_received()
            }
    }

    /// Notes that the delivery to `started`, which the last commit started, was not
    /// attempted yet.
    pub(crate) fn note_unattempted(&mut self, rotation: &Rotation, started: Option<SinkId>) {
        let row = self.state.rotation(&rotation.id);
        let is_started = |sink: &SinkId| {
            let delivery = row.and_then(|row| delivery_to(row, sink));
            delivery.is_some_and(|delivery| delivery.state == DeliveryState::Uncertain)
        };
        let started = started.filter(is_started);
        let in_flight = self.in_flight.as_mut();
        if let Some(in_flight) = in_flight.filter(|one| one.rotation == rotation.id) {
            in_flight.unattempted = started;
        }
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
            self.failed_result(&row, &managed, sink, &error, true)
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
                        ..self.failed_result(&row, &managed, sink, &error, true)
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
        let now = self.now();
        let changes = outcome::finish_delivery(
            rotation,
            result,
            &self.state,
            overlap,
            next_sink.as_ref(),
            now,
        );
        self.record(changes).await?;
        self.note_unattempted(rotation, next_sink);
        Ok(())
    }

    fn accepted_result(&self, rotation: &RotationId, sink: &SinkId) -> DeliveryResult {
        DeliveryResult {
            state: DeliveryState::Accepted,
            accepted_at: Some(self.overlap_start()),
            ..DeliveryResult::uncertain(rotation, sink)
        }
    }

    /// Returns the result of an attempt that failed. A certain refusal does not undo that
    /// the sink may hold the secret by an earlier attempt.
    fn failed_result(
        &self,
        rotation: &Rotation,
        managed: &ManagedKey,
        sink: &SinkId,
        error: &DeliveryError,
        may_hold: bool,
    ) -> DeliveryResult {
        let now = self.now();
        let attempts = delivery_to(rotation, sink).map_or(0, |delivery| delivery.attempts);
        let state = match error.acceptance {
            Acceptance::Uncertain => DeliveryState::Uncertain,
            Acceptance::NotAccepted | Acceptance::Rejected if may_hold => DeliveryState::Uncertain,
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

fn delivery_to<'a>(rotation: &'a Rotation, sink: &SinkId) -> Option<&'a Delivery> {
    let mut deliveries = rotation.deliveries.iter();
    deliveries.find(|delivery| delivery.sink == *sink)
}
