//! The update of a key while changes are applied to it, and its result.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::core::apply::invariants::broken_invariant;
use crate::core::change::OperatorNote;
use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::ledger_event::{EVENT_DETAILS, LedgerEventKind};
use crate::core::lifecycle::{IllegalTransition, Phase};
use crate::core::state::{Delivery, KeyState, LastCurrent, Rotation};
use crate::core::time;

/// The result of changes that were applied.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedChanges {
    /// The key afterwards.
    pub state: KeyState,
    /// Each rotation that a change touched, in the order of the changes. One
    /// that is revoked or failed afterwards is not in [`KeyState::live`].
    pub rotations: Vec<RotationUpdate>,
    /// The events to append, in order.
    pub events: Vec<LedgerEvent>,
}

/// The effect of one change on a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationUpdate {
    /// The rotation as recorded; none if the change starts it.
    pub before: Option<Rotation>,
    /// The rotation to record.
    pub after: Rotation,
}

/// An entry of the ledger's event log.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEvent {
    /// The rotation that the event is about, if it is about one.
    pub rotation: Option<RotationId>,
    /// What it is about.
    pub event: LedgerEventKind,
    /// The event's details, a JSON object without nulls.
    pub detail: Value,
}

/// The reason why a change cannot be applied to a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The rotation's phase does not allow the event.
    #[error(transparent)]
    IllegalTransition(#[from] IllegalTransition),
    /// The key has no such live rotation.
    #[error("key {key} has no live rotation {rotation}")]
    UnknownRotation {
        /// The key.
        key: KeyName,
        /// The rotation.
        rotation: RotationId,
    },
    /// The rotation has no delivery to the sink.
    #[error("rotation {rotation} has no delivery to {sink}")]
    UnknownSink {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// The sequence of a new rotation is not greater than the last one.
    #[error("the sequence {sequence} of a rotation of {key} does not follow {last}")]
    SequenceNotGreater {
        /// The key.
        key: KeyName,
        /// The sequence.
        sequence: u64,
        /// The key's last sequence.
        last: u64,
    },
    /// The rotation would break a rule of the ledger.
    #[error("rotation {rotation} cannot be {phase}: {problem}")]
    Impossible {
        /// The rotation.
        rotation: RotationId,
        /// The phase that it would have.
        phase: Phase,
        /// The rule that it would break.
        problem: &'static str,
    },
}

/// A key to which changes are being applied.
pub(super) struct KeyUpdate {
    /// When the changes are recorded.
    pub(super) at: Timestamp,
    pub(super) state: KeyState,
    /// The rotations that ended by an earlier change.
    ended: Vec<Rotation>,
    rotations: Vec<RotationUpdate>,
    events: Vec<LedgerEvent>,
}

impl KeyUpdate {
    pub(super) fn new(state: &KeyState, at: Timestamp) -> Self {
        Self {
            at: time::whole_seconds(at),
            state: state.clone(),
            ended: Vec::new(),
            rotations: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> AppliedChanges {
        AppliedChanges {
            state: self.state,
            rotations: self.rotations,
            events: self.events,
        }
    }

    /// Adds a rotation that starts, with the sequence after the key's last one.
    pub(super) fn start_rotation(&mut self, rotation: Rotation) -> Result<(), ApplyError> {
        let last = self.state.sequence;
        // SQLite's integers are signed.
        if rotation.sequence <= last || i64::try_from(rotation.sequence).is_err() {
            return Err(ApplyError::SequenceNotGreater {
                key: self.state.key.clone(),
                sequence: rotation.sequence,
                last,
            });
        }
        self.state.sequence = rotation.sequence;
        self.put_rotation(None, rotation)
    }

    /// Changes a rotation that is live or ended by an earlier change.
    pub(super) fn update_rotation(
        &mut self,
        id: &RotationId,
        change: impl FnOnce(&mut Rotation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let before = self.find_rotation(id)?.clone();
        let mut after = before.clone();
        change(&mut after)?;
        self.put_rotation(Some(before), after)
    }

    /// Changes a delivery of a rotation that is live or ended by an earlier change.
    pub(super) fn update_delivery(
        &mut self,
        id: &RotationId,
        sink: &SinkId,
        change: impl FnOnce(&mut Delivery),
    ) -> Result<(), ApplyError> {
        self.update_rotation(id, |rotation| {
            let mut deliveries = rotation.deliveries.iter_mut();
            let found = deliveries.find(|delivery| delivery.sink == *sink);
            let delivery = found.ok_or_else(|| ApplyError::UnknownSink {
                rotation: id.clone(),
                sink: sink.clone(),
            })?;
            change(delivery);
            Ok(())
        })
    }

    /// Returns a rotation that is live or ended by an earlier change.
    pub(super) fn find_rotation(&self, id: &RotationId) -> Result<&Rotation, ApplyError> {
        let ended = || self.ended.iter().find(|rotation| rotation.id == *id);
        self.state
            .rotation(id)
            .or_else(ended)
            .ok_or_else(|| ApplyError::UnknownRotation {
                key: self.state.key.clone(),
                rotation: id.clone(),
            })
    }

    /// Replaces `before` by `after`, among the live or the ended rotations by its
    /// phase.
    pub(super) fn put_rotation(
        &mut self,
        before: Option<Rotation>,
        after: Rotation,
    ) -> Result<(), ApplyError> {
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        self.state.live.retain(|rotation| rotation.id != after.id);
        self.ended.retain(|rotation| rotation.id != after.id);
        if let Some(problem) = broken_invariant(&self.state.live, &after) {
            return Err(ApplyError::Impossible {
                rotation: after.id,
                phase: after.phase,
                problem,
            });
        }
        if after.sequence == self.state.sequence {
            self.state.newest_phase = Some(after.phase_as_newest());
        }
        let last = self.state.last_current.map_or(0, |last| last.sequence);
        if after.current_at.is_some() && after.sequence >= last {
            self.state.last_current = Some(LastCurrent {
                sequence: after.sequence,
                is_revoked: after.phase == Phase::Revoked,
            });
        }
        if after.phase.is_ended() {
            self.ended.push(after.clone());
        } else {
            let live = &mut self.state.live;
            let index = live.partition_point(|other| other.sequence < after.sequence);
            live.insert(index, after.clone());
        }
        self.rotations.push(RotationUpdate { before, after });
        Ok(())
    }

    /// Appends an event, without the members of `detail` that are null.
    pub(super) fn append_event(
        &mut self,
        rotation: Option<&RotationId>,
        event: impl Into<LedgerEventKind>,
        mut detail: Value,
    ) {
        if let Value::Object(members) = &mut detail {
            members.retain(|_, value| !value.is_null());
            let is_known = |name: &String| EVENT_DETAILS.contains(&name.as_str());
            debug_assert!(members.keys().all(is_known), "{members:?}");
        }
        self.events.push(LedgerEvent {
            rotation: rotation.cloned(),
            event: event.into(),
            detail,
        });
    }
}

/// The operator's reason.
pub(super) fn operator_reason(operator: Option<&OperatorNote>) -> Option<&str> {
    operator?.reason.as_deref()
}

/// The operator's name.
pub(super) fn operator_name(operator: Option<&OperatorNote>) -> Option<&str> {
    operator.map(|operator| operator.by.as_str())
}

/// Returns the details of an event about a sink.
pub(super) fn sink_detail(sink: &SinkId, reason: Option<&str>) -> Value {
    json!({"sink": sink.name, "target": sink.target, "reason": reason})
}
