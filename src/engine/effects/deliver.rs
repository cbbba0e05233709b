//! Delivers to one sink.

use crate::core::change::DeliveryResult;
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
    /// Delivers to one sink.
    pub(crate) async fn deliver(
        &mut self,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<(), LedgerError> {
        let Some(found) = self.state.rotation(rotation).cloned() else {
            return Err(LedgerError::Corrupt(format!(
                "no rotation {rotation} to deliver"
            )));
        };
        let Some(managed) = self.managed.clone() else {
            return Ok(());
        };
        let Some((parcel, target)) = self.payload(&found, &managed).zip(managed.sink(sink)) else {
            return Ok(());
        };
        // Taken before (`Worker::reserve`), and free again when this returns.
        let place = self.delivery_place.take();
        let mut deliveries = found.deliveries.iter();
        let is_started =
            deliveries.any(|known| known.sink == *sink && known.state == DeliveryState::Uncertain);
        if !is_started {
            self.record(vec![outcome::start_delivery(&found, sink)])
                .await?;
        }
        let Some(delivered) = self.attempt_at_sink(target.deliver(&parcel)).await else {
            return Ok(());
        };
        drop(place);
        let Some(found) = self.state.rotation(rotation).cloned() else {
            return Ok(());
        };
        let answer = match delivered {
            Ok(()) if target.has_on_change() => DeliveryResult {
                is_written: true,
                ..DeliveryResult::uncertain(rotation, sink)
            },
            Ok(()) => self.accepted_result(rotation, sink),
            Err(error) => self.failed_result(&found, &managed, sink, &error),
        };
        self.record_delivery_result(&found, &managed, answer).await
    }

    /// Runs what follows the change of a sink's file. It may have been another
    /// process that wrote the file, and its ledger an older one: what the file
    /// does not hold is not told to anybody.
    pub(crate) async fn run_on_change(
        &mut self,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<(), LedgerError> {
        let (Some(found), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Ok(());
        };
        let (Some(target), Some(credential)) = (managed.sink(sink), found.credential.clone())
        else {
            return Ok(());
        };
        let place = self.delivery_place.take();
        let Some(drift) = self.attempt_at_sink(target.check_drift(&credential)).await else {
            return Ok(());
        };
        let answer = if let Some(drift) = drift {
            // It is written once more, and not at once: whoever else writes
            // there may do it again.
            let error = DeliveryError::uncertain(drift.message);
            self.failed_result(&found, &managed, sink, &error)
        } else {
            let taken = DeliveredPayload {
                key: managed.name.clone(),
                rotation: rotation.clone(),
                sequence: found.sequence,
                credential,
            };
            let Some(ended) = self.attempt_at_sink(target.run_on_change(&taken)).await else {
                return Ok(());
            };
            match ended {
                Ok(()) => self.accepted_result(rotation, sink),
                Err(problem) => {
                    let error = DeliveryError::uncertain(problem.message);
                    DeliveryResult {
                        is_written: true,
                        ..self.failed_result(&found, &managed, sink, &error)
                    }
                }
            }
        };
        drop(place);
        self.record_delivery_result(&found, &managed, answer).await
    }

    /// The sink of the next pending delivery, if it has a place for it now.
    pub(crate) fn place_for_next_delivery(&mut self, rotation: &Rotation) -> Option<SinkId> {
        let next = outcome::next_pending_sink(rotation)?.clone();
        let destination = self.managed.as_ref()?.sink(&next)?.destination();
        let has_place = self.take_delivery_place(destination);
        // It is asked again by the delivery itself.
        self.awaits = None;
        has_place.then_some(next)
    }

    async fn record_delivery_result(
        &mut self,
        rotation: &Rotation,
        managed: &ManagedKey,
        answer: DeliveryResult,
    ) -> Result<(), LedgerError> {
        let memory = self.in_flight.as_ref();
        let memory = memory.filter(|memory| memory.rotation == rotation.id);
        let overlap = OverlapBounds::new(managed.policy.overlap, memory);
        let starts = self.place_for_next_delivery(rotation);
        let now = self.now();
        let changes =
            outcome::finish_delivery(rotation, answer, &self.state, overlap, starts.as_ref(), now);
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
        let before = rotation
            .deliveries
            .iter()
            .find(|delivery| delivery.sink == *sink);
        let attempts = before.map_or(0, |delivery| delivery.attempts);
        let maybe_before = before.is_some_and(|delivery| delivery.maybe_accepted);
        let state = match error.acceptance {
            Acceptance::Uncertain => DeliveryState::Uncertain,
            Acceptance::NotAccepted | Acceptance::Rejected if maybe_before => {
                DeliveryState::Uncertain
            }
            Acceptance::NotAccepted | Acceptance::Rejected => DeliveryState::Refused,
        };
        let late = now >= time::after(rotation.started_at, managed.policy.delivery_deadline);
        let waiting = match error.acceptance {
            Acceptance::Rejected => RetryClass::FailingSink,
            Acceptance::NotAccepted | Acceptance::Uncertain if late => RetryClass::FailingSink,
            Acceptance::NotAccepted | Acceptance::Uncertain => RetryClass::Sink,
        };
        DeliveryResult {
            state,
            retry_at: Some(time::after(now, backoff_delay(waiting, attempts + 1))),
            error: Some(error.message.clone()),
            ..DeliveryResult::uncertain(&rotation.id, sink)
        }
    }

    fn payload(&self, rotation: &Rotation, managed: &ManagedKey) -> Option<Payload> {
        let memory = self
            .in_flight
            .as_ref()
            .filter(|memory| memory.rotation == rotation.id)?;
        let verified_at = memory.verified_at?;
        Some(Payload {
            key: managed.name.clone(),
            rotation: rotation.id.clone(),
            sequence: rotation.sequence,
            label: rotation.label.clone()?,
            credential: rotation.credential.clone()?,
            secret: memory.secret.clone()?,
            verified_at,
            previous: memory
                .previous
                .clone()
                .map(|(id, not_before)| ReplacedCredential { id, not_before }),
        })
    }
}
