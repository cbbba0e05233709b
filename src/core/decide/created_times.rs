//! Times in the answer to a create that cannot be true.
//!
//! The credential was created just now, and works if its secret does. If rekeyd believed an
//! expiry in the past, the key would be due at once, again and again; a time of creation in
//! the future would shift its schedule. An end that comes too soon is believed if a second
//! answer repeats it ([`crate::core::decide::shown_end`]).
//!
//! Deliberately not here: a time of creation before the create was sent, which shows that
//! the whole answer is false ([`crate::core::creation_time`]).

use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::shown_end::shortest_life;
use crate::core::reported_time::{CREATION_FIELD, EXPIRY_FIELD};
use crate::core::state::CredentialMetadata;
use crate::core::time;

/// The most by which the time of creation in an answer may be after the time of the
/// answer.
const CREATION_TOLERANCE: Duration = time::HOUR;

/// Removes the times that cannot be true from what an answer at `now` says of a new
/// credential, which was asked to live for `expires_in`. Returns the names of their fields.
pub fn remove_impossible_times(
    created: &mut CredentialMetadata,
    expires_in: Option<Duration>,
    now: Timestamp,
) -> Vec<&'static str> {
    let begin = created.created_at.map_or(now, |at| at.max(now));
    let mut removed = Vec::new();
    if created
        .created_at
        .is_some_and(|at| time::until(now, at) > CREATION_TOLERANCE)
    {
        created.created_at = None;
        removed.push(CREATION_FIELD);
    }
    let shortest = shortest_life(expires_in);
    if created
        .expires_at
        .is_some_and(|end| end <= time::after(begin, shortest))
    {
        created.expires_at = None;
        removed.push(EXPIRY_FIELD);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::CredentialId;

    const YEAR: i64 = 365 * 24 * 3_600;

    /// Times in seconds after the answer.
    #[test]
    fn times_that_cannot_be_true_are_removed() {
        let now: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let at = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).unwrap();
        let minute = Some(Duration::from_secs(60));
        for (creation, end, expires_in, is_created_kept, is_end_kept) in [
            (Some(0), None, None, true, true),
            (Some(-3), Some(30 * 86_400), None, true, true),
            (Some(3_599), Some(86_400), None, true, true),
            (None, Some(86_400), None, true, true),
            (Some(0), Some(55), minute, true, true),
            (Some(0), Some(31), minute, true, true),
            // Far from the answer.
            (Some(-3_601), None, None, true, true),
            (Some(3_601), Some(86_400), None, false, true),
            (Some(-25 * YEAR), Some(YEAR), None, true, true),
            (Some(25 * YEAR), Some(30 * YEAR), None, false, true),
            (Some(25 * YEAR), Some(YEAR), None, false, false),
            // Over, or over at once.
            (Some(0), Some(-25 * YEAR), None, true, false),
            (Some(0), Some(0), None, true, false),
            (Some(0), Some(-1), minute, true, false),
            (Some(0), Some(3), None, true, false),
            (Some(-3_000), Some(3), None, true, false),
            (Some(3_000), Some(2_999), None, true, false),
            (Some(3_000), Some(3_000), None, true, false),
            (None, Some(-1), None, true, false),
            (Some(-25 * YEAR), Some(-24 * YEAR), None, true, false),
        ] {
            let mut created = CredentialMetadata {
                id: CredentialId::new("key_new".to_owned()),
                redacted_value: None,
                created_at: creation.map(at),
                expires_at: end.map(at),
            };
            let removed = remove_impossible_times(&mut created, expires_in, now);
            let case = format!("{creation:?} {end:?} {expires_in:?}");
            let is_removed = |field| removed.contains(&field);
            assert_eq!(is_removed(CREATION_FIELD), !is_created_kept, "{case}");
            assert_eq!(is_removed(EXPIRY_FIELD), !is_end_kept, "{case}");
            let kept = |at: Option<i64>, is_kept: bool| at.filter(|_| is_kept).is_some();
            assert_eq!(
                created.created_at.is_some(),
                kept(creation, is_created_kept)
            );
            assert_eq!(created.expires_at.is_some(), kept(end, is_end_kept));
        }
    }
}
