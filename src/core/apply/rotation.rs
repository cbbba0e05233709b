//! Applies changes to a rotation and its credential.

use jiff::Timestamp;
use serde_json::json;

use crate::core::apply::update::{
    ApplyError, KeyUpdate, operator_name, operator_reason, sink_detail,
};
use crate::core::change::{
    CredentialUpdate, OverlapExtension, RejectedAnswer, RevocationDeferral, RotationChange,
    RotationIntent, Transition,
};
use crate::core::ids::RotationId;
use crate::core::ledger_event::LedgerEventKind;
use crate::core::lifecycle::{self, LifecycleEvent, Phase};
use crate::core::state::{CredentialMetadata, DeliveryState, MissingSince, Rotation};
use crate::core::time;

pub(super) fn apply_change(
    update: &mut KeyUpdate,
    change: &RotationChange,
) -> Result<(), ApplyError> {
    let at = update.at;
    match change {
        RotationChange::Started(intent) => start(update, intent),
        RotationChange::Transitioned(moved) => transition(update, moved),
        RotationChange::CredentialNamed(named) => {
            update.update_rotation(&named.rotation, |row| {
                row.name = Some(named.name.clone());
                Ok(())
            })?;
            let detail = json!({"name": named.name});
            update.append_event(
                Some(&named.rotation),
                LedgerEventKind::CredentialNamed,
                detail,
            );
            Ok(())
        }
        RotationChange::CredentialUpdated(shown) => update_credential(update, shown),
        RotationChange::AnswerRejected(rejected) => reject_answer(update, rejected),
        RotationChange::RetryScheduled(retry) => update.update_rotation(&retry.rotation, |row| {
            row.attempt = retry.attempt;
            row.retry_at = Some(not_after_deadline(row, retry.retry_at, at));
            row.error = Some(retry.error.clone());
            row.final_warning = false;
            Ok(())
        }),
        RotationChange::OverlapExtended(extension) => extend_overlap(update, extension),
        RotationChange::RevocationDeferred(deferral) => defer_revocation(update, deferral),
        RotationChange::CredentialMissing(found) => {
            set_missing(update, &found.rotation, Some(found.missing))
        }
        RotationChange::CredentialFound(found) => set_missing(update, &found.rotation, None),
        RotationChange::SecretRecovered(recovered) => {
            update.update_rotation(&recovered.rotation, |row| {
                (row.attempt, row.retry_at, row.error) = (0, None, None);
                Ok(())
            })?;
            let detail = sink_detail(&recovered.sink, None);
            update.append_event(
                Some(&recovered.rotation),
                LedgerEventKind::SecretRecovered,
                detail,
            );
            Ok(())
        }
        RotationChange::DuplicateRevoked(duplicate) => {
            // The row's own credential may have ended long ago, so only the event is
            // recorded.
            let detail = json!({"credential_id": duplicate.credential});
            update.append_event(
                Some(&duplicate.rotation),
                LedgerEventKind::DuplicateRevoked,
                detail,
            );
            Ok(())
        }
    }
}

fn start(update: &mut KeyUpdate, intent: &RotationIntent) -> Result<(), ApplyError> {
    let phase = lifecycle::next_phase(None, LifecycleEvent::Started)?;
    let mut rotation = Rotation::new(
        intent.rotation.clone(),
        intent.scope.clone(),
        intent.sequence,
        intent.trigger,
        phase,
        update.at,
    );
    rotation.scheduled_for = intent.scheduled_for.map(time::whole_seconds);
    rotation.not_created_before = intent.not_created_before.map(time::whole_seconds);
    rotation.label = Some(intent.label.clone());
    rotation.name = Some(intent.label.as_str().to_owned());
    rotation.maybe_created = true;
    rotation.add_deliveries(&intent.sinks, DeliveryState::Pending);
    if update.state.newest_phase == Some(Phase::Current) {
        update.state.replace_targets.clear();
    }
    update.start_rotation(rotation)?;
    update.state.timetable = Some(intent.timetable.clone());
    update.state.pending_run = None;
    update.state.due_run = None;
    let operator = intent.operator.as_ref();
    let detail = json!({
        "to": phase.as_str(), "trigger": intent.trigger.as_str(), "label": intent.label,
        "scheduled_for": intent.scheduled_for.map(time::to_text),
        "reason": operator_reason(operator), "by": operator_name(operator),
    });
    update.append_event(Some(&intent.rotation), LifecycleEvent::Started, detail);
    Ok(())
}

