//! Logs recorded changes: one line for each change of phase, and for each
//! failure with the time of the next attempt.

use jiff::Timestamp;

use crate::core::change::{
    Adoption, Change, CredentialHold, DeadlineUpdate, DeliveryChange, DeliveryResult, KeyBackoff,
    MissedRun, MissingCredential, OnChangeState, OperatorChange, PauseUpdate, RetiredSighting,
    RetrySchedule, RevocationDeferral, RotationChange, ScheduleChange, Transition,
};
use crate::core::decide::due::imminent_expiry;
use crate::core::decide::sightings::open_sightings;
use crate::core::health::pause_end;
use crate::core::ids::{KeyName, RotationId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::CHECKS_UNTIL_GONE;
use crate::core::state::{DeferralKind, DeliveryState, KeyState, Rotation, visible_hold_end};
use crate::core::time;

/// Logs `changes`, which led from `before` to `after`.
pub(crate) fn log_changes(before: &KeyState, after: &KeyState, changes: &[Change], now: Timestamp) {
    log_expiring(after, changes, now);
    for change in changes {
        match change {
            Change::Rotation(change) => log_rotation_change(before, after, change),
            Change::Delivery(change) => log_delivery_change(before, after, change, now),
            Change::Schedule(change) => log_schedule_change(before, after, change),
            Change::Operator(change) => log_operator_change(after, change, now),
        }
    }
}

/// Logs the alarm `expiring`: a key's current credential expires soon, and the attempt
/// to replace it failed.
fn log_expiring(key: &KeyState, changes: &[Change], now: Timestamp) {
    let is_failure = |change: &Change| match change {
        Change::Rotation(change) => matches!(change, RotationChange::RetryScheduled(_)),
        Change::Schedule(change) => matches!(change, ScheduleChange::BackedOff(_)),
        Change::Delivery(DeliveryChange::Finished(result)) => {
            result.state != DeliveryState::Accepted
        }
        Change::Delivery(_) | Change::Operator(_) => false,
    };
    let Some(end) = imminent_expiry(key, now).filter(|_| changes.iter().any(is_failure)) else {
        return;
    };
    tracing::error!(
        key = %key.key, alarm = "expiring", expires_at = time::to_text(end),
        "the current credential of {} ends at {}, and it has no successor yet",
        key.key, time::to_text(end)
    );
}

fn log_rotation_change(before: &KeyState, after: &KeyState, change: &RotationChange) {
    let name = &after.key;
    match change {
        RotationChange::Started(intent) => tracing::info!(
            key = %name, rotation = %intent.rotation, trigger = intent.trigger.as_str(),
            "rotating {name} ({})", intent.trigger.as_str()
        ),
        RotationChange::Transitioned(transition) => {
            let rotation = after.rotation(&transition.rotation);
            let rotation = rotation.or(before.rotation(&transition.rotation));
            log_transition(after, rotation, transition);
        }
        RotationChange::CredentialNamed(named) => tracing::debug!(
            key = %name, rotation = %named.rotation,
            "{} of {name} bears the name {}", credential_name(after, &named.rotation), named.name
        ),
        RotationChange::CredentialUpdated(shown) => tracing::debug!(
            key = %name, rotation = %shown.rotation,
            "the provider shows other facts of {} of {name}", shown.credential.id
        ),
        // `Worker::reject_answer` logs it, before anything is recorded.
        RotationChange::AnswerRejected(_) => {}
        RotationChange::RetryScheduled(RetrySchedule {
            rotation,
            attempt,
            retry_at,
            error,
        }) => tracing::warn!(
            key = %name, %rotation, attempt, retry_at = time::to_text(*retry_at),
            "{name}: {error}; trying again at {}", time::to_text(*retry_at)
        ),
        RotationChange::OverlapExtended(_) => {}
        RotationChange::RevocationDeferred(deferral) => {
            log_deferred_revocation(before, after, deferral);
        }
        RotationChange::CredentialMissing(MissingCredential { rotation, missing }) => {
            let credential = credential_name(after, rotation);
            tracing::warn!(
                key = %name, %rotation, credential, looks = missing.checks,
                "the provider has no {credential} of {name}; it is taken for gone after \
                 {CHECKS_UNTIL_GONE} such answers over a quarter of an hour"
            );
        }
        RotationChange::CredentialFound(found) => {
            let (rotation, credential) = (&found.rotation, credential_name(after, &found.rotation));
            tracing::info!(
                key = %name, %rotation, credential, "{credential} of {name} is there again"
            );
        }
        RotationChange::SecretRecovered(recovered) => tracing::info!(
            key = %after.key, rotation = %recovered.rotation, sink = %recovered.sink,
            "{}: took the secret of {} again from {}", after.key,
            credential_name(after, &recovered.rotation), recovered.sink
        ),
        RotationChange::DuplicateRevoked(duplicate) => tracing::warn!(
            key = %name, rotation = %duplicate.rotation, credential = %duplicate.credential,
            "revoked {}, which bore the label of another credential of {name}",
            duplicate.credential
        ),
    }
}

/// Returns the id of a rotation's credential, or a phrase if it has none.
fn credential_name<'a>(key: &'a KeyState, rotation: &RotationId) -> &'a str {
    let rotation = key.rotation(rotation);
    let credential = rotation.and_then(|rotation| rotation.credential.as_ref());
    credential.map_or("no credential", |credential| credential.id.as_str())
}

