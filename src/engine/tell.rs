//! What the log says of a change: one sentence for each change of phase, and
//! for each failure with the time of the next try.

use jiff::Timestamp;

use crate::core::change::{Answered, Change, LAST_DAY, Moved};
use crate::core::due::expiring;
use crate::core::names::RotationId;
use crate::core::policy::LOOKS_FOR_GONE;
use crate::core::record::{DeliveryState, KeyState, Rotation};
use crate::core::rotation::Event;
use crate::core::time;

/// Tells what was just recorded.
pub(crate) fn tell(before: &KeyState, after: &KeyState, changes: &[Change], now: Timestamp) {
    tell_expiring(after, changes, now);
    for change in changes {
        match change {
            Change::Intended(intent) => tracing::info!(
                key = %after.key, rotation = %intent.rotation, trigger = intent.trigger.as_str(),
                "rotating {} ({})", after.key, intent.trigger.as_str()
            ),
            Change::Moved(moved) => {
                let known = after
                    .rotation(&moved.rotation)
                    .or(before.rotation(&moved.rotation));
                tell_moved(after, known, moved);
            }
            Change::Postponed {
                rotation,
                attempt,
                retry_at,
                error,
            } => tracing::warn!(
                key = %after.key, %rotation, attempt, retry_at = time::to_text(*retry_at),
                "{}: {error}; trying again at {}", after.key, time::to_text(*retry_at)
            ),
            Change::Begun(begun) => tracing::debug!(
                key = %after.key, rotation = %begun.rotation, sink = %begun.sink,
                "delivering {} to {}", after.key, begun.sink
            ),
            Change::Answered(answered) => tell_answered(after, answered),
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
            Change::SinkMissed { rotation, sink } => tracing::warn!(
                key = %after.key, %rotation, %sink,
                "{}: the optional sink {sink} missed this credential", after.key
            ),
            Change::SinkRequired { .. }
            | Change::Extended { .. }
            | Change::Recovered
            | Change::TryNow { .. }
            | Change::RevokeNow(_)
            | Change::RevokePrevious { wanted: false, .. } => {}
            Change::Missing { .. }
            | Change::Found(_)
            | Change::TargetLost { .. }
            | Change::Hold { .. }
            | Change::RevokePrevious { .. }
            | Change::Adopted(_)
            | Change::DoubleRevoked { .. } => tell_found(after, change),
            Change::HeldBack {
                rotation, reason, ..
            } => tell_held_back(before, after, rotation, reason),
            Change::Deferred {
                attempt,
                retry_at,
                problem,
            } => tracing::error!(
                key = %after.key, attempt, retry_at = time::to_text(*retry_at),
                "{} was not rotated: {problem}; trying again at {}",
                after.key, time::to_text(*retry_at)
            ),
            Change::Timetabled { .. } | Change::Missed { .. } | Change::Paused { .. } => {
                tell_firing(before, after, change, now);
            }
        }
    }
}

