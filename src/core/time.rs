//! Times in UTC and whole seconds, as the ledger stores them and people see them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

/// One minute.
pub const MINUTE: Duration = Duration::from_secs(60);

/// One hour.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// 24 hours.
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The largest difference at which two clocks still agree.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Returns the text of a time in the ledger and in JSON: `2026-11-23T03:00:00Z`.
#[must_use]
pub fn to_text(at: Timestamp) -> String {
    whole_seconds(at).to_string()
}

/// Parses the text that [`to_text`] returns.
///
/// # Errors
/// Text that is not a time in RFC 3339 form.
pub fn from_text(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}

/// Parses a date, or a date and a time, with an offset or without one in UTC:
/// `2026-12-24`, `2026-12-24 18:00`, `2026-12-24T18:00:00+01:00`.
///
/// The library's parsers take more than that, and ignore a part of it: a zone in
/// brackets, an offset in seconds, a date without its hyphens.
#[must_use]
pub fn from_any_text(text: &str) -> Option<Timestamp> {
    let digits_at = |places: &[usize]| {
        let bytes = text.as_bytes();
        let mut places = places.iter();
        places.all(|at| bytes.get(*at).is_some_and(u8::is_ascii_digit))
    };
    let separators_at = |places: &[(usize, &[u8])]| {
        let bytes = text.as_bytes();
        let mut places = places.iter();
        places.all(|(at, allowed)| bytes.get(*at).is_some_and(|byte| allowed.contains(byte)))
    };
    if !digits_at(&[0, 1, 2, 3, 5, 6, 8, 9]) || !separators_at(&[(4, b"-"), (7, b"-")]) {
        return None;
    }
    let in_utc = |civil: DateTime| civil.to_zoned(TimeZone::UTC).ok();
    if text.len() == DATE_LENGTH {
        let date: Date = text.parse().ok()?;
        return Some(in_utc(date.at(0, 0, 0, 0))?.timestamp());
    }
    let is_time = digits_at(&[11, 12, 14, 15]) && separators_at(&[(10, b"Tt "), (13, b":")]);
    if !is_time || text.contains(['[', ']']) {
        return None;
    }
    // Behind a time in UTC there is nothing but its seconds.
    if has_no_offset(text) {
        return Some(in_utc(text.parse().ok()?)?.timestamp());
    }
    let parsed = text.parse().ok();
    parsed.filter(|_| has_real_offset(&text[16..]))
}

/// The offset from UTC that no zone of the world exceeds, in minutes.
const LARGEST_OFFSET: u32 = 14 * 60;

/// Returns whether the offset at the end of a time is one that a zone may have: a larger
/// one is a slip, which would move the time by a day.
fn has_real_offset(text: &str) -> bool {
    let Some((_, offset)) = text.split_once(['+', '-']) else {
        return true;
    };
    let digits: String = offset.chars().filter(|digit| *digit != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2).unwrap_or((&digits, ""));
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    number(hours) * 60 + number(minutes) <= LARGEST_OFFSET
}

/// Returns the latest time that a text may mean that [`from_any_text`] parses: a date alone
/// lasts until its end, and without an offset the zone may be any.
#[must_use]
pub fn latest_from_any_text(text: &str) -> Option<Timestamp> {
    let earliest = from_any_text(text)?;
    if text.len() == DATE_LENGTH {
        return Some(after(earliest, DAY + WESTERNMOST_ZONE));
    }
    Some(if has_no_offset(text) {
        after(earliest, WESTERNMOST_ZONE)
    } else {
        earliest
    })
}

/// Returns whether nothing but seconds stands behind hour and minute.
fn has_no_offset(text: &str) -> bool {
    let mut rest = text.bytes().skip(16);
    rest.all(|byte| byte.is_ascii_digit() || b":.".contains(&byte))
}

/// How far the time of the westernmost zone is behind UTC.
pub const WESTERNMOST_ZONE: Duration = Duration::from_secs(12 * 3_600);

