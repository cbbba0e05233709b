//! Timetables by age, jitter, and the text in the ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::Timetable;
use crate::core::ids::KeyName;
use crate::core::schedule::Schedule;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

fn cron(expression: &str) -> Timetable {
    Schedule::parse(expression, TimeZone::UTC).unwrap().into()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

#[test]
fn age_timetable_counts_from_credential_creation() {
    let every = Timetable::every(minutes(60), TimeZone::UTC);
    let firings = every.firings_from(at("2026-11-24T03:20:00.7Z"));
    for (now, next, last) in [
        ("2026-11-24T03:20:00Z", "2026-11-24T04:20:00Z", None),
        ("2026-11-24T04:19:59.9Z", "2026-11-24T04:20:00Z", None),
        (
            "2026-11-24T04:20:00Z",
            "2026-11-24T05:20:00Z",
            Some("2026-11-24T04:20:00Z"),
        ),
        (
            "2026-11-24T07:00:00Z",
            "2026-11-24T07:20:00Z",
            Some("2026-11-24T06:20:00Z"),
        ),
        // The time is before the credential was created.
        ("2020-01-01T00:00:00Z", "2026-11-24T04:20:00Z", None),
    ] {
        assert_eq!(firings.next_after(at(now)), Some(at(next)), "{now}");
        let found = firings.last_between(Timestamp::MIN, at(now));
        assert_eq!(found, last.map(at), "{now}");
    }
    // The start of the span is exclusive.
    let skipped = at("2026-11-24T06:20:00Z");
    assert_eq!(
        firings.last_between(skipped, at("2026-11-24T07:00:00Z")),
        None
    );
    // The end of representable time causes no panic.
    assert_eq!(firings.next_after(Timestamp::MAX), None);
}

#[test]
fn timetable_properties_hold_for_schedules_and_ages() {
    let now = at("2026-11-24T00:00:00Z");
    let twice = cron("0 3,5 * * *").with_jitter(&key("k"), minutes(10));
    let every = Timetable::every(minutes(7 * 60), TimeZone::UTC);
    for (table, by_age, jitter, (shortest, longest), in_a_day, text) in [
        (twice, false, 10, (2, 22), 2, "0 3,5 * * *"),
        (every, true, 0, (7, 7), 4, "every 7h"),
    ] {
        assert_eq!(table.is_by_age(), by_age);
        assert_eq!(table.jitter(), minutes(jitter));
        assert_eq!(table.shortest_gap(now), Some(minutes(shortest * 60)));
        assert_eq!(table.longest_gap(now), Some(minutes(longest * 60)));
        assert_eq!(table.firings_per_day(), in_a_day);
        assert_eq!(table.to_string(), text);
    }
}

/// A change of this table would move every firing of every installation.
#[test]
fn jitter_is_stable_across_versions() {
    let table = cron("0 3 * * *").with_jitter(&key("billing-exporter"), minutes(30));
    let firings = table.firings_from(Timestamp::MIN);
    let mut now = at("2026-11-24T00:00:00Z");
    for expected in [
        "2026-11-24T03:06:27Z",
        "2026-11-25T03:23:20Z",
        "2026-11-26T03:28:12Z",
    ] {
        now = firings.next_after(now).unwrap();
        assert_eq!(now, at(expected));
    }
}

#[test]
fn jitter_is_spread_evenly_across_keys() {
    let mut buckets = [0_u32; 10];
    let mut delays = BTreeSet::new();
    for number in 0..1_000 {
        let table = cron("0 3 * * *").with_jitter(&key(&format!("k{number}")), minutes(10));
        let fires = table.firings_from(Timestamp::MIN);
        let fires = fires.next_after(at("2026-11-24T02:59:59Z")).unwrap();
        let delay = fires.duration_since(at("2026-11-24T03:00:00Z")).as_secs();
        assert!((0..=600).contains(&delay), "{delay}");
        buckets[usize::try_from(delay.min(599) / 60).unwrap()] += 1;
        delays.insert(delay);
    }
    // Each bucket has about a hundred; these bounds are four standard deviations away.
    assert!(
        buckets.iter().all(|count| (60..=140).contains(count)),
        "{buckets:?}"
    );
    assert!(delays.contains(&0) || delays.contains(&1) || delays.contains(&2));
    assert!(delays.len() > 400, "{}", delays.len());
}

#[test]
fn firing_delayed_by_jitter_is_still_to_come() {
    let table = cron("0 * * * *").with_jitter(&key("k"), minutes(50));
    let firings = table.firings_from(Timestamp::MIN);
    let first = firings.next_after(at("2026-11-24T02:59:59Z")).unwrap();
    assert!(first > at("2026-11-24T03:00:00Z"));
    // Between a firing and its jitter, the firing is the next one and not the last.
    let between = at("2026-11-24T03:00:00Z");
    assert_eq!(firings.next_after(between), Some(first));
    assert!(firings.last_between(Timestamp::MIN, between).unwrap() < between);
    assert_eq!(firings.last_between(between, first), Some(first));
    assert_eq!(firings.last_between(between, first - 1.second()), None);
}

#[test]
fn ledger_text_round_trips() {
    let zone = |name: &str| TimeZone::get(name).ok();
    let berlin = zone("Europe/Berlin").unwrap();
    let by_schedule = Timetable::from(Schedule::parse("0 3 * * Mon", berlin.clone()).unwrap());
    for (table, text) in [
        (by_schedule, "0 3 * * Mon | Europe/Berlin | 0s"),
        (
            Timetable::every(minutes(90), TimeZone::UTC).with_jitter(&key("k"), minutes(5)),
            "every 90m | UTC | 5m",
        ),
    ] {
        assert_eq!(table.to_text(), text);
        assert!(table.matches_text(text));
        let (shorter, longer) = (&text[..text.len() - 1], format!("{text}s"));
        for other in [shorter, &longer, &text.replace('|', "/"), ""] {
            assert!(!table.matches_text(other), "{other}");
        }
        let parsed = Timetable::from_text(text, &key("k"), zone).unwrap();
        assert_eq!(parsed.to_text(), text);
        let (origin, now) = (at("2026-11-24T03:00:00Z"), at("2026-11-24T04:00:00Z"));
        let next = |table: &Timetable| table.firings_from(origin).next_after(now);
        assert_eq!(next(&parsed), next(&table));
    }
    for text in [
        "",
        "0 3 * * Mon",
        "0 3 * * Mon | Nowhere/Else | 0s",
        "x | UTC | 0s",
        "0 3 * * Mon | UTC | 0s | 0s",
        "0 3 * * Mon | UTC | 0s ",
        "0 3 * * Mon | UTC | +5s",
        "0 3 * * Mon | UTC |",
        "every 90m|UTC|5m",
        "Every 90m | UTC | 5m",
        "every  90m | UTC | 5m",
        "every 90 | UTC | 5m",
    ] {
        assert!(
            Timetable::from_text(text, &key("k"), zone).is_none(),
            "{text}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn firings_with_jitter_strictly_increase_and_are_found_backward(
        expression in prop::sample::select(vec!["*/20 * * * *", "0 3 * * *", "15 1-3 * * *"]),
        age in 1_800_u64..100_000,
        by_age: bool,
        jitter in 0_u64..1_200,
        start in 1_700_000_000_i64..1_800_000_000,
    ) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let unjittered = if by_age {
            Timetable::every(Duration::from_secs(age), zone)
        } else {
            Schedule::parse(expression, zone).unwrap().into()
        };
        let table = unjittered.with_jitter(&key("k"), Duration::from_secs(jitter));
        let start = Timestamp::from_second(start).unwrap();
        let firings = table.firings_from(start);
        let mut now = start;
        for _ in 0..12 {
            let next = firings.next_after(now).unwrap();
            prop_assert!(next > now);
            prop_assert_eq!(firings.last_between(now, next), Some(next));
            prop_assert_eq!(firings.last_between(now, next - 1.second()), None);
            now = next;
        }
    }
}
