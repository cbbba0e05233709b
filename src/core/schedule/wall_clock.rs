//! The search for firings of a fixed schedule: over the wall clock without a zone,
//! with each wall time mapped to its instant.
//!
//! The mapping is monotonic: every skipped time becomes the instant of the jump, and
//! a repeated time its first instant. A search over wall times therefore finds the
//! same firing as a search over instants.

use croner::Cron;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Returns the first firing after `at`.
pub(super) fn next_after(cron: &Cron, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let mut wall = latest_wall_time(zone, at);
    loop {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let instant = instant_of(zone, wall)?;
        // A skipped time and the first time after the jump are one instant.
        if instant > at {
            return Some(instant);
        }
    }
}

/// Returns the last firing at or before `at`.
pub(super) fn last_until(cron: &Cron, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let wall = cron
        .find_previous_occurrence(&latest_wall_time(zone, at), true)
        .ok()?;
    instant_of(zone, wall)
}

/// Returns the latest wall time whose instant is not after `at`: the wall clock's
/// time, except in the second pass of a repeated hour, which counts as over.
fn latest_wall_time(zone: &TimeZone, at: Timestamp) -> DateTime {
    let wall = zone.to_datetime(at);
    let ambiguous = zone.to_ambiguous_timestamp(wall).offset();
    if let AmbiguousOffset::Fold { before, after } = ambiguous
        && zone.to_offset(at) == after
        && let Some(change) = change_at_or_before(zone, at)
    {
        let end = before.to_datetime(change);
        return end.checked_sub(jiff::Span::new().seconds(1)).unwrap_or(end);
    }
    wall
}

fn instant_of(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            // By the offset before the jump, a skipped time is after the jump.
            let after = before.to_timestamp(wall).ok()?;
            change_at_or_before(zone, after)
        }
    }
}

/// Returns the last change of the offset at or before `at`.
fn change_at_or_before(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    // `preceding` is exclusive.
    let just_after = at.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
    let offset = zone.to_offset(at);
    // Some entries of tzdata change the zone's abbreviation and not its offset.
    zone.preceding(just_after)
        .find(|change| {
            let before = jiff::SignedDuration::from_secs(1);
            let earlier = change.timestamp().checked_sub(before);
            earlier.is_ok_and(|earlier| zone.to_offset(earlier) != offset)
        })
        .map(|change| change.timestamp())
}