fn transition(update: &mut KeyUpdate, moved: &Transition) -> Result<(), ApplyError> {
    let live = update.find_rotation(&moved.rotation).cloned();
    let ended = moved.ended_row.as_deref();
    let ended = ended.filter(|row| row.id == moved.rotation && row.phase.is_ended());
    let before = live.or_else(|error| ended.cloned().ok_or(error))?;
    let (from, to) = (
        before.phase,
        lifecycle::next_phase(Some(before.phase), moved.event)?,
    );
    let mut row = before.clone();
    row.phase = to;
    (row.attempt, row.retry_at, row.missing) = (0, None, None);
    // Why it was not revoked yet says nothing of one that is.
    if to == Phase::Revoked && row.deferral.is_some() {
        row.error = None;
    }
    (row.deferred_since, row.deferral, row.final_warning) = (None, None, false);
    row.maybe_created &= moved.event != LifecycleEvent::NotCreated;
    let new_name = moved.name.as_ref();
    let new_name = new_name.filter(|name| Some(*name) != row.name.as_ref());
    row.name = new_name.or(row.name.as_ref()).cloned();
    row.has_wrong_redaction |= moved.has_wrong_redaction;
    if let Some(credential) = &moved.credential {
        merge_credential(&mut row, credential)?;
    }
    match to {
        Phase::Current => row.current_at = Some(update.at),
        Phase::Retired => row.retired_at = Some(update.at),
        Phase::Stranded => row.stranded_at = Some(update.at),
        Phase::Revoked => row.revoked_at = Some(update.at),
        Phase::Orphaned => {
            // It may have been recorded as revoked by mistake.
            row.revoked_at = None;
            // A process whose commits this ledger lacks may have delivered what a create
            // made that was given up.
            if from == Phase::Failed {
                row.stranded_at = Some(update.at);
            }
        }
        Phase::Intended | Phase::Created | Phase::Verified | Phase::Failed => {}
    }
    let revoke_after = moved.revoke_after.map(time::whole_seconds);
    row.revoke_after = revoke_after.or(row.revoke_after);
    match (&moved.error, to) {
        (Some(error), _) => row.error = Some(error.clone()),
        (None, Phase::Created | Phase::Verified | Phase::Current) => row.error = None,
        (None, _) => {}
    }
    if to == Phase::Current {
        // The approval of an operator holds for retries alone, and for the optional sinks
        // that this rotation has yet to reach.
        let outstanding = row.deliveries.iter().filter(|one| one.is_outstanding());
        let outstanding: Vec<_> = outstanding.map(|one| &one.sink.target).collect();
        let targets = &mut update.state.replace_targets;
        targets.retain(|target| outstanding.contains(&target));
    }
    update.put_rotation(Some(before), row)?;
    if to == Phase::Current {
        (update.state.dropped_run, update.state.dropped_runs) = (None, 0);
    }
    let operator = moved.operator.as_ref();
    let detail = json!({
        "from": from.as_str(), "to": to.as_str(),
        "credential_id": moved.credential.as_ref().map(|credential| &credential.id),
        "name": new_name,
        "revoke_after": moved.revoke_after.map(time::to_text),
        "reason": operator_reason(operator).or(moved.error.as_deref()),
        "by": operator_name(operator),
    });
    update.append_event(Some(&moved.rotation), moved.event, detail);
    Ok(())
}

fn update_credential(update: &mut KeyUpdate, shown: &CredentialUpdate) -> Result<(), ApplyError> {
    let mut detail = json!({});
    update.update_rotation(&shown.rotation, |row| {
        if row.credential.is_none() {
            return Err(ApplyError::Impossible {
                rotation: row.id.clone(),
                phase: row.phase,
                problem: "it has no credential",
            });
        }
        merge_credential(row, &shown.credential)?;
        if let Some(credential) = row.credential.as_mut().filter(|_| shown.is_endless) {
            credential.expires_at = None;
        }
        let credential = row.credential.as_ref();
        let created_at = credential.and_then(|credential| credential.created_at);
        let expires_at = credential.and_then(|credential| credential.expires_at);
        detail = json!({
            "redacted_value": credential.and_then(|one| one.redacted_value.as_deref()),
            "created_at": created_at.map(time::to_text),
            "expires_at": expires_at.map(time::to_text),
        });
        Ok(())
    })?;
    update.append_event(
        Some(&shown.rotation),
        LedgerEventKind::CredentialUpdated,
        detail,
    );
    Ok(())
}

