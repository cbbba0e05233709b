//! Properties around every change of the clock, beside the tables.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::Schedule;
use crate::core::time;

/// Changes by an hour, half an hour and two hours; at night, at midnight and
/// at the end of a day; twice a year, four times a year and never.
const ZONES: [&str; 9] = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Santiago",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "UTC",
];

prop_compose! {
    /// Returns a schedule, and a time 30 hours before a change of its zone, or an
    /// arbitrary time in a zone without changes.
    fn near_a_change()(
        minute in "\\*|\\*/20|0|0-10|7,30|45",
        hour in "\\*|\\*/5|[0-3]|0,2,3|1-3|23|\\*/2",
        days in "\\*|1|\\*/2|25-31",
        weekday in "\\*|0|0-5",
        zone in prop::sample::select(&ZONES[..]),
        start in 1_600_000_000_i64..1_900_000_000,
    ) -> (Schedule, Timestamp) {
        let zone = TimeZone::get(zone).unwrap();
        let start = Timestamp::from_second(start).unwrap();
        let change = zone.following(start).next().map_or(start, |change| change.timestamp());
        let expression = format!("{minute} {hour} {days} * {weekday}");
        (Schedule::parse(&expression, zone).unwrap(), change - 30.hours())
    }
}

/// Returns the firings in the `hours` after `from`.
fn firings(schedule: &Schedule, from: Timestamp, hours: i64) -> Vec<Timestamp> {
    let end = from + hours.hours();
    std::iter::successors(schedule.next_after(from), |now| schedule.next_after(*now))
        .take_while(|now| *now <= end)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn fixed_schedule_fires_once_for_each_wall_clock_time(
        (schedule, from) in near_a_change(),
    ) {
        if !schedule.parsed.is_fixed {
            return Ok(());
        }
        let mut seen: BTreeSet<DateTime> = BTreeSet::new();
        for firing in firings(&schedule, from, 60) {
            let wall = schedule.zone.to_datetime(firing);
            prop_assert!(seen.insert(wall), "{:?} twice at {}", schedule, wall);
        }
    }

    /// The longest gap is by the wall clock: a change within a gap adds at most its own
    /// length.
    #[test]
    fn no_gap_exceeds_the_longest_gap_plus_the_clock_change(
        (schedule, from) in near_a_change(),
    ) {
        let longest = schedule.longest_gap(from).unwrap();
        for pair in firings(&schedule, from, 90 * 24).windows(2) {
            let offsets = [pair[0], pair[1]].map(|at| schedule.zone.to_offset(at).seconds());
            let change = Duration::from_secs(offsets[0].abs_diff(offsets[1]).into());
            let gap = time::until(pair[0], pair[1]);
            prop_assert!(
                gap <= longest + change,
                "{:?}: {:?} from {} to {}, and the longest is {:?}",
                schedule, gap, pair[0], pair[1], longest
            );
        }
    }

    /// Both searches return the same for any span, even one without firings, and skip no
    /// firing.
    #[test]
    fn forward_and_backward_search_agree_about_any_span(
        (schedule, from) in near_a_change(),
        // The change is at 30 hours.
        end in 28 * 3_600_000_i64..33 * 3_600_000,
        length in 0_i64..12 * 3_600_000,
    ) {
        let at = from + end.milliseconds();
        let since = at - length.milliseconds();
        let next = schedule.next_after(since).unwrap();
        match schedule.last_between(since, at) {
            None => prop_assert!(at < next, "{:?}: {} is missed", schedule, next),
            Some(last) => {
                prop_assert!(since < last && last <= at);
                prop_assert!(next <= last, "{:?}: {} is missed", schedule, last);
                prop_assert!(at < schedule.next_after(last).unwrap());
            }
        }
    }

    #[test]
    fn cached_firings_do_not_change_later_results(
        (schedule, from) in near_a_change(),
        queries in prop::collection::vec((0_i64..3_600, 0_i64..40, any::<bool>()), 1..12),
    ) {
        for (seconds, hours, forward) in queries {
            let at = from + hours.hours() + seconds.seconds();
            // `in_zone` returns a schedule with an empty cache.
            let uncached = schedule.in_zone(schedule.zone().clone());
            if forward {
                prop_assert_eq!(schedule.next_after(at), uncached.next_after(at));
                // The times beside the cached firing are the risky ones.
                let next = uncached.next_after(at).unwrap();
                for at in [next - 1.seconds(), next] {
                    let uncached = schedule.in_zone(schedule.zone().clone());
                    prop_assert_eq!(schedule.next_after(at), uncached.next_after(at));
                }
            } else {
                let since = at - (90 * 24).hours();
                let last = schedule.last_between(since, at);
                prop_assert_eq!(last, uncached.last_between(since, at));
                for at in last.into_iter().flat_map(|last| [last - 1.seconds(), last]) {
                    let uncached = schedule.in_zone(schedule.zone().clone());
                    prop_assert_eq!(schedule.last_between(since, at), uncached.last_between(since, at));
                }
            }
        }
    }
}