fn log_transition(key: &KeyState, rotation: Option<&Rotation>, transition: &Transition) {
    let new = transition.credential.as_ref();
    let recorded = rotation.and_then(|rotation| rotation.credential.as_ref());
    let credential = new
        .or(recorded)
        .map_or("no credential", |credential| credential.id.as_str());
    let reason = transition.error.as_deref().unwrap_or_default();
    let revoke_after = transition
        .revoke_after
        .map(time::to_text)
        .unwrap_or_default();
    let (name, id) = (&key.key, &transition.rotation);
    macro_rules! log {
        ($level:ident, $($text:tt)*) => {
            tracing::$level!(
                key = %name, rotation = %id, credential, event = %transition.event, $($text)*
            )
        };
    }
    match transition.event {
        LifecycleEvent::Created => log!(info, "created {credential} for {name}"),
        LifecycleEvent::Verified => log!(info, "verified {credential} of {name}: its secret works"),
        LifecycleEvent::Delivered => log!(info, "{credential} is the current credential of {name}"),
        LifecycleEvent::Superseded | LifecycleEvent::Replaced => {
            log!(
                info,
                "retired {credential} of {name}; it is revoked after {revoke_after}"
            );
        }
        LifecycleEvent::Deleted => log!(info, "revoked the previous {credential} of {name}"),
        LifecycleEvent::Interrupted | LifecycleEvent::LabelFoundAfterRestart => log!(
            warn,
            "{credential} of {name} is stranded: its secret was lost in a restart; a new one follows"
        ),
        LifecycleEvent::SecretLost | LifecycleEvent::LabelFound => log!(
            warn,
            "{credential} of {name} is orphaned: its secret never arrived; it is revoked"
        ),
        LifecycleEvent::VerificationFailed if key.attempt > 1 => log!(
            error,
            "{credential} of {name} never worked ({reason}); it is revoked"
        ),
        LifecycleEvent::VerificationFailed => log!(
            warn,
            "{credential} of {name} never worked ({reason}); it is revoked, and another one follows"
        ),
        LifecycleEvent::Abandoned | LifecycleEvent::AbandonedDuringDelivery => {
            log!(warn, "gave up {credential} of {name}: {reason}");
        }
        LifecycleEvent::NotCreated | LifecycleEvent::LabelNotFound => {
            log!(warn, "nothing was created for {name}: {reason}");
        }
        LifecycleEvent::FoundDeleted
            if rotation.is_none_or(|rotation| rotation.retired_at.is_some()) =>
        {
            log!(
                info,
                "{credential} of {name} was gone at the provider already"
            );
        }
        LifecycleEvent::FoundDeleted => {
            log!(error, "{credential} of {name} is gone at the provider")
        }
        LifecycleEvent::RevokedManually => log!(info, "revoked {credential} of {name} by hand"),
        LifecycleEvent::FoundAlive => log!(
            error,
            "{credential} of {name} is alive again; it is revoked"
        ),
        LifecycleEvent::Started | LifecycleEvent::Adopted | LifecycleEvent::AdoptedAlongside => {
            log!(info, "{name}: {}", transition.event);
        }
    }
}

