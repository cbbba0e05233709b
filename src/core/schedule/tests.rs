//! Tables of firings, and properties of every schedule.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::Schedule;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn berlin(expression: &str) -> Schedule {
    Schedule::parse(expression, TimeZone::get("Europe/Berlin").unwrap()).unwrap()
}

fn utc(expression: &str) -> Schedule {
    Schedule::parse(expression, TimeZone::UTC).unwrap()
}

/// Checks the first firings after `from`, each forward and backward.
fn expect_firings(schedule: &Schedule, from: &str, expected: &[&str]) {
    let mut now = at(from);
    for text in expected {
        let next = schedule.next_after(now).unwrap();
        assert_eq!(next, at(text), "{schedule:?} after {now}");
        assert_eq!(schedule.last_between(now, next), Some(next), "{schedule:?}");
        let later = schedule.next_after(next).unwrap();
        let just_before = later - Duration::from_millis(1);
        assert_eq!(schedule.last_between(now, just_before), Some(next));
        assert_eq!(schedule.last_between(next, just_before), None);
        now = next;
    }
}

#[test]
fn fields_and_nicknames_fire_at_documented_times() {
    let from = "2026-11-24T02:51:33.5Z"; // a Tuesday
    for (expression, expected) in [
        (
            "0 3 * * Mon",
            ["2026-11-30T03:00:00Z", "2026-12-07T03:00:00Z"],
        ),
        (
            "*/5 * * * * *",
            ["2026-11-24T02:51:35Z", "2026-11-24T02:51:40Z"],
        ),
        ("@hourly", ["2026-11-24T03:00:00Z", "2026-11-24T04:00:00Z"]),
        ("@daily", ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("@weekly", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("@MONTHLY", ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        // With both day fields, either matches; with a star in one, both must.
        (
            "0 0 1 * Wed",
            ["2026-11-25T00:00:00Z", "2026-12-01T00:00:00Z"],
        ),
        (
            "0 0 */2 * Wed",
            ["2026-11-25T00:00:00Z", "2026-12-09T00:00:00Z"],
        ),
        (
            "0 0 29 2 *",
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
    ] {
        expect_firings(&utc(expression), from, &expected);
    }
}

#[test]
fn firing_in_skipped_hour_runs_right_after_the_jump() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
    for (expression, expected) in [
        (
            "30 2 * * *",
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z",
            ],
        ),
        (
            "0,30 2 * * *",
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:00:00Z",
            ],
        ),
        (
            "0 3 * * *",
            [
                "2026-03-28T02:00:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T01:00:00Z",
            ],
        ),
    ] {
        expect_firings(&berlin(expression), "2026-03-28T01:00:00Z", &expected);
    }
    let unfixed = berlin("*/30 2 * * *");
    expect_firings(
        &unfixed,
        "2026-03-28T01:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-30T00:00:00Z"],
    );
}

#[test]
fn repeated_hour_fires_once_if_fixed_and_twice_otherwise() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
    expect_firings(
        &berlin("15,45 2 * * *"),
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:15:00Z",
            "2026-10-25T00:45:00Z",
            "2026-10-26T01:15:00Z",
        ],
    );
    expect_firings(
        &berlin("*/30 2 * * *"),
        "2026-10-24T12:00:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:00:00Z",
        ],
    );
    // In the second pass, the hour counts as over.
    let fixed = berlin("15,45 2 * * *");
    let second_pass = at("2026-10-25T01:20:00Z");
    assert_eq!(
        fixed.next_after(second_pass),
        Some(at("2026-10-26T01:15:00Z"))
    );
    assert_eq!(
        fixed.last_between(Timestamp::MIN, second_pass),
        Some(at("2026-10-25T00:45:00Z"))
    );
}

#[test]
fn daily_fires_once_a_day_across_a_midnight_change() {
    // Santiago, 6 September 2026: midnight becomes 01:00 at 04:00 UTC.
    let zone = TimeZone::get("America/Santiago").unwrap();
    let schedule = Schedule::parse("@daily", zone).unwrap();
    expect_firings(
        &schedule,
        "2026-09-04T12:00:00Z",
        &[
            "2026-09-05T04:00:00Z",
            "2026-09-06T04:00:00Z",
            "2026-09-07T03:00:00Z",
        ],
    );
}

#[test]
fn last_firing_is_found_quickly_over_decades() {
    let schedule = berlin("* * * * * *");
    let now = at("2026-11-24T02:51:33.9Z");
    for _ in 0..100 {
        assert_eq!(
            schedule.last_between(at("1990-01-01T00:00:00Z"), now),
            Some(at("2026-11-24T02:51:33Z"))
        );
    }
    assert_eq!(schedule.last_between(now, now), None);
}

