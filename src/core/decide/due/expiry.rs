//! When a credential expires, and when its successor is due because of that.

use jiff::Timestamp;

use crate::core::state::{KeyState, Rotation};
use crate::core::time;

/// Returns when the current credential of a key expires, if that is so soon that
/// its successor should exist already.
#[must_use]
pub fn imminent_expiry(state: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let current = state.current()?;
    let is_imminent = last_quarter_start(current).is_some_and(|at| at <= now);
    let expires_at = current.credential.as_ref()?.expires_at;
    expires_at.filter(|_| is_imminent)
}

/// Returns when the last quarter of the life of a key's current credential begins,
/// and when the credential expires; none if it never does.
#[must_use]
pub fn expiry_window(state: &KeyState) -> Option<(Timestamp, Timestamp)> {
    let current = state.current()?;
    let end = current.credential.as_ref()?.expires_at?;
    Some((last_quarter_start(current)?, end))
}

/// Returns when the last quarter of a credential's life begins, if it expires. Its
/// successor is created then, so that failures have time to pass. A life that is too short
/// to be used has no such time: its successor is due from the beginning.
pub(super) fn last_quarter_start(current: &Rotation) -> Option<Timestamp> {
    let credential = current.credential.as_ref()?;
    let end = credential.expires_at?;
    let begin = credential.created_at.unwrap_or(current.started_at);
    let life = time::until(begin, end);
    Some(if life <= time::CLOCK_TOLERANCE {
        begin
    } else {
        time::before(end, life / 4)
    })
}
