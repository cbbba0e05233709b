//! Applies changes that an operator requested.

use jiff::Timestamp;
use serde_json::json;

use crate::core::apply::update::{ApplyError, KeyUpdate, operator_name, operator_reason};
use crate::core::change::{
    Adoption, CredentialHold, DeadlineUpdate, ImmediateRevocation, KeyRetirement, OperatorChange,
    OperatorNote, PauseUpdate, RetryRequest, UndoneRetirement,
};
use crate::core::ids::CredentialId;
use crate::core::ledger_event::LedgerEventKind;
use crate::core::lifecycle::{self, Phase};
use crate::core::state::{
    CredentialMetadata, DeliveryState, HELD_UNTIL_RELEASED, Pause, Retirement, RevocationDeadline,
    Rotation, Trigger, visible_hold_end,
};
use crate::core::time;

pub(super) fn apply_change(
    update: &mut KeyUpdate,
    change: &OperatorChange,
) -> Result<(), ApplyError> {
    match change {
        OperatorChange::RetryRequested(request) => request_retry(update, request),
        OperatorChange::HoldSet(hold) => set_hold(update, hold),
        OperatorChange::RevokePreviousSet(previous) => {
            update.state.revoke_previous = previous.is_pending;
            if previous.is_pending {
                let operator = previous.operator.as_ref();
                let detail = json!({
                    "reason": operator_reason(operator), "by": operator_name(operator),
                });
                update.append_event(None, LedgerEventKind::RevokePreviousRequested, detail);
            }
            Ok(())
        }
        OperatorChange::ReplacementAllowed(approval) => {
            update.state.replace_targets.clone_from(&approval.targets);
            let operator = approval.operator.as_ref();
            let detail = json!({
                "reason": operator_reason(operator), "by": operator_name(operator),
            });
            update.append_event(None, LedgerEventKind::ReplacementAllowed, detail);
            Ok(())
        }
        OperatorChange::ImmediateRevocationSet(set) => set_immediate_revocation(update, set),
        OperatorChange::DeadlineSet(set) => set_deadline(update, set),
        OperatorChange::CredentialAdopted(adoption) => adopt(update, adoption),
        OperatorChange::PauseSet(pause) => {
            set_pause(update, pause);
            Ok(())
        }
        OperatorChange::KeyRetired(retirement) => {
            retire_key(update, retirement);
            Ok(())
        }
        OperatorChange::RetirementUndone(undone) => {
            undo_retirement(update, undone);
            Ok(())
        }
    }
}

fn request_retry(update: &mut KeyUpdate, request: &RetryRequest) -> Result<(), ApplyError> {
    update.update_rotation(&request.rotation, |row| {
        row.retry_at = None;
        for delivery in &mut row.deliveries {
            delivery.retry_at = None;
        }
        Ok(())
    })?;
    let operator = request.operator.as_ref();
    let detail = json!({"reason": operator_reason(operator), "by": operator_name(operator)});
    update.append_event(
        Some(&request.rotation),
        LedgerEventKind::RetryRequested,
        detail,
    );
    Ok(())
}

fn set_hold(update: &mut KeyUpdate, hold: &CredentialHold) -> Result<(), ApplyError> {
    let held = update.find_rotation(&hold.rotation)?.credential.clone();
    update.update_rotation(&hold.rotation, |row| {
        row.hold_until = hold.until.map(|until| {
            // The ledger has whole seconds.
            visible_hold_end(until).map_or(HELD_UNTIL_RELEASED, time::whole_seconds)
        });
        Ok(())
    })?;
    let event = if hold.until.is_some() {
        LedgerEventKind::HoldSet
    } else {
        LedgerEventKind::HoldReleased
    };
    let held = held.as_ref().map(|credential| &credential.id);
    let detail = hold_detail(held, hold.until, hold.operator.as_ref());
    update.append_event(Some(&hold.rotation), event, detail);
    Ok(())
}

fn hold_detail(
    credential: Option<&CredentialId>,
    until: Option<Timestamp>,
    operator: Option<&OperatorNote>,
) -> serde_json::Value {
    json!({
        "credential_id": credential,
        "until": until.and_then(visible_hold_end).map(time::to_text),
        "reason": operator_reason(operator), "by": operator_name(operator),
    })
}

fn set_immediate_revocation(
    update: &mut KeyUpdate,
    set: &ImmediateRevocation,
) -> Result<(), ApplyError> {
    update.update_rotation(&set.rotation, |row| {
        row.revoke_now = true;
        (row.attempt, row.retry_at) = (0, None);
        Ok(())
    })?;
    update.append_event(
        Some(&set.rotation),
        LedgerEventKind::ImmediateRevocationRequested,
        json!({}),
    );
    Ok(())
}