/// Logs why a retired credential is not revoked: once for each reason, and again on its
/// last day.
fn log_deferred_revocation(before: &KeyState, after: &KeyState, deferral: &RevocationDeferral) {
    let (name, rotation, reason) = (&after.key, &deferral.rotation, &deferral.reason);
    let credential = credential_name(after, rotation);
    let previous = before.rotation(rotation);
    let was_warned = previous.is_some_and(|previous| previous.final_warning);
    let is_new = previous.is_none_or(|previous| previous.deferral != Some(deferral.kind));
    let needs_person = is_new && deferral.kind.is_by_files();
    if deferral.final_warning && !was_warned && !needs_person {
        tracing::warn!(
            key = %name, %rotation, credential, alarm = "hold",
            "{credential} of {name} is not revoked yet: {reason}"
        );
    } else if !is_new {
        tracing::debug!(key = %name, %rotation, credential, "still held back: {reason}");
    } else if deferral.kind == DeferralKind::OtherName {
        tracing::error!(
            key = %name, %rotation, credential, alarm = "other-name",
            "{credential} of {name} is not revoked: {reason}"
        );
    } else if deferral.kind.is_by_files() {
        tracing::error!(
            key = %name, %rotation, credential, alarm = "held-elsewhere",
            "{credential} of {name} is not revoked yet: {reason}"
        );
    } else if deferral.kind == DeferralKind::MayBeInUse {
        tracing::warn!(
            key = %name, %rotation, credential, alarm = "may-be-in-use",
            "{credential} of {name} is not revoked yet: {reason}; hint: if it is another one, \
             revoke it: rekeyd revoke {credential} --force"
        );
    } else {
        tracing::info!(
            key = %name, %rotation, credential,
            "{credential} of {name} is not revoked yet: {reason}"
        );
    }
}

fn log_delivery_change(before: &KeyState, key: &KeyState, change: &DeliveryChange, now: Timestamp) {
    let name = &key.key;
    match change {
        DeliveryChange::Started(start) => tracing::debug!(
            key = %name, rotation = %start.rotation, sink = %start.sink,
            "delivering {name} to {}", start.sink
        ),
        DeliveryChange::Finished(result) => log_delivery_result(key, result),
        DeliveryChange::Skipped(skipped) => tracing::warn!(
            key = %name, rotation = %skipped.rotation, sink = %skipped.sink,
            "{name}: the optional sink {} missed this credential", skipped.sink
        ),
        DeliveryChange::SinkAdded(added) => tracing::info!(
            key = %name, rotation = %added.rotation, sink = %added.sink,
            "{name}: the same credential is delivered to {} too", added.sink
        ),
        DeliveryChange::SinkRemoved(removed) => tracing::info!(
            key = %name, rotation = %removed.rotation, sink = %removed.sink,
            "{name}: the sink {} is not configured any more", removed.sink
        ),
        DeliveryChange::SinkReturned(returned) => tracing::info!(
            key = %name, rotation = %returned.rotation, sink = %returned.sink,
            "{name}: the sink {} is configured again, and may still hold what it had",
            returned.sink
        ),
        DeliveryChange::SinkRequirementChanged(_) => {}
        DeliveryChange::SinkDrifted(drift) => tracing::warn!(
            key = %name, rotation = %drift.rotation, sink = %drift.sink,
            "{name} must be delivered to {} again: {}; a rotation follows{}",
            drift.sink, drift.problem,
            match key.pause.filter(|pause| pause.is_active(now)) {
                Some(pause) => format!(" when {}", pause_end(name, pause)),
                None => String::new(),
            }
        ),
        DeliveryChange::RetiredSeen(seen) => log_retired_seen(before, key, seen),
        DeliveryChange::SightingEnded(ended) => tracing::info!(
            key = %name, rotation = %ended.rotation, sink = %ended.sink,
            "{name}: {} does not hold {} any more", ended.sink,
            credential_name(key, &ended.rotation)
        ),
    }
}

/// Logs once that the target of a sink holds a retired credential again.
fn log_retired_seen(before: &KeyState, key: &KeyState, seen: &RetiredSighting) {
    let sighted = |key: &KeyState| {
        let row = key.rotation(&seen.rotation);
        row.is_some_and(|row| open_sightings(row).any(|sighted| sighted.sink == seen.sink))
    };
    if !sighted(before) && sighted(key) {
        let (name, credential) = (&key.key, credential_name(key, &seen.rotation));
        tracing::warn!(
            key = %name, rotation = %seen.rotation, sink = %seen.sink, credential,
            alarm = "held-again",
            "{name}: {} holds the retired credential {credential} again; it is not revoked, and \
             the target is left as it is for max-revoke-delay; hint: `rekeyd rotate {name}` gives \
             it a new one at once", seen.sink
        );
    }
}

fn log_delivery_result(key: &KeyState, result: &DeliveryResult) {
    let (name, rotation, sink) = (&key.key, &result.rotation, &result.sink);
    let reason = result.error.as_deref().unwrap_or_default();
    let retry_at = result.retry_at.map(time::to_text).unwrap_or_default();
    match result.state {
        DeliveryState::Accepted => tracing::info!(
            key = %name, %rotation, sink = %sink.name, "delivered {name} to {sink}"
        ),
        DeliveryState::Uncertain if result.on_change == OnChangeState::Pending => tracing::info!(
            key = %name, %rotation, sink = %sink.name,
            "{name} stands in {sink}; what follows its change is run"
        ),
        DeliveryState::Uncertain if result.on_change == OnChangeState::Failed => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name} stands in {sink}, and what follows its change did not end well: {reason}; \
            it is run again at {retry_at}"
        ),
        DeliveryState::Uncertain if result.retry_at.is_none() => tracing::warn!(
            key = %name, %rotation, sink = %sink.name,
            "{name} does not stand in {sink} any more: {reason}"
        ),
        DeliveryState::Pending
        | DeliveryState::Uncertain
        | DeliveryState::Refused
        | DeliveryState::Missed
        | DeliveryState::Removed => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name} was not delivered to {sink}: {reason}; trying again at {retry_at}"
        ),
    }
}

