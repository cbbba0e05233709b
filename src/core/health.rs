//! What is wrong with a key, in words.

use crate::core::lifecycle::Phase;
use crate::core::state::{DeliveryState, KeyState, Rotation};

/// What is wrong with a key, the most pressing first.
#[must_use]
pub fn last_error(state: &KeyState) -> Option<String> {
    delivery_error(state)
        .or_else(|| state.problem.clone())
        .or_else(|| step_error(state, |_| true))
        .or_else(|| lost_secret_error(state))
}

/// As [`last_error`], without what passes by itself: a fresh secret that the
/// provider refuses for a while, and one that was lost and has a successor on
/// its way. Of a key that is not configured any more only what is to be done
/// with its credentials counts: nobody rotates it.
#[must_use]
pub fn alertable_error(state: &KeyState, is_managed: bool) -> Option<String> {
    let step = || step_error(state, |rotation| rotation.phase != Phase::Created);
    if !is_managed {
        return step();
    }
    let lost = || lost_secret_error(state).filter(|_| state.open_rotation().is_none());
    delivery_error(state)
        .or_else(|| state.problem.clone())
        .or_else(step)
        .or_else(lost)
}

/// A sink that did not take the secret of the open rotation.
fn delivery_error(state: &KeyState) -> Option<String> {
    let failing =
        |state: DeliveryState| matches!(state, DeliveryState::Uncertain | DeliveryState::Refused);
    let deliveries = state.open_rotation()?.deliveries.iter();
    let mut failing = deliveries.filter(|delivery| failing(delivery.state));
    failing.find_map(|delivery| {
        let error = delivery.error.as_ref()?;
        Some(format!("not delivered to {}: {error}", delivery.sink))
    })
}

/// The step of a rotation that fails.
fn step_error(state: &KeyState, counts: impl Fn(&Rotation) -> bool) -> Option<String> {
    let live = state.live.iter();
    let mut failing = live.filter(|rotation| rotation.attempt > 0 && counts(rotation));
    failing.find_map(|rotation| rotation.error.clone())
}

fn lost_secret_error(state: &KeyState) -> Option<String> {
    let is_stranded = |rotation: &Rotation| rotation.phase == Phase::Stranded;
    let lost = state.live.iter().any(is_stranded) && state.current().is_none();
    lost.then(|| "the secret of its credential was lost; a new one follows".to_owned())
}

#[cfg(test)]
mod tests;
