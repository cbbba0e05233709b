//! Delivers to one sink.

use crate::core::change::Answered;
use crate::core::conclude::{self, Overlap};
use crate::core::names::{RotationId, SinkId};
use crate::core::policy::{Waiting, back_off};
use crate::core::record::{DeliveryState, Rotation};
use crate::core::time;
use crate::engine::worker::{ManagedKey, Worker};
use crate::ledger::LedgerError;
use crate::sink::{DeliveryError, Parcel, Previous, Receipt, Taken};

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
        let answer = match target.deliver(&parcel).await {
            Ok(()) if target.has_after() => Answered {
                written: true,
                ..Answered::uncertain(rotation, sink)
            },
            Ok(()) => self.accepted(rotation, sink),
            Err(error) => self.not_accepted(&found, &managed, sink, &error),
        };
        self.answered(&found, &managed, answer).await
    }

    /// Runs what follows the change of a sink's file. It may have been another
    /// process that wrote the file, and its ledger an older one: what the file
    /// does not hold is not told to anybody.
    pub(crate) async fn run_after(
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
        let answer = if let Some(problem) = target.lost(&credential).await {
            // It is written once more, and not at once: whoever else writes
            // there may do it again.
            let error = DeliveryError {
                taken: Taken::Maybe,
                message: problem,
            };
            self.not_accepted(&found, &managed, sink, &error)
        } else {
            let taken = Receipt {
                key: managed.name.clone(),
                rotation: rotation.clone(),
                sequence: found.sequence,
                credential,
            };
            match target.after(&taken).await {
                Ok(()) => self.accepted(rotation, sink),
                Err(message) => Answered {
                    written: true,
                    ..self.not_accepted(
                        &found,
                        &managed,
                        sink,
                        &DeliveryError {
                            taken: Taken::Maybe,
                            message,
                        },
                    )
                },
            }
        };
        self.answered(&found, &managed, answer).await
    }

    async fn answered(
        &mut self,
        rotation: &Rotation,
        managed: &ManagedKey,
        answer: Answered,
    ) -> Result<(), LedgerError> {
        let memory = self.memory.as_ref();
        let memory = memory.filter(|memory| memory.rotation == rotation.id);
        let overlap = Overlap::of(managed.policy.overlap, memory);
        let now = self.now();
        let changes = conclude::answered(rotation, answer, &self.state, overlap, now);
        self.record(changes).await
    }

    fn accepted(&self, rotation: &RotationId, sink: &SinkId) -> Answered {
        Answered {
            state: DeliveryState::Accepted,
            accepted_at: Some(self.held_from()),
            ..Answered::uncertain(rotation, sink)
        }
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
            state,
            retry_at: Some(time::after(now, back_off(waiting, attempts + 1))),
            error: Some(error.message.clone()),
            ..Answered::uncertain(&rotation.id, sink)
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
}
