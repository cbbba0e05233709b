//! Which retired credentials are kept because the target of a sink holds them again.
//!
//! Deliberately not here: whether one is revoked ([`crate::core::decide::revocation`]).

use jiff::Timestamp;

use crate::core::health::pause_end;
use crate::core::lifecycle::Phase;
use crate::core::policy::{DEFAULT_MAX_REVOKE_DELAY, KeyPolicy};
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;

/// Returns whether the target of a sink that holds a rotation's credential is left as it
/// is for a while: the credential is retired and alive, and nobody asked for its end.
#[must_use]
pub fn is_tolerated(rotation: &Rotation, now: Timestamp) -> bool {
    let credential = rotation.credential.as_ref();
    let expires_at = credential.and_then(|credential| credential.expires_at);
    rotation.phase == Phase::Retired
        && credential.is_some()
        && !rotation.revoke_now
        && rotation.deadline.is_none()
        && rotation.missing.is_none()
        && expires_at.is_none_or(|at| at > now)
}

/// Returns whether it is recorded that the target of a sink holds a rotation's credential: the
/// consumers of a target that holds one get an overlap before it ends. That of an orphan is
/// repaired at once.
#[must_use]
pub fn may_be_sighted(rotation: &Rotation, now: Timestamp) -> bool {
    let is_orphan = rotation.phase == Phase::Orphaned
        && rotation.credential.is_some()
        && !rotation.revoke_now
        && rotation.deadline.is_none();
    is_orphan || is_tolerated(rotation, now)
}

/// Returns the deliveries of a rotation whose targets hold its credential again.
pub fn open_sightings(rotation: &Rotation) -> impl Iterator<Item = &Delivery> {
    let deliveries = rotation.deliveries.iter();
    deliveries.filter(|delivery| delivery.sighting.is_some_and(|sighting| sighting.is_open()))
}

/// Returns whether the target of any sink holds a retired credential of the key again.
#[must_use]
pub fn has_open_sighting(key: &KeyState) -> bool {
    let retired = key.live.iter().filter(|row| row.phase == Phase::Retired);
    retired.flat_map(open_sightings).next().is_some()
}

/// Returns until when a target that holds a retired credential since `since` is left as
/// it is.
#[must_use]
pub fn repair_time(policy: Option<&KeyPolicy>, since: Timestamp) -> Timestamp {
    let delay = policy.map_or(DEFAULT_MAX_REVOKE_DELAY, |policy| policy.max_revoke_delay);
    time::after(since, delay)
}

/// Returns when the first target is repaired that holds a retired credential instead of
/// the current one. None if no target does, or if its repair has begun.
#[must_use]
pub fn next_repair(
    key: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Option<Timestamp> {
    let current = key.current()?;
    let is_accepted = |sighted: &&Delivery| {
        let mut deliveries = current.deliveries.iter();
        deliveries.any(|delivery| {
            delivery.sink == sighted.sink && delivery.state == DeliveryState::Accepted
        })
    };
    let retired = key.live.iter().filter(|row| row.phase == Phase::Retired);
    let times = retired.flat_map(|row| {
        let expires_at = row
            .credential
            .as_ref()
            .and_then(|credential| credential.expires_at);
        let sighted = open_sightings(row).filter(is_accepted);
        sighted.filter_map(move |delivery| {
            let end = repair_time(policy, delivery.sighting?.since);
            let end = expires_at.map_or(end, |expires_at| expires_at.min(end));
            Some(if is_tolerated(row, now) { end } else { now })
        })
    });
    times.min()
}

/// Returns whether the drift of a delivery of the current credential may have been recorded
/// by a clock that was wrong: its target holds a retired credential that may still stay.
#[must_use]
pub fn may_withdraw_repair(
    key: &KeyState,
    delivery: &Delivery,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> bool {
    let may_stay = |row: &Rotation| {
        let at_sink = open_sightings(row).find(|sighted| sighted.sink == delivery.sink);
        let since = at_sink.and_then(|sighted| sighted.sighting);
        since.is_some_and(|sighting| repair_time(policy, sighting.since) > now)
            && is_tolerated(row, now)
    };
    delivery.has_drifted() && delivery.written_at.is_none() && key.live.iter().any(may_stay)
}

/// Returns whether a retired credential that the target of a sink holds has ended between
/// two states, or somebody asked for its end.
#[must_use]
pub fn has_lost_tolerance(before: &KeyState, after: &KeyState, now: Timestamp) -> bool {
    let held = |key: &KeyState, row: &Rotation| {
        key.rotation(&row.id)
            .is_some_and(|row| is_tolerated(row, now) && open_sightings(row).next().is_some())
    };
    let mut live = before.live.iter();
    live.any(|row| {
        held(before, row)
            && !after
                .rotation(&row.id)
                .is_some_and(|row| is_tolerated(row, now))
    })
}

/// Describes to people that the target of a delivery holds a retired credential again, and
/// until when it is left as it is: a pause that lasts longer keeps the rotation that repairs
/// it.
#[must_use]
pub fn sighting_text(
    key: &KeyState,
    rotation: &Rotation,
    sighted: &Delivery,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Option<String> {
    let (id, sighting) = (&rotation.credential.as_ref()?.id, sighted.sighting?);
    let repaired_at = repair_time(policy, sighting.since);
    let pause = key.pause.filter(|pause| pause.is_active(now));
    let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > repaired_at));
    let outlook = match pause {
        Some(pause) => format!(
            "rekeyd writes it again only when {}, instead of at {}",
            pause_end(&key.key, pause),
            time::to_text(repaired_at)
        ),
        None if repaired_at <= now => "a newer key is about to be delivered there".to_owned(),
        None => format!(
            "rekeyd writes it again at {}, or at the next rotation",
            time::to_text(repaired_at)
        ),
    };
    Some(format!(
        "{} holds the retired credential {id} again since {}, so it is not revoked; {outlook}",
        sighted.sink,
        time::to_text(sighting.since)
    ))
}

#[cfg(test)]
mod tests;
