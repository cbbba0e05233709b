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

/// The least by which a time of creation may be behind that of the answers: it comes from
/// another host than they do.
const MIN_TOLERANCE: Duration = time::HOUR;

/// The most by which the clocks of a provider whose times are trusted differ.
const SERVER_TOLERANCE: Duration = Duration::from_secs(10);

/// A multiple of this may be a whole hour, or midnight in any zone, and not precise.
const COARSE: Duration = Duration::from_secs(15 * 60);

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

/// Returns when a create was intended that has these times in its row: by the provider's
/// clock, or by this host's where that was unknown.
#[must_use]
pub fn intended_at(not_created_before: Option<Timestamp>, started_at: Timestamp) -> Timestamp {
    let by_host = earliest_by_host_clock(started_at);
    match not_created_before.filter(|earliest| *earliest != by_host) {
        Some(earliest) => time::after(earliest, time::CLOCK_TOLERANCE),
        None => started_at,
    }
}

/// Returns whether a credential with this time of creation existed before `earliest`. One
/// without it may not have.
///
/// It counts only where no name tells: providers show days and hours alone, in zones of
/// their own, and clocks of their own.
#[must_use]
pub fn existed_before(created_at: Option<Timestamp>, earliest: Timestamp) -> bool {
    created_at.is_some_and(|at| time::after(at, tolerance_of(at)) < earliest)
}

/// Returns whether a time of creation shows by itself that a create which was intended at
/// `intended_at` made the credential: it is precise, and is none of before. A whole quarter
/// of an hour is precise where the provider `shows_precise_times`: schedules fire then.
#[must_use]
pub fn proves_creation(
    created_at: Option<Timestamp>,
    intended_at: Timestamp,
    shows_precise_times: bool,
) -> bool {
    let earliest = time::before(intended_at, SERVER_TOLERANCE);
    let latest = time::after(intended_at, MIN_TOLERANCE);
    created_at
        .is_some_and(|at| (shows_precise_times || is_precise(at)) && earliest <= at && at <= latest)
}

/// Returns whether a time can be none of a whole hour, or of midnight in any zone.
#[must_use]
pub fn is_precise(at: Timestamp) -> bool {
    !is_multiple(at, COARSE)
}

/// Returns how long after a time of creation the credential may have been created.
fn tolerance_of(created_at: Timestamp) -> Duration {
    if is_multiple(created_at, time::DAY) {
        // A date alone may be that of any zone.
        time::DAY + time::WESTERNMOST_ZONE
    } else if is_multiple(created_at, COARSE) {
        // Midnight of some zone.
        time::DAY
    } else {
        MIN_TOLERANCE
    }
}

fn is_multiple(at: Timestamp, unit: Duration) -> bool {
    let unit = i64::try_from(unit.as_secs()).unwrap_or(i64::MAX);
    at.as_second().rem_euclid(unit) == 0
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
            (Some("2026-11-24T02:54:00Z"), false, false),
            (Some("2026-11-24T01:55:01Z"), false, false),
            (Some("2026-11-24T01:54:59Z"), true, false),
            (Some("2026-11-23T03:00:01Z"), true, false),
            (Some("2026-11-23T01:59:59Z"), true, true),
            // Whole hours and quarters, and days of other zones.
            (Some("2026-11-24T02:00:00Z"), false, false),
            (Some("2026-11-23T22:00:00Z"), false, false),
            (Some("2026-11-23T08:00:00Z"), false, false),
            (Some("2026-11-23T18:15:00Z"), false, false),
            (Some("2026-11-23T02:45:00Z"), true, false),
            (Some("2026-11-22T02:45:00Z"), true, true),
            // Dates.
            (Some("2026-11-24T00:00:00Z"), false, false),
            (Some("2026-11-23T00:00:00Z"), false, false),
            (Some("2026-11-22T00:00:00Z"), true, false),
            (Some("2026-11-21T00:00:00Z"), true, true),
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

    #[test]
    fn a_precise_time_right_after_the_intent_proves_the_create() {
        let intended = at("2026-11-24T03:00:07Z");
        for (created, expected) in [
            (None, false),
            (Some("2026-11-24T03:00:07Z"), true),
            (Some("2026-11-24T02:59:58Z"), true),
            (Some("2026-11-24T03:01:00Z"), true),
            (Some("2026-11-24T02:59:30Z"), false),
            (Some("2026-11-24T02:56:47Z"), false),
            (Some("2026-11-24T05:00:07Z"), false),
            (Some("2026-11-24T03:00:00Z"), false),
            (Some("2026-11-24T03:15:00Z"), false),
            (Some("2026-11-24T00:00:00Z"), false),
        ] {
            let proves = proves_creation(created.map(at), intended, false);
            assert_eq!(proves, expected, "{created:?}");
            let is_whole = created.is_some_and(|text| {
                ["2026-11-24T03:00:00Z", "2026-11-24T03:15:00Z"].contains(&text)
            });
            let proves = proves_creation(created.map(at), intended, true);
            assert_eq!(proves, expected || is_whole, "{created:?}");
        }
        let host = at("2026-11-24T02:00:00Z");
        let by_provider = Some(earliest_creation(Some(intended), host));
        assert_eq!(intended_at(by_provider, host), intended);
        let by_host = Some(earliest_creation(None, host));
        assert_eq!(intended_at(by_host, host), host);
        assert_eq!(intended_at(None, host), host);
    }
}
