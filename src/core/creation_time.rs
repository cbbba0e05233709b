//! Whether a credential can be what a create made, by its time of creation.
//!
//! A provider that replays an answer, or lists an older credential under a new label,
//! shows one that existed before the create was sent: it belongs to somebody else, and
//! rekeyd neither delivers nor revokes it.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::time;

/// The most by which this host's clock is trusted where the provider's time is unknown.
const HOST_CLOCK_TOLERANCE: Duration = time::DAY;

/// Returns the earliest time of creation that the provider may show of what a create makes
/// that is sent at `now`, or later. The provider's clock decides, since that of this host
/// may be set meanwhile.
#[must_use]
pub fn earliest_creation(provider_time: Option<Timestamp>, now: Timestamp) -> Timestamp {
    match provider_time {
        Some(provider_time) => time::before(provider_time, time::CLOCK_TOLERANCE),
        None => earliest_by_host_clock(now),
    }
}

/// Returns that time for a create whose intent was recorded at `started_at` by this host's
/// clock.
#[must_use]
pub fn earliest_by_host_clock(started_at: Timestamp) -> Timestamp {
    time::before(started_at, HOST_CLOCK_TOLERANCE)
}

/// Returns whether a credential with this time of creation existed before `earliest`. One
/// without it may not have. Midnight stands for its day: some providers show no more.
#[must_use]
pub fn existed_before(created_at: Option<Timestamp>, earliest: Timestamp) -> bool {
    let day = i64::try_from(time::DAY.as_secs()).unwrap_or(i64::MAX);
    created_at.is_some_and(|at| {
        let is_midnight = at.as_second().rem_euclid(day) == 0;
        let latest = if is_midnight {
            time::after(at, time::DAY)
        } else {
            at
        };
        latest < earliest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_that_existed_before_are_told_by_their_time() {
        let sent = at("2026-11-24T03:00:00Z");
        for (created, by_provider, by_host) in [
            (None, false, false),
            (Some("2026-11-24T03:00:01Z"), false, false),
            (Some("2026-11-24T02:55:00Z"), false, false),
            (Some("2026-11-24T02:54:59Z"), true, false),
            (Some("2026-11-24T00:00:00Z"), false, false),
            (Some("2026-11-23T03:00:01Z"), true, false),
            (Some("2026-11-23T02:59:59Z"), true, true),
            (Some("2026-11-23T00:00:00Z"), true, false),
            (Some("2026-11-22T00:00:00Z"), true, true),
            (Some("2026-08-24T03:00:00Z"), true, true),
            (Some("1970-01-01T00:00:00Z"), true, true),
            (Some("2096-10-02T07:06:40Z"), false, false),
        ] {
            let created_at = created.map(at);
            // This host's clock is years ahead.
            let earliest = earliest_creation(Some(sent), at("2030-01-01T00:00:00Z"));
            assert_eq!(
                existed_before(created_at, earliest),
                by_provider,
                "{created:?}"
            );
            let earliest = earliest_creation(None, sent);
            assert_eq!(existed_before(created_at, earliest), by_host, "{created:?}");
        }
    }
}
