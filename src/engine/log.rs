//! What the log says of a change: one sentence for each change of phase, and
//! for each failure with the time of the next try.

use jiff::Timestamp;

use crate::core::change::{Change, DeliveryResult, LAST_DAY_REASON, Transition};
use crate::core::decide::due::imminent_expiry;
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::CHECKS_UNTIL_GONE;
use crate::core::state::{DeliveryState, KeyState, Rotation};
use crate::core::time;

/// Tells what was just recorded.
pub(crate) fn log_changes(before: &KeyState, after: &KeyState, changes: &[Change], now: Timestamp) {
    log_expiring(after, changes, now);
    for change in changes {
        match change {
            Change::RotationStarted(intent) => tracing::info!(
                key = %after.key, rotation = %intent.rotation, trigger = intent.trigger.as_str(),
                "rotating {} ({})", after.key, intent.trigger.as_str()
            ),
            Change::Transitioned(moved) => {
                let known = after
                    .rotation(&moved.rotation)
                    .or(before.rotation(&moved.rotation));
                log_transition(after, known, moved);
            }
            Change::RetryScheduled {
                rotation,
                attempt,
                retry_at,
                error,
            } => tracing::warn!(
                key = %after.key, %rotation, attempt, retry_at = time::to_text(*retry_at),
                "{}: {error}; trying again at {}", after.key, time::to_text(*retry_at)
            ),
            Change::DeliveryStarted(begun) => tracing::debug!(
                key = %after.key, rotation = %begun.rotation, sink = %begun.sink,
                "delivering {} to {}", after.key, begun.sink
            ),
            Change::DeliveryFinished(answered) => log_delivery_result(after, answered),
            Change::SinkRemoved { rotation, sink, .. } => tracing::info!(
                key = %after.key, %rotation, %sink,
                "{}: the sink {sink} is not configured any more", after.key
            ),
            Change::SinkReturned { rotation, sink } => tracing::info!(
                key = %after.key, %rotation, %sink,
                "{}: the sink {sink} is configured again, and may still hold what it had",
                after.key
            ),
            Change::SinkAdded { rotation, sink, .. } => tracing::info!(
                key = %after.key, %rotation, %sink,
                "{}: the open rotation is delivered to {sink} too", after.key
            ),
            Change::DeliverySkipped { rotation, sink } => tracing::warn!(
                key = %after.key, %rotation, %sink,
                "{}: the optional sink {sink} missed this credential", after.key
            ),
            Change::SinkRequirementChanged { .. }
            | Change::OverlapExtended { .. }
            | Change::KeyRecovered
            | Change::RetryRequested { .. }
            | Change::ImmediateRevocationSet(_)
            | Change::RevokePreviousSet {
                is_pending: false, ..
            } => {}
            Change::CredentialMissing { .. }
            | Change::CredentialFound(_)
            | Change::SinkDrifted { .. }
            | Change::HoldSet { .. }
            | Change::RevokePreviousSet { .. }
            | Change::CredentialAdopted(_)
            | Change::DuplicateRevoked { .. } => log_observation(after, change),
            Change::RevocationDeferred {
                rotation, reason, ..
            } => log_deferred_revocation(before, after, rotation, reason),
            Change::KeyBackedOff {
                attempt,
                retry_at,
                problem,
            } => tracing::error!(
                key = %after.key, attempt, retry_at = time::to_text(*retry_at),
                "{} was not rotated: {problem}; trying again at {}",
                after.key, time::to_text(*retry_at)
            ),
            Change::TimetableChanged { .. }
            | Change::RunMissed { .. }
            | Change::PauseSet { .. } => {
                log_schedule_change(before, after, change, now);
            }
        }
    }
}