/// What concerns a key's firings.
fn tell_firing(before: &KeyState, after: &KeyState, change: &Change, now: Timestamp) {
    let name = &after.key;
    match change {
        Change::Timetabled { timetable, .. } if before.timetable.is_some() => tracing::info!(
            key = %name, timetable, "the timetable of {name} is now {timetable:?}"
        ),
        Change::Missed {
            firing,
            why,
            dropped,
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
        Change::Paused { pause, .. } if pause.holds(now) => {
            let until = pause.until.map(time::to_text);
            let until = until.as_deref().unwrap_or("`rekeyd resume`");
            tracing::info!(key = %name, until, "{name} is paused by hand until {until}");
        }
        Change::Paused { .. } => tracing::info!(key = %name, "{name} is resumed by hand"),
        Change::Timetabled { .. }
        | Change::Intended(_)
        | Change::Moved(_)
        | Change::Postponed { .. }
        | Change::TryNow { .. }
        | Change::Begun(_)
        | Change::Answered(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::SinkMissed { .. }
        | Change::SinkRequired { .. }
        | Change::Extended { .. }
        | Change::Missing { .. }
        | Change::Found(_)
        | Change::TargetLost { .. }
        | Change::HeldBack { .. }
        | Change::Hold { .. }
        | Change::RevokePrevious { .. }
        | Change::RevokeNow(_)
        | Change::Adopted(_)
        | Change::DoubleRevoked { .. }
        | Change::Deferred { .. }
        | Change::Recovered => {}
    }
}

fn tell_moved(key: &KeyState, rotation: Option<&Rotation>, moved: &Moved) {
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
        Event::Created => say!(info, "created {credential} for {name}"),
        Event::Worked => say!(info, "verified {credential} of {name}: its secret works"),
        Event::Delivered => say!(info, "{credential} is the current credential of {name}"),
        Event::Superseded | Event::Replaced => {
            say!(
                info,
                "retired {credential} of {name}; it is revoked after {revoke_after}"
            );
        }
        Event::Deleted => say!(info, "revoked the previous {credential} of {name}"),
        Event::FoundOpen | Event::LabelFoundAfterRestart => say!(
            warn,
            "{credential} of {name} is stranded: its secret was lost in a restart; a new one follows"
        ),
        Event::SecretLost | Event::LabelFound => say!(
            warn,
            "{credential} of {name} is orphaned: its secret never arrived; it is revoked"
        ),
        Event::Refused => say!(
            error,
            "{credential} of {name} never worked ({why}); it is revoked"
        ),
        Event::GivenUp | Event::GivenUpDelivering => {
            say!(warn, "gave up {credential} of {name}: {why}");
        }
        Event::NotDone | Event::LabelNotFound => {
            say!(warn, "nothing was created for {name}: {why}");
        }
        Event::Gone if rotation.is_none_or(|found| found.retired_at.is_some()) => {
            say!(
                info,
                "{credential} of {name} was gone at the provider already"
            );
        }
        Event::Gone => say!(error, "{credential} of {name} is gone at the provider"),
        Event::RevokedByHand => say!(info, "revoked {credential} of {name} by hand"),
        Event::SeenAlive => say!(
            error,
            "{credential} of {name} is alive again; it is revoked"
        ),
        Event::Due | Event::Adopted | Event::AdoptedBesides => {
            say!(info, "{name}: {}", moved.event);
        }
    }
}

/// The alarm `expiring`: the credential of a key is near its end, and what was
/// to give it a successor failed.
fn tell_expiring(key: &KeyState, changes: &[Change], now: Timestamp) {
    let failed = changes.iter().any(|change| match change {
        Change::Deferred { .. } | Change::Postponed { .. } => true,
        Change::Answered(answered) => answered.state != DeliveryState::Accepted,
        Change::Intended(_)
        | Change::Moved(_)
        | Change::TryNow { .. }
        | Change::Begun(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::SinkMissed { .. }
        | Change::SinkRequired { .. }
        | Change::Extended { .. }
        | Change::Missing { .. }
        | Change::Found(_)
        | Change::TargetLost { .. }
        | Change::HeldBack { .. }
        | Change::Hold { .. }
        | Change::RevokePrevious { .. }
        | Change::RevokeNow(_)
        | Change::Adopted(_)
        | Change::DoubleRevoked { .. }
        | Change::Timetabled { .. }
        | Change::Missed { .. }
        | Change::Paused { .. }
        | Change::Recovered => false,
    });
    let Some(end) = expiring(key, now).filter(|_| failed) else {
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
fn tell_held_back(before: &KeyState, after: &KeyState, rotation: &RotationId, reason: &str) {
    let (name, found) = (&after.key, after.rotation(rotation));
    let credential = found.and_then(|found| found.credential.as_ref());
    let credential = credential.map_or("no credential", |facts| facts.id.as_str());
    let told = before
        .rotation(rotation)
        .and_then(|row| row.error.as_deref());
    let last_day = reason.contains(LAST_DAY);
    if last_day && !told.is_some_and(|told| told.contains(LAST_DAY)) {
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
fn tell_found(key: &KeyState, change: &Change) {
    let name = &key.key;
    let id = |rotation| {
        let facts = key
            .rotation(rotation)
            .and_then(|found| found.credential.as_ref());
        facts.map_or("no credential", |facts| facts.id.as_str())
    };
    match change {
        Change::Missing { rotation, missing } => tracing::warn!(
            key = %name, %rotation, credential = id(rotation), looks = missing.looks,
            "the provider has no {} of {name}; it is taken for gone after {LOOKS_FOR_GONE} such \
             answers over a quarter of an hour", id(rotation)
        ),
        Change::Found(rotation) => tracing::info!(
            key = %name, %rotation, credential = id(rotation),
            "{} of {name} is there again", id(rotation)
        ),
        Change::TargetLost {
            rotation,
            sink,
            problem,
        } => tracing::warn!(
            key = %name, %rotation, %sink,
            "{name} must be delivered to {sink} again: {problem}; a rotation follows"
        ),
        Change::Hold {
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
        Change::RevokePrevious { .. } => tracing::warn!(
            key = %name,
            "every older credential of {name} is revoked as soon as the new one is current"
        ),
        Change::Adopted(adoption) => tracing::info!(
            key = %name, rotation = %adoption.rotation, credential = %adoption.credential.id,
            "adopted {} into {name}", adoption.credential.id
        ),
        Change::DoubleRevoked {
            rotation,
            credential,
        } => tracing::warn!(
            key = %name, %rotation, %credential,
            "revoked {credential}, which bore the label of another credential of {name}"
        ),
        Change::Intended(_)
        | Change::Moved(_)
        | Change::Postponed { .. }
        | Change::TryNow { .. }
        | Change::Begun(_)
        | Change::Answered(_)
        | Change::SinkAdded { .. }
        | Change::SinkRemoved { .. }
        | Change::SinkReturned { .. }
        | Change::SinkMissed { .. }
        | Change::SinkRequired { .. }
        | Change::Extended { .. }
        | Change::RevokeNow(_)
        | Change::HeldBack { .. }
        | Change::Deferred { .. }
        | Change::Timetabled { .. }
        | Change::Missed { .. }
        | Change::Paused { .. }
        | Change::Recovered => {}
    }
}

fn tell_answered(key: &KeyState, answered: &Answered) {
    let (name, rotation, sink) = (&key.key, &answered.rotation, &answered.sink);
    let why = answered.error.as_deref().unwrap_or_default();
    let retry_at = answered.retry_at.map(time::to_text).unwrap_or_default();
    match answered.state {
        DeliveryState::Accepted => tracing::info!(
            key = %name, %rotation, sink = %sink.name, "delivered {name} to {sink}"
        ),
        DeliveryState::Uncertain if answered.written && answered.error.is_none() => tracing::info!(
            key = %name, %rotation, sink = %sink.name,
            "{name} stands in {sink}; what follows its change is run"
        ),
        DeliveryState::Uncertain if answered.written => tracing::warn!(
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