fn log_schedule_change(before: &KeyState, after: &KeyState, change: &ScheduleChange) {
    let name = &after.key;
    match change {
        ScheduleChange::BackedOff(backoff) => log_backoff(name, backoff),
        ScheduleChange::TimetableChanged(change) if before.timetable.is_some() => tracing::info!(
            key = %name, timetable = change.timetable,
            "the timetable of {name} is now {:?}", change.timetable
        ),
        ScheduleChange::RunMissed(missed) => log_missed_run(after, missed),
        ScheduleChange::TimetableChanged(_) | ScheduleChange::Recovered => {}
    }
}

/// Logs that a rotation failed or could not start: the first time as something that is
/// tried again, and later as something that a person must see to.
fn log_backoff(name: &KeyName, backoff: &KeyBackoff) {
    let (attempt, problem) = (backoff.attempt, &backoff.problem);
    let retry_at = time::to_text(backoff.retry_at);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                key = %name, attempt, retry_at,
                "{name} was not rotated: {problem}; trying again at {retry_at}"
            )
        };
    }
    if attempt > 1 {
        log!(error);
    } else {
        log!(warn);
    }
}

fn log_missed_run(key: &KeyState, missed: &MissedRun) {
    let (name, firing) = (&key.key, time::to_text(missed.firing));
    let reason = missed.reason.as_str();
    if missed.is_skipped {
        tracing::warn!(
            key = %name, firing, "{name} missed its rotation of {firing}, since {reason}; \
            it is older than the catch-up-window and is not made up for"
        );
    } else {
        tracing::info!(
            key = %name, firing, "{name} missed its rotation of {firing}, since {reason}; \
            it is made up for now"
        );
    }
}

fn log_operator_change(key: &KeyState, change: &OperatorChange, now: Timestamp) {
    let name = &key.key;
    match change {
        OperatorChange::HoldSet(hold) => log_hold(key, hold),
        OperatorChange::RevokePreviousSet(previous) if previous.is_pending => tracing::warn!(
            key = %name,
            "every older credential of {name} is revoked as soon as the new one is current"
        ),
        OperatorChange::CredentialAdopted(Adoption {
            rotation,
            credential,
            ..
        }) => tracing::info!(
            key = %name, %rotation, credential = %credential.id,
            "adopted {} into {name}", credential.id
        ),
        OperatorChange::PauseSet(PauseUpdate { pause, .. }) if pause.is_active(now) => {
            let until = pause.until.map(time::to_text);
            let until = until.as_deref().unwrap_or("`rekeyd resume`");
            tracing::info!(key = %name, until, "{name} is paused by hand until {until}");
        }
        OperatorChange::PauseSet(_) => tracing::info!(key = %name, "{name} is resumed by hand"),
        OperatorChange::ReplacementAllowed(_) => tracing::info!(
            key = %name,
            "{name} may replace keys in its sinks that rekeyd did not write"
        ),
        OperatorChange::DeadlineSet(DeadlineUpdate {
            rotation, deadline, ..
        }) => {
            let credential = credential_name(key, rotation);
            let until = time::to_text(deadline.at);
            tracing::warn!(
                key = %name, %rotation, credential, until,
                "{credential} of {name} may have leaked; it ends at {until}"
            );
        }
        OperatorChange::RetryRequested(_)
        | OperatorChange::RevokePreviousSet(_)
        | OperatorChange::ImmediateRevocationSet(_) => {}
    }
}

fn log_hold(key: &KeyState, hold: &CredentialHold) {
    let (name, rotation) = (&key.key, &hold.rotation);
    let credential = credential_name(key, rotation);
    match hold.until {
        Some(until) => {
            let until = visible_hold_end(until).map(time::to_text);
            let until = until.unwrap_or_else(|| format!("`rekeyd release {credential}`"));
            tracing::info!(
                key = %name, %rotation, credential,
                "{credential} of {name} is held by hand until {until}"
            );
        }
        None => tracing::info!(
            key = %name, %rotation, credential, "{credential} of {name} is held by hand no more"
        ),
    }
}
