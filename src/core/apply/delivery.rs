//! Applies changes to a delivery of a rotation to a sink.

use crate::core::apply::sighting;
use crate::core::apply::update::{ApplyError, KeyUpdate, sink_detail};
use crate::core::change::{AddedSink, DeliveryChange, DeliveryResult, OnChangeState};
use crate::core::ids::{RotationId, SinkId};
use crate::core::ledger_event::LedgerEventKind;
use crate::core::state::{Delivery, DeliveryState};
use crate::core::time;

pub(super) fn apply_change(
    update: &mut KeyUpdate,
    change: &DeliveryChange,
) -> Result<(), ApplyError> {
    let at = update.at;
    match change {
        DeliveryChange::Started(start) => {
            let (rotation, sink) = (&start.rotation, &start.sink);
            let event = LedgerEventKind::DeliveryStarted;
            set(update, rotation, sink, event, |delivery| {
                delivery.state = DeliveryState::Uncertain;
                // A start after a kill counts from it.
                delivery.last_attempt_at = Some(time::whole_seconds(at));
            })
        }
        DeliveryChange::Finished(result) => finish(update, result),
        DeliveryChange::Skipped(skipped) => {
            let (rotation, sink) = (&skipped.rotation, &skipped.sink);
            let event = LedgerEventKind::DeliverySkipped;
            set(update, rotation, sink, event, |delivery| {
                keep_interrupted_attempt(delivery);
                delivery.state = DeliveryState::Missed;
                (delivery.written_at, delivery.retry_at) = (None, None);
            })
        }
        DeliveryChange::SinkAdded(added) => add_sink(update, added),
        DeliveryChange::SinkRemoved(removed) => {
            let (rotation, sink) = (&removed.rotation, &removed.sink);
            let event = LedgerEventKind::SinkRemoved;
            set(update, rotation, sink, event, |delivery| {
                keep_interrupted_attempt(delivery);
                delivery.state = DeliveryState::Removed;
                (delivery.written_at, delivery.retry_at) = (None, None);
                delivery.removed_at = removed.removed_at.map(time::whole_seconds);
                let ended_at = delivery.removed_at.unwrap_or(at);
                sighting::end(delivery, ended_at);
            })
        }
        DeliveryChange::SinkReturned(returned) => {
            let (rotation, sink) = (&returned.rotation, &returned.sink);
            let event = LedgerEventKind::SinkReturned;
            set(update, rotation, sink, event, |delivery| {
                let is_accepted = returned.is_unchanged && delivery.accepted_at.is_some();
                delivery.state = if is_accepted {
                    DeliveryState::Accepted
                } else {
                    DeliveryState::Uncertain
                };
                delivery.removed_at = None;
                // Nobody knows what came into the target meanwhile.
                delivery.maybe_accepted &= delivery.accepted_at.is_none();
            })
        }
        DeliveryChange::SinkRequirementChanged(change) => {
            update.update_delivery(&change.rotation, &change.sink, |delivery| {
                delivery.required = change.required;
            })
        }
        DeliveryChange::SinkDrifted(drift) => {
            // The sink still holds the secret: its consumers may have read it.
            update.update_delivery(&drift.rotation, &drift.sink, |delivery| {
                delivery.state = DeliveryState::Uncertain;
                delivery.maybe_accepted = true;
                delivery.file = None;
                delivery.error = Some(drift.problem.clone());
            })?;
            let detail = sink_detail(&drift.sink, Some(&drift.problem));
            update.append_event(Some(&drift.rotation), LedgerEventKind::SinkDrifted, detail);
            Ok(())
        }
        DeliveryChange::FileAccessSeen(seen) => {
            update.update_delivery(&seen.rotation, &seen.sink, |delivery| {
                delivery.file_access = Some(seen.access);
            })?;
            let detail = sink_detail(&seen.sink, Some(&seen.access.to_string()));
            let event = LedgerEventKind::FileAccessRecorded;
            update.append_event(Some(&seen.rotation), event, detail);
            Ok(())
        }
        DeliveryChange::FileAccessCompared(compared) => {
            let problem = &compared.problem;
            update.update_delivery(&compared.rotation, &compared.sink, |delivery| {
                // The error of any other delivery is why it was not accepted.
                if delivery.state == DeliveryState::Accepted {
                    delivery.error.clone_from(problem);
                }
            })?;
            let detail = sink_detail(&compared.sink, problem.as_deref());
            let event = match problem {
                Some(_) => LedgerEventKind::FileAccessDiffers,
                None => LedgerEventKind::FileAccessRestored,
            };
            update.append_event(Some(&compared.rotation), event, detail);
            Ok(())
        }
        DeliveryChange::FileNarrowed(narrowed) => {
            // What is recorded stays: it is what the file has again.
            update.update_delivery(&narrowed.rotation, &narrowed.sink, |_| {})?;
            let change = format!(
                "from mode {:04o} to {:04o}",
                narrowed.mode.from, narrowed.mode.to
            );
            let detail = sink_detail(&narrowed.sink, Some(&change));
            let event = LedgerEventKind::FileNarrowed;
            update.append_event(Some(&narrowed.rotation), event, detail);
            Ok(())
        }
        DeliveryChange::RepairWithdrawn(withdrawn) => {
            update.update_delivery(&withdrawn.rotation, &withdrawn.sink, |delivery| {
                if delivery.accepted_at.is_some() {
                    delivery.state = DeliveryState::Accepted;
                    (delivery.written_at, delivery.error) = (None, None);
                }
            })
        }
        DeliveryChange::RetiredSeen(seen) => sighting::begin(update, seen),
        DeliveryChange::SightingEnded(ended) => {
            let (rotation, sink) = (&ended.rotation, &ended.sink);
            let event = LedgerEventKind::SightingEnded;
            set(update, rotation, sink, event, |delivery| {
                sighting::end(delivery, time::whole_seconds(ended.at));
            })
        }
    }
}