/// What concerns a key's firings.
fn log_schedule_change(before: &KeyState, after: &KeyState, change: &Change, now: Timestamp) {
    let name = &after.key;
    match change {
        Change::TimetableChanged { timetable, .. } if before.timetable.is_some() => tracing::info!(
            key = %name, timetable, "the timetable of {name} is now {timetable:?}"
        ),
        Change::RunMissed {
            firing,
            reason: why,
            is_skipped: dropped,
        } => {
            let (firing, why) = (time::to_text(*firing), why.as_str());
            if *dropped {
                tracing::warn!(
                    key = %name, firing, "{name} missed its rotation of {firing}, since {why}; \
                    it is older than the window and is not made up for"
                );
            } else {
                tracing::info!(
                    key = %name, firing, "{name} missed its rotation of {firing}, since {why}; \
                    it is made up for now"
                );
            }
        }
        Change::PauseSet { pause, .. } if pause.is_active(now) => {
            let until = pause.until.map(time::to_text);
            let until = until.as_deref().unwrap_or("`rekeyd resume`");
            tracing::info!(key = %name, until, "{name} is paused by hand until {until}");
        }
        Change::PauseSet { .. } => tracing::info!(key = %name, "{name} is resumed by hand"),
        Change::TimetableChanged { .. }
        | Change::RotationStarted(_)
        | Change::Transitioned(_)
        | Change::RetryScheduled { .. }
        | Change::RetryRequested { .. }
        | Change::DeliveryStarted(_)
        | Change::DeliveryFinished(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::DeliverySkipped { .. }
        | Change::SinkRequirementChanged { .. }
        | Change::OverlapExtended { .. }
        | Change::CredentialMissing { .. }
        | Change::CredentialFound(_)
        | Change::SinkDrifted { .. }
        | Change::RevocationDeferred { .. }
        | Change::HoldSet { .. }
        | Change::RevokePreviousSet { .. }
        | Change::ImmediateRevocationSet(_)
        | Change::CredentialAdopted(_)
        | Change::DuplicateRevoked { .. }
        | Change::KeyBackedOff { .. }
        | Change::KeyRecovered => {}
    }
}

fn log_transition(key: &KeyState, rotation: Option<&Rotation>, moved: &Transition) {
    let told = moved.credential.as_ref();
    let recorded = rotation.and_then(|rotation| rotation.credential.as_ref());
    let credential = told
        .or(recorded)
        .map_or("no credential", |facts| facts.id.as_str());
    let why = moved.error.as_deref().unwrap_or_default();
    let revoke_after = moved.revoke_after.map(time::to_text).unwrap_or_default();
    let (name, id) = (&key.key, &moved.rotation);
    macro_rules! say {
        ($level:ident, $($text:tt)*) => {
            tracing::$level!(key = %name, rotation = %id, credential, event = %moved.event, $($text)*)
        };
    }
    match moved.event {
        LifecycleEvent::Created => say!(info, "created {credential} for {name}"),
        LifecycleEvent::Verified => say!(info, "verified {credential} of {name}: its secret works"),
        LifecycleEvent::Delivered => say!(info, "{credential} is the current credential of {name}"),
        LifecycleEvent::Superseded | LifecycleEvent::Replaced => {
            say!(
                info,
                "retired {credential} of {name}; it is revoked after {revoke_after}"
            );
        }
        LifecycleEvent::Deleted => say!(info, "revoked the previous {credential} of {name}"),
        LifecycleEvent::Interrupted | LifecycleEvent::LabelFoundAfterRestart => say!(
            warn,
            "{credential} of {name} is stranded: its secret was lost in a restart; a new one follows"
        ),
        LifecycleEvent::SecretLost | LifecycleEvent::LabelFound => say!(
            warn,
            "{credential} of {name} is orphaned: its secret never arrived; it is revoked"
        ),
        LifecycleEvent::VerificationFailed => say!(
            error,
            "{credential} of {name} never worked ({why}); it is revoked"
        ),
        LifecycleEvent::Abandoned | LifecycleEvent::AbandonedDuringDelivery => {
            say!(warn, "gave up {credential} of {name}: {why}");
        }
        LifecycleEvent::NotCreated | LifecycleEvent::LabelNotFound => {
            say!(warn, "nothing was created for {name}: {why}");
        }
        LifecycleEvent::FoundDeleted if rotation.is_none_or(|found| found.retired_at.is_some()) => {
            say!(
                info,
                "{credential} of {name} was gone at the provider already"
            );
        }
        LifecycleEvent::FoundDeleted => {
            say!(error, "{credential} of {name} is gone at the provider")
        }
        LifecycleEvent::RevokedManually => say!(info, "revoked {credential} of {name} by hand"),
        LifecycleEvent::FoundAlive => say!(
            error,
            "{credential} of {name} is alive again; it is revoked"
        ),
        LifecycleEvent::Started | LifecycleEvent::Adopted | LifecycleEvent::AdoptedAlongside => {
            say!(info, "{name}: {}", moved.event);
        }
    }
}

/// The alarm `expiring`: the credential of a key is near its end, and what was
/// to give it a successor failed.
fn log_expiring(key: &KeyState, changes: &[Change], now: Timestamp) {
    let failed = changes.iter().any(|change| match change {
        Change::KeyBackedOff { .. } | Change::RetryScheduled { .. } => true,
        Change::DeliveryFinished(answered) => answered.state != DeliveryState::Accepted,
        Change::RotationStarted(_)
        | Change::Transitioned(_)
        | Change::RetryRequested { .. }
        | Change::DeliveryStarted(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::DeliverySkipped { .. }
        | Change::SinkRequirementChanged { .. }
        | Change::OverlapExtended { .. }
        | Change::CredentialMissing { .. }
        | Change::CredentialFound(_)
        | Change::SinkDrifted { .. }
        | Change::RevocationDeferred { .. }
        | Change::HoldSet { .. }
        | Change::RevokePreviousSet { .. }
        | Change::ImmediateRevocationSet(_)
        | Change::CredentialAdopted(_)
        | Change::DuplicateRevoked { .. }
        | Change::TimetableChanged { .. }
        | Change::RunMissed { .. }
        | Change::PauseSet { .. }
        | Change::KeyRecovered => false,
    });
    let Some(end) = imminent_expiry(key, now).filter(|_| failed) else {
        return;
    };
    tracing::error!(
        key = %key.key, alarm = "expiring", expires_at = time::to_text(end),
        "the current credential of {} ends at {}, and it has no successor yet",
        key.key, time::to_text(end)
    );
}

/// Why a retired credential stays: told once in detail, and once more on its
/// last day.
fn log_deferred_revocation(
    before: &KeyState,
    after: &KeyState,
    rotation: &RotationId,
    reason: &str,
) {
    let (name, found) = (&after.key, after.rotation(rotation));
    let credential = found.and_then(|found| found.credential.as_ref());
    let credential = credential.map_or("no credential", |facts| facts.id.as_str());
    let told = before
        .rotation(rotation)
        .and_then(|row| row.error.as_deref());
    let last_day = reason.contains(LAST_DAY_REASON);
    if last_day && !told.is_some_and(|told| told.contains(LAST_DAY_REASON)) {
        tracing::warn!(
            key = %name, %rotation, credential, alarm = "hold",
            "{credential} of {name} is not revoked yet: {reason}"
        );
    } else if told.is_none() {
        tracing::info!(
            key = %name, %rotation, credential,
            "{credential} of {name} is not revoked yet: {reason}"
        );
    } else {
        tracing::debug!(key = %name, %rotation, credential, "still held back: {reason}");
    }
}

/// What was found out, or decided by hand, beside a rotation's own steps.
fn log_observation(key: &KeyState, change: &Change) {
    let name = &key.key;
    let id = |rotation| {
        let facts = key
            .rotation(rotation)
            .and_then(|found| found.credential.as_ref());
        facts.map_or("no credential", |facts| facts.id.as_str())
    };
    match change {
        Change::CredentialMissing { rotation, missing } => tracing::warn!(
            key = %name, %rotation, credential = id(rotation), looks = missing.checks,
            "the provider has no {} of {name}; it is taken for gone after {CHECKS_UNTIL_GONE} such \
             answers over a quarter of an hour", id(rotation)
        ),
        Change::CredentialFound(rotation) => tracing::info!(
            key = %name, %rotation, credential = id(rotation),
            "{} of {name} is there again", id(rotation)
        ),
        Change::SinkDrifted {
            rotation,
            sink,
            problem,
        } => tracing::warn!(
            key = %name, %rotation, %sink,
            "{name} must be delivered to {sink} again: {problem}; a rotation follows"
        ),
        Change::HoldSet {
            rotation, until, ..
        } => match until {
            Some(until) => tracing::info!(
                key = %name, %rotation, credential = id(rotation),
                "{} of {name} is held by hand until {}", id(rotation), time::to_text(*until)
            ),
            None => tracing::info!(
                key = %name, %rotation, credential = id(rotation),
                "{} of {name} is held by hand no more", id(rotation)
            ),
        },
        Change::RevokePreviousSet { .. } => tracing::warn!(
            key = %name,
            "every older credential of {name} is revoked as soon as the new one is current"
        ),
        Change::CredentialAdopted(adoption) => tracing::info!(
            key = %name, rotation = %adoption.rotation, credential = %adoption.credential.id,
            "adopted {} into {name}", adoption.credential.id
        ),
        Change::DuplicateRevoked {
            rotation,
            credential,
        } => tracing::warn!(
            key = %name, %rotation, %credential,
            "revoked {credential}, which bore the label of another credential of {name}"
        ),
        Change::RotationStarted(_)
        | Change::Transitioned(_)
        | Change::RetryScheduled { .. }
        | Change::RetryRequested { .. }
        | Change::DeliveryStarted(_)
        | Change::DeliveryFinished(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::DeliverySkipped { .. }
        | Change::SinkRequirementChanged { .. }
        | Change::OverlapExtended { .. }
        | Change::ImmediateRevocationSet(_)
        | Change::RevocationDeferred { .. }
        | Change::KeyBackedOff { .. }
        | Change::TimetableChanged { .. }
        | Change::RunMissed { .. }
        | Change::PauseSet { .. }
        | Change::KeyRecovered => {}
    }
}

fn log_delivery_result(key: &KeyState, answered: &DeliveryResult) {
    let (name, rotation, sink) = (&key.key, &answered.rotation, &answered.sink);
    let why = answered.error.as_deref().unwrap_or_default();
    let retry_at = answered.retry_at.map(time::to_text).unwrap_or_default();
    match answered.state {
        DeliveryState::Accepted => tracing::info!(
            key = %name, %rotation, sink = %sink.name, "delivered {name} to {sink}"
        ),
        DeliveryState::Uncertain if answered.is_written && answered.error.is_none() => {
            tracing::info!(
                key = %name, %rotation, sink = %sink.name,
                "{name} stands in {sink}; what follows its change is run"
            )
        }
        DeliveryState::Uncertain if answered.is_written => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name} stands in {sink}, and what follows its change did not end well: {why}; \
            it is run again at {retry_at}"
        ),
        DeliveryState::Uncertain if answered.retry_at.is_none() => tracing::warn!(
            key = %name, %rotation, sink = %sink.name,
            "{name} does not stand in {sink} any more: {why}"
        ),
        DeliveryState::Pending
        | DeliveryState::Uncertain
        | DeliveryState::Refused
        | DeliveryState::Missed
        | DeliveryState::Removed => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name} was not delivered to {sink}: {why}; trying again at {retry_at}"
        ),
    }
}