/// Parses a date of HTTP or mail with its zone: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// The library's parser takes any other name of a zone for UTC, so that a time in CET
/// would be an hour off.
#[must_use]
pub fn from_mail_text(text: &str) -> Option<Timestamp> {
    let zone = text.split('(').next()?.trim_end().rsplit(' ').next()?;
    let is_offset = zone.strip_prefix(['+', '-']).is_some_and(|digits| {
        digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_offset = is_offset && has_real_offset(zone);
    let is_known = is_offset || ["GMT", "UT", "UTC", "Z"].contains(&zone);
    let parsed = rfc2822::parse(text).ok().filter(|_| is_known);
    parsed.map(|zoned| zoned.timestamp())
}

/// The length of a date: `2026-12-24`.
const DATE_LENGTH: usize = 10;

/// Drops the fraction of a second. A time must be truncated before it is compared
/// with one that was read from the ledger: storing it would change it.
#[must_use]
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Returns the first whole second that is not before `at`. The time from which an
/// overlap counts is rounded up when it is stored, so that no overlap is too short.
#[must_use]
pub fn next_whole_second(at: Timestamp) -> Timestamp {
    let truncated = whole_seconds(at);
    if truncated < at {
        after(truncated, Duration::from_secs(1))
    } else {
        truncated
    }
}

/// Returns `at` plus `span`, and the last representable time instead of an
/// overflow: an absurd duration in the configuration must not stop the daemon.
#[must_use]
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Returns a time of the system, or the nearest one that is represented: the years end with
/// 9999, and a clock may be set to any.
#[must_use]
pub fn from_system(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < UNIX_EPOCH {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Returns `at` minus `span`, and the first representable time instead of an
/// overflow.
#[must_use]
pub fn before(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Returns the time from `from` until `to`; zero if `to` is not later.
#[must_use]
pub fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Returns whether two clocks agree, by their times at one instant.
#[must_use]
pub fn clocks_agree(remote: Timestamp, local: Timestamp) -> bool {
    until(remote, local).max(until(local, remote)) <= CLOCK_TOLERANCE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn printed_time_is_read_back(seconds in -62_135_596_800_i64..253_402_200_000, nanos in 0_i32..1_000_000_000) {
            let at = Timestamp::new(seconds, nanos).unwrap();
            prop_assert_eq!(from_any_text(&at.to_string()), Some(at));
            prop_assert_eq!(from_any_text(&to_text(at)), Some(whole_seconds(at)));
            prop_assert_eq!(from_text(&to_text(at)).unwrap(), whole_seconds(at));
        }

        /// A text that is read begins with its date, and with its time or with nothing.
        #[test]
        fn text_that_is_read_has_the_grammar(text in "[0-9]{1,4}[-/]?[0-9]{1,2}-?[0-9]{1,2}([T ][0-9]{1,2}:?[0-9]{0,2}(:[0-9.]{1,5})?)?(Z|[+-][0-9:]{1,6}|\\[[A-Z]{3}\\])?") {
            if let Some(at) = from_any_text(&text) {
                let day = Timestamp::from_second(at.as_second()).unwrap().to_string();
                let is_near = from_any_text(&text[..10]).unwrap().duration_since(at).abs() < jiff::SignedDuration::from_hours(50);
                prop_assert!(is_near && !text.contains('['), "{} {}", text, day);
            }
        }
    }

    #[test]
    fn text_round_trips_in_whole_seconds() {
        let at: Timestamp = "2026-11-23T03:00:00.987Z".parse().unwrap();
        assert_eq!(to_text(at), "2026-11-23T03:00:00Z");
        assert_eq!(from_text(&to_text(at)).unwrap(), whole_seconds(at));
    }

    #[test]
    fn dates_and_times_are_read_whole() {
        for (text, expected) in [
            ("2026-12-24", "2026-12-24T00:00:00Z"),
            ("2026-12-24 18:00", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:30", "2026-12-24T18:00:30Z"),
            ("2026-12-24t18:00:30.25", "2026-12-24T18:00:30.25Z"),
            ("2026-12-24T18:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24 18:00:00z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24T18:00:00-0130", "2026-12-24T19:30:00Z"),
            ("2026-12-24T18:00:00+00:00", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+14:00", "2026-12-24T04:00:00Z"),
            ("2026-12-24T18:00:00-12:00", "2026-12-25T06:00:00Z"),
            ("2026-12-24T18:00:00,5Z", "2026-12-24T18:00:00.5Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("9999-12-30", "9999-12-30T00:00:00Z"),
        ] {
            let parsed = from_any_text(text).map(|at| at.to_string());
            assert_eq!(parsed.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-12",
            "20261224",
            "20261224T180000Z",
            "2026-W52-4",
            "2026-358",
            "26-12-24",
            "2026-1-2",
            "2026/12/24",
            "24.12.2026",
            "2026-13-01",
            "2026-02-30",
            "2023-02-29",
            "+2026-12-24",
            "-2026-12-24",
            "+002026-12-24",
            " 2026-12-24",
            "2026-12-24 ",
            "2026-12-24\n",
            "2026-12-24\0",
            "2026-12-24Z",
            "2026-12-24T",
            "2026-12-24T18",
            "2026-12-24T18Z",
            "2026-12-24T1800",
            "2026-12-24T18:0",
            "2026-12-24T18:00:",
            "2026-12-24T18:00.5",
            "2026-12-24_18:00",
            "2026-12-24T24:00:00Z",
            "2026-12-24T25:00:00Z",
            "2026-12-24T18:60:00Z",
            "2026-12-24T18:00:61Z",
            "2026-12-24T18:00:00 +01:00",
            "2026-12-24T18:00:00+26:00",
            "2026-12-24T18:00:00+25:00",
            "2026-12-24T18:00:00-24:00",
            "2026-12-24T18:00:00+14:01",
            "2026-12-24T18:00-1500",
            "2026-12-24T18:00:00+15",
            "2026-12-24T18:00:00 CET",
            "2026-12-24T18:00:00CET",
            "2026-12-24T18:00:00[Europe/Berlin]",
            "2026-12-24T18:00:00Z[Europe/Berlin]",
            "2026-12-24T18:00:00+01:00[Europe/Berlin]",
            "2026-12-24[Europe/Berlin]",
            "2026-12-24T18:00:00[u-ca=hebrew]",
            "2026-12-24T18:00:00Zx",
            "2026-12-24T18:00:00Z 2026-12-25",
            "\u{662}\u{660}\u{662}\u{666}-12-24",
            "2026\u{2010}12\u{2010}24",
        ] {
            assert_eq!(from_any_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn dates_of_mail_have_a_zone_that_is_known() {
        let expected = Some("1994-11-06T08:49:37Z".parse().unwrap());
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 09:49:37 +0100",
            "Sun, 06 Nov 1994 00:49:37 -0800 (PST)",
            "06 Nov 1994 08:49:37 UT",
        ] {
            assert_eq!(from_mail_text(text), expected, "{text}");
        }
        for text in [
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 08:49:37 A",
            "Sun, 06 Nov 1994 08:49:37 +100",
            "Sun, 06 Nov 1994 08:49:37 +2500",
            "Sun, 06 Nov 1994 08:49:37 -1401",
            "Sun, 06 Nov 1994 08:49:37 +01:00",
            "Sun, 06 Nov 1994 08:49:37",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 GMT",
            "GMT",
            "(",
            "",
        ] {
            assert_eq!(from_mail_text(text), None, "{text}");
        }
    }

    #[test]
    fn next_whole_second_rounds_up() {
        for (text, expected) in [
            ("2026-11-23T03:00:00Z", "2026-11-23T03:00:00Z"),
            ("2026-11-23T03:00:00.000000001Z", "2026-11-23T03:00:01Z"),
            ("2026-11-23T03:00:00.9Z", "2026-11-23T03:00:01Z"),
        ] {
            assert_eq!(
                next_whole_second(text.parse().unwrap()).to_string(),
                expected
            );
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(
            after(Timestamp::MAX, Duration::from_secs(9)),
            Timestamp::MAX
        );
        assert_eq!(
            before(Timestamp::MIN, Duration::from_secs(9)),
            Timestamp::MIN
        );
        assert_eq!(until(Timestamp::MAX, Timestamp::MIN), Duration::ZERO);
    }

    #[test]
    fn clock_beyond_the_represented_years_is_taken_for_their_end() {
        let seconds = Duration::from_secs;
        for (time, expected) in [
            (UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            (UNIX_EPOCH + seconds(253_402_300_000), Timestamp::MAX),
            (UNIX_EPOCH + seconds(1 << 40), Timestamp::MAX),
            (UNIX_EPOCH - seconds(1 << 40), Timestamp::MIN),
        ] {
            assert_eq!(from_system(time), expected, "{time:?}");
        }
    }
}