/// Records that the sink may have accepted an attempt without a result: the state that
/// follows does not show that one started.
fn keep_interrupted_attempt(delivery: &mut Delivery) {
    delivery.maybe_accepted |=
        delivery.state == DeliveryState::Uncertain && delivery.accepted_at.is_none();
}

/// Changes a delivery and appends an event about its sink.
fn set(
    update: &mut KeyUpdate,
    rotation: &RotationId,
    sink: &SinkId,
    event: LedgerEventKind,
    change: impl FnOnce(&mut Delivery),
) -> Result<(), ApplyError> {
    update.update_delivery(rotation, sink, change)?;
    update.append_event(Some(rotation), event, sink_detail(sink, None));
    Ok(())
}

fn finish(update: &mut KeyUpdate, result: &DeliveryResult) -> Result<(), ApplyError> {
    let at = update.at;
    update.update_delivery(&result.rotation, &result.sink, |delivery| {
        delivery.state = result.state;
        // A later refusal does not undo an earlier attempt that may have been
        // accepted.
        delivery.maybe_accepted |= result.state == DeliveryState::Uncertain;
        delivery.attempts = delivery.attempts.saturating_add(1);
        delivery.last_attempt_at = Some(at);
        let accepted_at = result.accepted_at.map(time::whole_seconds);
        delivery.accepted_at = accepted_at.or(delivery.accepted_at);
        delivery.retry_at = result.retry_at.map(time::whole_seconds);
        delivery.error.clone_from(&result.error);
        let written_at = delivery.written_at.or(Some(at));
        delivery.written_at = written_at.filter(|_| result.on_change.is_outstanding());
        let is_unchanged =
            result.state == DeliveryState::Accepted || result.on_change.is_outstanding();
        let note = result.file.and_then(|left| left.note);
        delivery.file = note.or(delivery.file.filter(|_| is_unchanged));
        let access = result.file.and_then(|left| left.access);
        delivery.file_access = access.or(delivery.file_access);
    })?;
    if result.state == DeliveryState::Accepted {
        let accepted_at = result.accepted_at.map_or(at, time::whole_seconds);
        sighting::end_older(update, &result.rotation, &result.sink, accepted_at)?;
    }
    let event = match (result.on_change, result.state) {
        (OnChangeState::Pending, _) => LedgerEventKind::DeliveryWritten,
        (OnChangeState::Failed, _) => LedgerEventKind::OnChangeFailed,
        (OnChangeState::NotPending, DeliveryState::Pending | DeliveryState::Uncertain) => {
            LedgerEventKind::DeliveryUncertain
        }
        (OnChangeState::NotPending, DeliveryState::Accepted) => LedgerEventKind::DeliveryAccepted,
        (OnChangeState::NotPending, DeliveryState::Refused) => LedgerEventKind::DeliveryRefused,
        (OnChangeState::NotPending, DeliveryState::Missed) => LedgerEventKind::DeliverySkipped,
        (OnChangeState::NotPending, DeliveryState::Removed) => LedgerEventKind::SinkRemoved,
    };
    let detail = sink_detail(&result.sink, result.error.as_deref());
    update.append_event(Some(&result.rotation), event, detail);
    Ok(())
}

/// Adds a delivery to a sink, unless the rotation has one already.
fn add_sink(update: &mut KeyUpdate, added: &AddedSink) -> Result<(), ApplyError> {
    update.update_rotation(&added.rotation, |row| {
        let mut deliveries = row.deliveries.iter();
        if !deliveries.any(|delivery| delivery.sink == added.sink) {
            let sink = (added.sink.clone(), added.required);
            row.add_deliveries(&[sink], DeliveryState::Pending);
        }
        Ok(())
    })?;
    let detail = sink_detail(&added.sink, None);
    update.append_event(Some(&added.rotation), LedgerEventKind::SinkAdded, detail);
    Ok(())
}