#[test]
fn impossible_date_is_detected_without_a_search() {
    for expression in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let schedule = utc(expression);
        assert!(!schedule.can_fire(), "{expression}");
        assert_eq!(schedule.next_after(at("2026-01-01T00:00:00Z")), None);
        assert_eq!(schedule.last_between(Timestamp::MIN, Timestamp::MAX), None);
        assert_eq!(schedule.shortest_gap(at("2026-01-01T00:00:00Z")), None);
    }
    for expression in ["0 0 29 2 *", "0 0 29 2 */7"] {
        assert!(utc(expression).can_fire(), "{expression}");
    }
}

#[test]
fn shortest_gap_follows_from_the_fields() {
    let from = at("2026-11-24T00:00:00Z");
    let (hour, day) = (3_600, 86_400);
    for (expression, seconds) in [
        ("* * * * * *", Some(1)),
        ("*/5 * * * * *", Some(5)),
        ("*/7 * * * * *", Some(4)),
        ("0,50 * * * *", Some(600)),
        ("@hourly", Some(hour)),
        ("0 0,23 * * *", Some(hour)),
        ("@daily", Some(day)),
        ("@weekly", Some(7 * day)),
        ("@monthly", Some(28 * day)),
        ("0 3 1 * Mon", Some(day)),
        ("@yearly", Some(365 * day)),
        ("0 0 29 2 *", Some(1_461 * day)),
        ("0 0 31 2 *", None),
    ] {
        assert_eq!(
            utc(expression).shortest_gap(from),
            seconds.map(Duration::from_secs),
            "{expression}"
        );
    }
}

#[test]
fn spring_jump_shortens_shortest_gap() {
    let from = at("2026-01-01T00:00:00Z");
    for (expression, seconds) in [
        ("@daily", 23 * 3_600),
        ("0 1,4 * * *", 2 * 3_600),
        // 02:30 fires at 03:00 on the day of the jump, and at 02:30 on the next.
        ("30 2 * * *", 23 * 3_600 + 1_800),
        // 02:45 of the first pass, then 02:00 of the second.
        ("*/45 2 * * *", 900),
    ] {
        assert_eq!(
            berlin(expression).shortest_gap(from),
            Some(Duration::from_secs(seconds)),
            "{expression}"
        );
    }
}

#[test]
fn longest_gap_includes_days_without_firings() {
    let from = at("2026-01-01T00:00:00Z");
    let (hour, day) = (3_600, 86_400);
    for (expression, seconds) in [
        ("@hourly", Some(hour)),
        // The gap is by the wall clock: 24 hours even across a change.
        ("@daily", Some(day)),
        ("30 2 * * *", Some(day)),
        ("0 3 * * Mon", Some(7 * day)),
        ("@yearly", Some(365 * day)),
        // The day of the jump has no 02:00 and no 02:30: from 02:30 the day
        // before to 02:00 the day after, less the hour.
        ("*/30 2 * * *", Some(2 * day - 1_800 - hour)),
        ("*/30 2 * * Sun", Some(14 * day - 1_800 - hour)),
        // Several firings a day make rare days no less rare.
        ("0 0,12 29 2 *", Some(1_461 * day - 12 * hour)),
        ("*/30 4 29 2 *", Some(1_461 * day - 1_800)),
        // 1 January is a Sunday in 2034 and then in 2040.
        ("0 0 1 1 */7", Some(2_191 * day)),
        ("0 0 31 2 *", None),
    ] {
        assert_eq!(
            berlin(expression).longest_gap(from),
            seconds.map(Duration::from_secs),
            "{expression}"
        );
    }
}

