//! What follows from the end of a credential that a list or a retrieve shows.
//!
//! A key is due in the last quarter of its credential's life, so an end that comes earlier
//! than the ledger knows leaves its consumers without a credential. A later end, or none,
//! only spares a rotation, and one stale answer must not do that.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::reported_time::ShownEnd;
use crate::core::state::CredentialMetadata;
use crate::core::time;

/// What follows from the end that an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndJudgement {
    /// The recorded end stays.
    Keep,
    /// The credential ends then, or never.
    Record(Option<Timestamp>),
    /// The credential ends then, or never, if another answer repeats it.
    Confirm(Option<Timestamp>),
}

/// Judges the end that an answer at `now` shows of a credential that was created at
/// `created_at`, was asked to live for `expires_in`, and ends at `recorded` by the ledger.
#[must_use]
pub fn judge_end(
    recorded: Option<Timestamp>,
    created_at: Timestamp,
    expires_in: Option<Duration>,
    shown: ShownEnd,
    now: Timestamp,
) -> EndJudgement {
    let shown = match shown {
        ShownEnd::Unknown => return EndJudgement::Keep,
        ShownEnd::Never => None,
        ShownEnd::At(end) => Some(time::whole_seconds(end)),
    };
    // No credential ends before it begins.
    if shown == recorded || shown.is_some_and(|end| end <= created_at) {
        return EndJudgement::Keep;
    }
    let is_nearer = match (shown, recorded) {
        (Some(shown), Some(recorded)) => shown < recorded,
        (Some(_), None) => true,
        (None, _) => false,
    };
    // An answer that is wrong about this would have each successor replaced at once.
    let is_doubtful =
        shown.is_some_and(|end| end <= now || is_short_life(created_at, end, expires_in));
    if is_nearer && !is_doubtful {
        EndJudgement::Record(shown)
    } else {
        EndJudgement::Confirm(shown)
    }
}

/// Returns whether a credential that was asked to live for `expires_in` ends so soon after
/// its creation that its consumers have no use of it.
#[must_use]
pub fn is_short_life(created_at: Timestamp, end: Timestamp, expires_in: Option<Duration>) -> bool {
    end <= time::after(created_at, shortest_life(expires_in))
}

/// Returns the longest life that is too short, if `expires_in` was requested: clocks agree
/// within a tolerance, and a shorter life than that is no life.
pub(super) fn shortest_life(expires_in: Option<Duration>) -> Duration {
    expires_in.map_or(time::CLOCK_TOLERANCE, |life| {
        time::CLOCK_TOLERANCE.min(life / 2)
    })
}

/// Returns the problem of a credential whose life is too short.
#[must_use]
pub fn short_life_problem(credential: &CredentialMetadata, end: Timestamp) -> String {
    let id = &credential.id;
    let created_at = credential.created_at;
    let life = created_at.map(|at| time::until(at, end).as_secs());
    let life = life.map(|seconds| format!(", {seconds} s after its creation"));
    format!(
        "{id} has too short a life: the provider ends it at {}{}; hint: lift the limit on the life of \
         credentials there",
        time::to_text(end),
        life.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in seconds after the creation; the answer is an hour after it.
    #[test]
    fn nearer_ends_count_at_once_and_others_if_they_are_repeated() {
        let created_at: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let at = |seconds: i64| Timestamp::from_second(created_at.as_second() + seconds).unwrap();
        let now = at(3_600);
        let end = |seconds: i64| ShownEnd::At(at(seconds));
        let keep = EndJudgement::Keep;
        let record = |seconds: i64| EndJudgement::Record(Some(at(seconds)));
        let confirm = |seconds: Option<i64>| EndJudgement::Confirm(seconds.map(at));
        for (recorded, expires_in, shown, expected) in [
            (None, None, ShownEnd::Unknown, keep),
            (Some(90_000), None, ShownEnd::Unknown, keep),
            (None, None, ShownEnd::Never, keep),
            (Some(90_000), None, end(90_000), keep),
            // Nearer.
            (None, None, end(90_000), record(90_000)),
            (Some(90_000), None, end(89_999), record(89_999)),
            (Some(90_000), None, end(3_601), record(3_601)),
            // Later, or without an end.
            (Some(90_000), None, end(90_001), confirm(Some(90_001))),
            (Some(90_000), None, ShownEnd::Never, confirm(None)),
            // Over, or a life that is none.
            (Some(90_000), None, end(3_600), confirm(Some(3_600))),
            (None, None, end(300), confirm(Some(300))),
            (None, None, end(1), confirm(Some(1))),
            (None, Some(60), end(55), confirm(Some(55))),
            // Before its creation.
            (None, None, end(0), keep),
            (Some(90_000), None, end(-1), keep),
            (Some(90_000), None, end(-800_000_000), keep),
        ] {
            let recorded = recorded.map(at);
            let life = expires_in.map(Duration::from_secs);
            let judged = judge_end(recorded, created_at, life, shown, now);
            assert_eq!(judged, expected, "{recorded:?} {shown:?}");
        }
        // A requested life may be short.
        let minute = Some(Duration::from_secs(60));
        assert!(!is_short_life(created_at, at(31), minute));
        assert!(is_short_life(created_at, at(30), minute));
        assert!(is_short_life(created_at, at(300), None));
        assert!(!is_short_life(created_at, at(301), None));
    }
}
