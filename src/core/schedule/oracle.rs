//! The schedule against a walk over every minute, as Debian's cron does it: slow, and
//! too simple to have the same bugs.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::Schedule;

/// Returns every firing in the `minutes` after `from`, which is a whole minute.
fn walk_firings(schedule: &Schedule, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
    let matches = |wall| schedule.parsed.cron.is_time_matching(&wall).unwrap();
    let mut walked = schedule.zone.to_datetime(from);
    let mut firings = Vec::new();
    for minute in 1..=minutes {
        let now = from + minute.minutes();
        let wall = schedule.zone.to_datetime(now);
        if schedule.parsed.is_fixed {
            // A fixed time fires when the clock reaches it or jumps over it.
            while walked < wall {
                walked += 1.minute();
                if matches(walked) && firings.last() != Some(&now) {
                    firings.push(now);
                }
            }
        } else if matches(wall) {
            firings.push(now);
        }
    }
    firings
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn firings_around_a_clock_change_match_debian_cron(
        minute in "\\*|\\*/20|0|0-10|7,30|45",
        hour in "\\*|\\*/5|[0-3]|0,2,3|1-3|\\*/2",
        days in "\\*|1|\\*/2|25-31",
        weekday in "\\*|0|0-5",
        // Changes at night, at midnight, by half an hour and backward in spring, and a
        // zone without changes.
        (zone, change) in prop::sample::select(vec![
            ("Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("America/Santiago", "2026-09-06T04:00:00Z"),
            ("America/Santiago", "2026-04-05T03:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
            ("UTC", "2026-03-29T01:00:00Z"),
        ]),
    ) {
        let expression = format!("{minute} {hour} {days} * {weekday}");
        let schedule = Schedule::parse(&expression, TimeZone::get(zone).unwrap()).unwrap();
        let change: Timestamp = change.parse().unwrap();
        let from = change - 26.hours();
        let end = change + 26.hours();
        let expected = walk_firings(&schedule, from, 52 * 60);

        let mut found = Vec::new();
        let mut now = from;
        while let Some(next) = schedule.next_after(now).filter(|next| *next <= end) {
            found.push(next);
            now = next;
        }
        prop_assert_eq!(&found, &expected, "{} in {}", expression, zone);

        let mut backward = Vec::new();
        let mut now = end;
        while let Some(last) = schedule.last_between(from, now) {
            backward.push(last);
            now = last - 1.second();
        }
        backward.reverse();
        prop_assert_eq!(&backward, &expected, "backward: {} in {}", expression, zone);
    }
}
