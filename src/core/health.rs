//! The error of a key that its status shows and that its alert repeats.

use jiff::Timestamp;

use crate::core::ids::{KeyName, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::{DeferralKind, Delivery, DeliveryState, KeyState, Pause, Rotation};
use crate::core::time;

/// Returns the most urgent error of a key.
#[must_use]
pub fn most_urgent_error(state: &KeyState) -> Option<String> {
    delivery_error(state)
        .or_else(|| state.last_error.clone())
        .or_else(|| step_error(state, |_| true))
        .or_else(|| other_name_error(state))
        .or_else(|| lost_secret_error(state))
}

/// Returns what [`most_urgent_error`] does, without two errors that pass by themselves: a
/// fresh secret that the provider still refuses, and a lost secret whose successor
/// is being created. For a key that is not configured any more, only failing steps
/// of its remaining credentials count, because rekeyd does not rotate it.
#[must_use]
pub fn alertable_error(state: &KeyState, is_managed: bool) -> Option<String> {
    let step = || step_error(state, |rotation| rotation.phase != Phase::Created);
    if !is_managed {
        return step();
    }
    let lost = || lost_secret_error(state).filter(|_| state.open_rotation().is_none());
    delivery_error(state)
        .or_else(|| state.last_error.clone())
        .or_else(step)
        .or_else(lost)
}

/// Returns which sink of a paused key lacks the current secret, that it accepted once: the
/// rotation that gives it a new one waits for the end of the pause. None once that has
/// begun, and for a key that is not paused.
#[must_use]
pub fn paused_repair(state: &KeyState, now: Timestamp) -> Option<String> {
    let pause = state.pause.filter(|pause| pause.is_active(now))?;
    let current = state
        .current()
        .filter(|_| state.open_rotation().is_none())?;
    let mut deliveries = current.deliveries.iter();
    let drifted = deliveries.find(|delivery| {
        delivery.required
            && delivery.accepted_at.is_some()
            && delivery.state == DeliveryState::Uncertain
    })?;
    let problem = drifted.error.as_deref()?;
    Some(format!(
        "{} needs a new key: {problem}; rekeyd delivers it when {}",
        drifted.sink,
        pause_end(&state.key, pause)
    ))
}

/// Returns the files of the current credential that do not have the owner, the group or the
/// mode of their deliveries, each with what to do about it. They hold the right secret.
pub fn file_access_problems(state: &KeyState) -> impl Iterator<Item = (&SinkId, &str)> {
    let current = state.current().into_iter();
    let deliveries = current.flat_map(|rotation| &rotation.deliveries);
    // A delivery that was accepted has no other error.
    let accepted = deliveries.filter(|delivery| delivery.state == DeliveryState::Accepted);
    accepted.filter_map(|delivery| Some((&delivery.sink, delivery.error.as_deref()?)))
}

/// Describes the end of a pause.
#[must_use]
pub fn pause_end(key: &KeyName, pause: Pause) -> String {
    match pause.until {
        Some(until) => format!("the pause ends at {}", time::to_text(until)),
        None => format!("the pause ends (`rekeyd resume {key}`)"),
    }
}

/// Returns when the error of [`most_urgent_error`] was last seen. `failed_at` is the time
/// at which a rotation last failed or could not start. None for an error without a
/// recorded time.
#[must_use]
pub fn error_time(state: &KeyState, failed_at: Option<Timestamp>) -> Option<Timestamp> {
    match failing_delivery(state) {
        Some(delivery) => delivery.last_attempt_at,
        None => failed_at.filter(|_| state.last_error.is_some()),
    }
}

/// Returns the planned time of the next attempt at what the error of [`most_urgent_error`] is
/// about, which may have passed.
#[must_use]
pub fn next_attempt(state: &KeyState) -> Option<Timestamp> {
    if let Some(delivery) = failing_delivery(state) {
        return delivery.retry_at;
    }
    let failing = failing_step(state, |_| true).filter(|_| state.last_error.is_none());
    failing.map_or(state.retry_at, |rotation| rotation.retry_at)
}

/// Returns the error of a required sink that did not accept the newest secret.
fn delivery_error(state: &KeyState) -> Option<String> {
    let delivery = failing_delivery(state)?;
    Some(delivery.describe_failure(delivery.error.as_ref()?))
}

/// Returns the first delivery that failed: of the open rotation, or of the current
/// credential to a sink that was added.
fn failing_delivery(state: &KeyState) -> Option<&Delivery> {
    let is_failing =
        |state: DeliveryState| matches!(state, DeliveryState::Uncertain | DeliveryState::Refused);
    let is_failing = |delivery: &&Delivery| is_failing(delivery.state) && delivery.error.is_some();
    if let Some(open) = state.open_rotation() {
        return open.deliveries.iter().find(is_failing);
    }
    let mut deliveries = state.current()?.deliveries.iter();
    deliveries.find(|delivery| {
        delivery.required && delivery.accepted_at.is_none() && is_failing(delivery)
    })
}

/// Returns the error of a rotation's failing step.
fn step_error(state: &KeyState, counts: impl Fn(&Rotation) -> bool) -> Option<String> {
    failing_step(state, counts)?.error.clone()
}

/// Returns the first rotation whose step fails.
fn failing_step(state: &KeyState, counts: impl Fn(&Rotation) -> bool) -> Option<&Rotation> {
    let mut live = state.live.iter();
    live.find(|row| row.attempt > 0 && row.error.is_some() && counts(row))
}

/// Returns the error of a credential that the provider does not show under its recorded
/// name. It has an alert of its own.
fn other_name_error(state: &KeyState) -> Option<String> {
    let mut live = state.live.iter();
    let kept = live.find(|rotation| rotation.deferral == Some(DeferralKind::OtherName))?;
    let id = &kept.credential.as_ref()?.id;
    let reason = kept.error.as_deref().unwrap_or_default();
    Some(format!("{id} is not revoked: {reason}"))
}

fn lost_secret_error(state: &KeyState) -> Option<String> {
    let is_stranded = |rotation: &Rotation| rotation.phase == Phase::Stranded;
    let lost = state.live.iter().any(is_stranded) && state.current().is_none();
    lost.then(|| "the secret of its credential was lost; another rotation is due".to_owned())
}

#[cfg(test)]
mod tests;
