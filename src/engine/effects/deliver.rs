//! Delivers to one sink, and looks whether sinks still have what they took.

use crate::core::change::{Answered, Change};
use crate::core::names::{RotationId, SinkId};
use crate::core::policy::{Waiting, back_off};
use crate::core::record::{DeliveryState, Rotation};
use crate::core::{conclude, time};
use crate::engine::worker::{ManagedKey, Worker};
use crate::ledger::LedgerError;
use crate::sink::{DeliveryError, Parcel, Previous, Taken};

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
        let Some((parcel, target)) = self.parcel(&found, &managed).zip(managed.sink(sink)) else {
            return Ok(());
        };
        let outcome = target.deliver(&parcel).await;
        let now = self.now();
        let answer = match outcome {
            Ok(()) => Answered {
                rotation: rotation.clone(),
                sink: sink.clone(),
                state: DeliveryState::Accepted,
                accepted_at: Some(self.held_from()),
                retry_at: None,
                error: None,
            },
            Err(error) => self.not_accepted(&found, &managed, sink, &error),
        };
        let changes = conclude::answered(&found, answer, &self.state, managed.policy.overlap, now);
        self.record(changes).await
    }

    fn not_accepted(
        &self,
        rotation: &Rotation,
        managed: &ManagedKey,
        sink: &SinkId,
        error: &DeliveryError,
    ) -> Answered {
        let now = self.now();
        let before = rotation
            .deliveries
            .iter()
            .find(|delivery| delivery.sink == *sink);
        let attempts = before.map_or(0, |delivery| delivery.attempts);
        let maybe_before = before.is_some_and(|delivery| delivery.maybe_taken);
        let state = match error.taken {
            Taken::Maybe => DeliveryState::Uncertain,
            Taken::No | Taken::Refused if maybe_before => DeliveryState::Uncertain,
            Taken::No | Taken::Refused => DeliveryState::Refused,
        };
        let late = now >= time::after(rotation.started_at, managed.policy.deliver_for);
        let waiting = match error.taken {
            Taken::Refused => Waiting::StubbornSink,
            Taken::No | Taken::Maybe if late => Waiting::StubbornSink,
            Taken::No | Taken::Maybe => Waiting::Sink,
        };
        Answered {
            rotation: rotation.id.clone(),
            sink: sink.clone(),
            state,
            accepted_at: None,
            retry_at: Some(time::after(now, back_off(waiting, attempts + 1))),
            error: Some(error.message.clone()),
        }
    }

    fn parcel(&self, rotation: &Rotation, managed: &ManagedKey) -> Option<Parcel> {
        let memory = self
            .memory
            .as_ref()
            .filter(|memory| memory.rotation == rotation.id)?;
        let verified_at = memory.verified_at?;
        Some(Parcel {
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
                .map(|(id, not_before)| Previous { id, not_before }),
        })
    }

    /// Asks the sinks of the current credential whether they still have what
    /// they accepted. What is gone is made good by a new rotation.
    pub(crate) async fn look_at_sinks(&mut self) -> Result<(), LedgerError> {
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current().cloned())
        else {
            return Ok(());
        };
        let Some(credential) = &current.credential else {
            return Ok(());
        };
        let mut changes = Vec::new();
        for delivery in &current.deliveries {
            let accepted = delivery.state == DeliveryState::Accepted;
            let sink = managed.sink(&delivery.sink).filter(|_| accepted);
            let Some(sink) = sink else { continue };
            if let Some(problem) = sink.lost(credential).await {
                changes.push(Change::TargetLost {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    problem,
                });
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.record(changes).await
    }
}
