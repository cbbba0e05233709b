//! What the log says of a change: one sentence for each change of phase, and
//! for each failure with the time of the next try.

use crate::core::change::{Answered, Change, Moved};
use crate::core::record::{DeliveryState, KeyState, Rotation};
use crate::core::rotation::Event;
use crate::core::time;

/// Tells what was just recorded.
pub(crate) fn tell(before: &KeyState, after: &KeyState, changes: &[Change]) {
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
            Change::SinkMissed { rotation, sink } => tracing::warn!(
                key = %after.key, %rotation, %sink,
                "{}: the optional sink {sink} missed this credential", after.key
            ),
            Change::SinkRequired { .. } | Change::Extended { .. } | Change::Recovered => {}
            Change::Deferred {
                attempt,
                retry_at,
                problem,
            } => tracing::error!(
                key = %after.key, attempt, retry_at = time::to_text(*retry_at),
                "{} was not rotated: {problem}; trying again at {}",
                after.key, time::to_text(*retry_at)
            ),
        }
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

fn tell_answered(key: &KeyState, answered: &Answered) {
    let (name, rotation, sink) = (&key.key, &answered.rotation, &answered.sink);
    let why = answered.error.as_deref().unwrap_or_default();
    let retry_at = answered.retry_at.map(time::to_text).unwrap_or_default();
    match answered.state {
        DeliveryState::Accepted => tracing::info!(
            key = %name, %rotation, sink = %sink.name, "delivered {name} to {sink}"
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