fn reject_answer(update: &mut KeyUpdate, rejected: &RejectedAnswer) -> Result<(), ApplyError> {
    update.update_rotation(&rejected.rotation, |row| {
        row.is_answer_rejected = true;
        Ok(())
    })?;
    let detail = json!({"reason": rejected.problem, "doubt": rejected.is_doubt});
    update.append_event(
        Some(&rejected.rotation),
        LedgerEventKind::AnswerRejected,
        detail,
    );
    Ok(())
}

/// Updates a row's credential by `observed`; a field that `observed` lacks keeps its
/// value.
fn merge_credential(row: &mut Rotation, observed: &CredentialMetadata) -> Result<(), ApplyError> {
    let recorded = row.credential.take();
    if recorded
        .as_ref()
        .is_some_and(|recorded| recorded.id != observed.id)
    {
        return Err(ApplyError::Impossible {
            rotation: row.id.clone(),
            phase: row.phase,
            problem: "it has another credential",
        });
    }
    let recorded = recorded.as_ref();
    let redacted = observed.redacted_value.clone();
    let created_at = observed.created_at.map(time::whole_seconds);
    let expires_at = observed.expires_at.map(time::whole_seconds);
    row.credential = Some(CredentialMetadata {
        id: observed.id.clone(),
        redacted_value: redacted.or_else(|| recorded?.redacted_value.clone()),
        created_at: created_at.or_else(|| recorded?.created_at),
        expires_at: expires_at.or_else(|| recorded?.expires_at),
    });
    Ok(())
}

/// Extends the overlap of a retired credential; in any other phase, none is running.
fn extend_overlap(update: &mut KeyUpdate, extension: &OverlapExtension) -> Result<(), ApplyError> {
    let revoke_after = time::whole_seconds(extension.revoke_after);
    update.update_rotation(&extension.rotation, |row| {
        if row.phase == Phase::Retired {
            row.revoke_after = row.revoke_after.max(Some(revoke_after));
        }
        Ok(())
    })?;
    let detail = json!({"revoke_after": time::to_text(revoke_after)});
    update.append_event(
        Some(&extension.rotation),
        LedgerEventKind::OverlapExtended,
        detail,
    );
    Ok(())
}

/// Defers a revocation. It is decided again every quarter of an hour, so only the
/// first deferral for a reason and a final warning are events.
fn defer_revocation(
    update: &mut KeyUpdate,
    deferral: &RevocationDeferral,
) -> Result<(), ApplyError> {
    let before = update.find_rotation(&deferral.rotation)?;
    let is_repeated =
        before.deferral == Some(deferral.kind) && before.final_warning == deferral.final_warning;
    // What a file shows has a bound of its own.
    let goes_on = before.deferral == Some(deferral.kind) || !deferral.kind.is_by_files();
    let at = update.at;
    update.update_rotation(&deferral.rotation, |row| {
        row.attempt = 0;
        row.retry_at = Some(not_after_deadline(row, deferral.retry_at, at));
        row.error = Some(deferral.reason.clone());
        row.deferred_since = row.deferred_since.filter(|_| goes_on).or(Some(at));
        row.deferral = Some(deferral.kind);
        row.final_warning = deferral.final_warning;
        Ok(())
    })?;
    if !is_repeated {
        let until = time::to_text(deferral.retry_at);
        let detail = json!({"until": until, "reason": deferral.reason});
        update.append_event(
            Some(&deferral.rotation),
            LedgerEventKind::RevocationDeferred,
            detail,
        );
    }
    Ok(())
}

/// Returns when a step is tried again: no deferral or back-off from before a credential's
/// deadline lasts beyond it.
fn not_after_deadline(row: &Rotation, retry_at: Timestamp, now: Timestamp) -> Timestamp {
    let retry_at = time::whole_seconds(retry_at);
    match row.deadline {
        Some(deadline) if deadline.at > now => retry_at.min(deadline.at),
        Some(_) | None => retry_at,
    }
}

fn set_missing(
    update: &mut KeyUpdate,
    rotation: &RotationId,
    missing: Option<MissingSince>,
) -> Result<(), ApplyError> {
    update.update_rotation(rotation, |row| {
        row.missing = missing.map(|missing| MissingSince {
            since: time::whole_seconds(missing.since),
            checks: missing.checks,
        });
        Ok(())
    })?;
    let event = if missing.is_some() {
        LedgerEventKind::CredentialMissing
    } else {
        LedgerEventKind::CredentialFound
    };
    let detail = json!({"checks": missing.map(|missing| missing.checks)});
    update.append_event(Some(rotation), event, detail);
    Ok(())
}