/// Sets the deadline of a credential that may have leaked. No retry that was planned before
/// delays it, neither its own nor that of its key.
fn set_deadline(update: &mut KeyUpdate, set: &DeadlineUpdate) -> Result<(), ApplyError> {
    let leaked = update.find_rotation(&set.rotation)?.credential.clone();
    let mut deadline = RevocationDeadline {
        at: time::whole_seconds(set.deadline.at),
        ..set.deadline
    };
    update.update_rotation(&set.rotation, |row| {
        if let Some(earlier) = row.deadline {
            deadline.at = deadline.at.min(earlier.at);
            deadline.is_forced |= earlier.is_forced;
        }
        row.deadline = Some(deadline);
        (row.attempt, row.retry_at) = (0, None);
        Ok(())
    })?;
    update.state.retry_at = None;
    let operator = set.operator.as_ref();
    let detail = json!({
        "credential_id": leaked.map(|credential| credential.id),
        "until": time::to_text(deadline.at), "forced": deadline.is_forced,
        "reason": operator_reason(operator), "by": operator_name(operator),
    });
    update.append_event(
        Some(&set.rotation),
        LedgerEventKind::RevocationDeadlineSet,
        detail,
    );
    Ok(())
}

/// Adds an adopted credential. Any of the key's sinks may hold it, since rekeyd recorded
/// no delivery of it: only one that was seen to hold it has accepted it.
fn adopt(update: &mut KeyUpdate, adoption: &Adoption) -> Result<(), ApplyError> {
    let phase = lifecycle::next_phase(None, adoption.event)?;
    let mut rotation = Rotation::new(
        adoption.rotation.clone(),
        adoption.scope.clone(),
        adoption.sequence,
        Trigger::Adopted,
        phase,
        update.at,
    );
    rotation.credential = Some(CredentialMetadata {
        created_at: adoption.credential.created_at.map(time::whole_seconds),
        expires_at: adoption.credential.expires_at.map(time::whole_seconds),
        ..adoption.credential.clone()
    });
    rotation.name = adoption.name.clone();
    rotation.hold_until = adoption.hold.as_ref().map(|hold| hold.until);
    rotation.current_at = (phase == Phase::Current).then_some(update.at);
    rotation.stranded_at = (phase == Phase::Stranded).then_some(update.at);
    rotation.add_deliveries(&adoption.sinks, DeliveryState::Uncertain);
    for delivery in &mut rotation.deliveries {
        if phase == Phase::Current && adoption.seen_in.contains(&delivery.sink) {
            delivery.state = DeliveryState::Accepted;
            delivery.accepted_at = Some(time::whole_seconds(update.at));
        }
    }
    update.start_rotation(rotation)?;
    if phase == Phase::Current {
        // The runs before it are settled.
        update.state.due_run = None;
        (update.state.dropped_run, update.state.dropped_runs) = (None, 0);
    }
    let operator = adoption.operator.as_ref();
    let detail = json!({
        "to": phase.as_str(), "credential_id": adoption.credential.id,
        "reason": operator_reason(operator), "by": operator_name(operator),
    });
    update.append_event(Some(&adoption.rotation), adoption.event, detail);
    // Each row says who holds its credential.
    if let Some(hold) = &adoption.hold {
        let detail = hold_detail(
            Some(&adoption.credential.id),
            Some(hold.until),
            hold.operator.as_ref(),
        );
        update.append_event(Some(&adoption.rotation), LedgerEventKind::HoldSet, detail);
    }
    Ok(())
}

fn set_pause(update: &mut KeyUpdate, change: &PauseUpdate) {
    let pause = Pause {
        from: time::whole_seconds(change.pause.from),
        until: change.pause.until.map(time::whole_seconds),
    };
    let event = if pause.is_active(update.at) {
        LedgerEventKind::Paused
    } else {
        LedgerEventKind::Resumed
    };
    update.state.pause = Some(pause);
    let operator = change.operator.as_ref();
    let detail = json!({
        "until": pause.until.map(time::to_text), "reason": operator_reason(operator),
        "by": operator_name(operator),
    });
    update.append_event(None, event, detail);
}

/// Retires the key. What was planned for its next rotation is dropped: it has none.
fn retire_key(update: &mut KeyUpdate, change: &KeyRetirement) {
    let state = &mut update.state;
    let retirement = Retirement {
        at: time::whole_seconds(change.retirement.at),
        ..change.retirement
    };
    state.retirement = Some(retirement);
    (state.attempt, state.retry_at, state.last_error) = (0, None, None);
    state.failed_before_create = false;
    state.revoke_previous = false;
    state.replace_targets = Vec::new();
    (state.pending_run, state.due_run) = (None, None);
    (state.dropped_run, state.dropped_runs) = (None, 0);
    let operator = change.operator.as_ref();
    let detail = json!({
        "forced": retirement.is_immediate.then_some(true), "reason": operator_reason(operator),
        "by": operator_name(operator),
    });
    update.append_event(None, LedgerEventKind::KeyRetired, detail);
}

fn undo_retirement(update: &mut KeyUpdate, change: &UndoneRetirement) {
    update.state.retirement = None;
    let operator = change.operator.as_ref();
    let detail = json!({"reason": operator_reason(operator), "by": operator_name(operator)});
    update.append_event(None, LedgerEventKind::RetirementUndone, detail);
}