#[test]
fn invalid_expressions_are_explained() {
    for (text, message) in [
        ("", "not a valid cron expression: it has 0 fields"),
        ("daily", "not a valid cron expression: it has 1 field"),
        ("@reboot", "not a valid cron expression: unknown short name"),
        (
            "0 0 0 1 1 * 2030",
            "not a valid cron expression: it has 7 fields",
        ),
    ] {
        let error = Schedule::parse(text, TimeZone::UTC).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    // The message names the invalid field, with the parser's reason.
    for (text, field) in [
        ("60 * * * *", "invalid minute; "),
        ("* 24 * * *", "invalid hour; "),
        ("* * 0 * *", "invalid day; "),
        ("* * * 13 *", "invalid month; "),
        ("* * * * 8", "invalid weekday; "),
        ("a * * * *", "invalid minute; "),
        ("61 * * * * *", "invalid second; "),
    ] {
        let error = Schedule::parse(text, TimeZone::UTC).unwrap_err();
        let error = error.to_string();
        let (_, reason) = error.split_once(field).expect(&error);
        assert!(reason.len() > 5 && !reason.ends_with('.'), "{error}");
    }
}

#[test]
fn names_of_months_and_weekdays_are_whole_and_short() {
    for (text, message) in [
        ("0 3 * * Monday", "invalid weekday; write Mon"),
        ("0 3 * * mon-Thurs", "invalid weekday; write Thu"),
        ("0 3 * * 1,sunday", "invalid weekday; write Sun"),
        ("0 3 * * SunMon", "invalid weekday; write Sun"),
        ("0 0 * * Foo", "invalid weekday; use Sun to Sat, or 0 to 7"),
        ("0 0 * * Mo", "invalid weekday; use Sun to Sat, or 0 to 7"),
        ("0 0 1 January *", "invalid month; write Jan"),
        ("0 0 1 Mai *", "invalid month; use Jan to Dec, or 1 to 12"),
        ("0 0 1 Mon *", "invalid month; use Jan to Dec, or 1 to 12"),
        ("0 0 3 * * Montag", "invalid weekday; write Mon"),
    ] {
        let error = Schedule::parse(text, TimeZone::UTC).unwrap_err();
        let expected = format!("not a valid cron expression: {message}");
        assert_eq!(error.to_string(), expected);
    }
    for text in [
        "0 3 * * mon",
        "0 3 * * MON-FRI",
        "0 3 * * Sat,Sun",
        "0 3 * jan,Dec *",
        "0 3 * Jun-Aug Wed",
        "0 3 * * FriL",
        "0 3 * * 5L",
        "0 3 * * Fri#2",
        "0 3 L * *",
    ] {
        assert!(Schedule::parse(text, TimeZone::UTC).is_ok(), "{text}");
    }
}

#[test]
fn error_does_not_repeat_the_expression() {
    for text in [
        "Zq",
        "@Zq",
        "Zq * * * *",
        "*/Zq * * * *",
        "5/Zq * * * *",
        "0 3 * * 1#Zq",
    ] {
        let error = Schedule::parse(text, TimeZone::UTC).unwrap_err();
        assert!(!error.to_string().contains("Zq"), "{error}");
    }
}

#[test]
fn schedule_reports_its_properties() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let schedule = Schedule::parse("0 3 * * *", zone).unwrap();
    assert_eq!(schedule.expression(), "0 3 * * *");
    assert_eq!(
        format!("{schedule:?}"),
        "Schedule(\"0 3 * * *\" in Europe/Berlin)"
    );
    let from = "2026-11-24T03:00:00Z".parse().unwrap();
    for (text, in_a_day, longest) in [
        ("0 3 * * *", 1, Some(24)),
        ("0 */6 * * *", 4, Some(6)),
        ("0,30 3,4 * * *", 4, None),
        ("0 3 * * 1", 1, Some(7 * 24)),
        // The gap between the next two firings is shorter.
        ("0 3 * * 1,2", 1, Some(6 * 24)),
        ("0 0 1 1,7 *", 1, Some(184 * 24)),
        ("0 0 31 2 *", 1, None),
    ] {
        let schedule = Schedule::parse(text, TimeZone::UTC).unwrap();
        assert_eq!(schedule.firings_per_day(), in_a_day, "{text}");
        if let Some(hours) = longest {
            let longest = schedule.longest_gap(from);
            assert_eq!(longest, Some(Duration::from_secs(hours * 3_600)), "{text}");
        }
    }
    let never = Schedule::parse("0 0 31 2 *", TimeZone::UTC).unwrap();
    assert!(!never.can_fire());
    assert_eq!(never.longest_gap(from), None);
    assert_eq!(never.last_between(Timestamp::MIN, from), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn firings_strictly_increase_and_are_found_backward(
        second in "\\*|\\*/7|0|13,59",
        minute in "\\*|\\*/20|0|0-10|7,30",
        hour in "\\*|\\*/5|2|0,2,3|1-3",
        days in "\\*|1|\\*/2|25-31",
        weekday in "\\*|0|1-5",
        zone in "UTC|Europe/Berlin|America/Santiago|Australia/Lord_Howe|Africa/Casablanca",
        start in 1_600_000_000_i64..2_000_000_000,
    ) {
        let expression = format!("{second} {minute} {hour} {days} * {weekday}");
        let schedule = Schedule::parse(&expression, TimeZone::get(&zone).unwrap()).unwrap();
        let mut now = Timestamp::from_second(start).unwrap();
        let gap = schedule.shortest_gap(now);
        let mut before = None;
        for _ in 0..12 {
            let next = schedule.next_after(now).unwrap();
            prop_assert!(next > now);
            prop_assert_eq!(schedule.last_between(now, next), Some(next));
            if let (Some(before), Some(gap)) = (before, gap) {
                prop_assert!(crate::core::time::until(before, next) >= gap);
            }
            before = Some(next);
            now = next;
        }
    }

    #[test]
    fn no_text_panics(text in "[ -~]{0,20}|[0-9*/, -]{1,20}|@[a-z]{0,8}") {
        if let Ok(schedule) = Schedule::parse(&text, TimeZone::UTC) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let _ = schedule.next_after(now);
            let _ = schedule.shortest_gap(now);
        }
    }
}
