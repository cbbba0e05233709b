//! Firings around changes of the clock, against tables written manually from the
//! calendar and the zones' rules.
//!
//! A row is `expression | from | firings | reason`, with all times in UTC. The firings
//! are the first ones after `from`; a firing without a year is in that of `from`.

mod properties;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::Schedule;

/// Checks every row of `table`, forward and then backward. It reports all failures
/// together, since one broken rule breaks many rows.
fn check_table(zone: &str, table: &str) {
    let zone = TimeZone::get(zone).unwrap();
    let mut failures = Vec::new();
    let rows = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for row in rows {
        let mut columns = row.split('|').map(str::trim);
        let [expression, from, firings] = [(); 3].map(|()| columns.next().unwrap());
        let year = &from[..4];
        let from = time(year, from);
        let expected: Vec<Timestamp> = firings
            .split_whitespace()
            .map(|text| time(year, text))
            .collect();
        let end = *expected.last().unwrap();

        let schedule = Schedule::parse(expression, zone.clone()).unwrap();
        let forward: Vec<Timestamp> =
            std::iter::successors(schedule.next_after(from), |now| schedule.next_after(*now))
                .take(expected.len())
                .collect();
        let mut backward: Vec<Timestamp> =
            std::iter::successors(schedule.last_between(from, end), |now| {
                schedule.last_between(from, *now - 1.second())
            })
            .take(expected.len() + 1)
            .collect();
        backward.reverse();
        for (direction, found) in [("forward", forward), ("backward", backward)] {
            if found != expected {
                failures.push(format!("{row}\n  {direction}: {found:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn time(year: &str, text: &str) -> Timestamp {
    let has_year = text.starts_with("20");
    let year = if has_year { "" } else { year };
    let dash = if has_year { "" } else { "-" };
    format!("{year}{dash}{text}Z").parse().unwrap()
}

#[test]
fn firings_in_berlin() {
    check_table("Europe/Berlin", include_str!("tables/berlin.txt"));
}

#[test]
fn firings_in_london_with_change_an_hour_after_midnight() {
    check_table("Europe/London", include_str!("tables/london.txt"));
}

#[test]
fn firings_in_new_york() {
    check_table("America/New_York", include_str!("tables/new_york.txt"));
}

#[test]
fn firings_in_lord_howe_with_half_hour_change() {
    check_table("Australia/Lord_Howe", include_str!("tables/lord_howe.txt"));
}

#[test]
fn firings_in_casablanca_with_negative_dst() {
    check_table("Africa/Casablanca", include_str!("tables/casablanca.txt"));
}

#[test]
fn firings_in_santiago_with_change_at_midnight() {
    check_table("America/Santiago", include_str!("tables/santiago.txt"));
}

#[test]
fn firings_in_zones_without_changes() {
    check_table("Asia/Kolkata", include_str!("tables/kolkata.txt"));
    check_table("UTC", include_str!("tables/utc.txt"));
}
