//! Times in the API's answers: documented as Unix seconds, and read in every form that
//! JSON, a proxy or another implementation gives them.

use jiff::Timestamp;
use serde_json::Value;

use crate::core::reported_time::ReportedTime;
use crate::core::time;

/// The earliest plausible time, in Unix seconds (2001). A smaller number is a duration,
/// or stands for "never".
const EARLIEST_SECONDS: f64 = 1e9;

/// The latest plausible time, in Unix seconds: more than a century ahead (2150). A later
/// one is a date written as a number, such as `20261201000000`.
const LATEST_SECONDS: f64 = 5_680_281_600.0;

/// The year that some systems mean by "never" (9999), in Unix seconds.
const NEVER_SECONDS: f64 = 253_370_764_800.0;

/// The number of units in a second, with the smallest number that counts in these
/// units: seconds reach to the year 9999, and milliseconds begin in 2001.
const UNITS: [(f64, f64); 4] = [(1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (0.0, 1.0)];

/// Reads a time: a number, or its text, in seconds, milli-, micro- or nanoseconds,
/// whole or not; or a date and time by RFC 3339 or RFC 2822, in UTC without an offset.
///
/// Null and a missing field are no time, and so is the number 0, which APIs send for
/// "never". Everything else that is no plausible time is unreadable.
pub(super) fn read_time(value: Option<&Value>) -> ReportedTime {
    match value {
        None | Some(Value::Null) => ReportedTime::None,
        Some(Value::Number(number)) => read_number(&number.to_string()),
        Some(Value::String(text)) => read_text(text.trim()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => ReportedTime::Unreadable,
    }
}

/// Reads the time of a last use. It may have been at any time that its text can mean, and
/// the latest one counts: a credential that is used is not idle.
pub(super) fn read_last_use(value: Option<&Value>) -> ReportedTime {
    let text = value.and_then(Value::as_str).map(str::trim);
    match text.and_then(time::latest_from_any_text) {
        Some(latest) => plausible(latest),
        None => read_time(value),
    }
}

fn read_text(text: &str) -> ReportedTime {
    if text.parse::<f64>().is_ok() {
        return read_number(text);
    }
    let at = time::from_any_text(text).or_else(|| time::from_mail_text(text));
    at.map_or(ReportedTime::Unreadable, plausible)
}

/// Reads the text of a number. Whole numbers are read exactly.
fn read_number(text: &str) -> ReportedTime {
    let Ok(number) = text.parse::<f64>() else {
        return ReportedTime::Unreadable;
    };
    if number == 0.0 {
        return ReportedTime::None;
    }
    let unit = UNITS.iter().find(|(from, _)| number >= *from);
    let Some((_, per_second)) = unit.filter(|_| number.is_finite()) else {
        return ReportedTime::Unreadable;
    };
    let (whole, fraction) = match text.parse::<i128>() {
        #[expect(clippy::cast_possible_truncation, reason = "a power of ten up to 1e9")]
        Ok(exact) => {
            let per_second = *per_second as i128;
            let nanos = (exact % per_second) * (1_000_000_000 / per_second);
            (
                i64::try_from(exact / per_second).ok(),
                i32::try_from(nanos).ok(),
            )
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a number beyond i64 is no time"
        )]
        Err(_) => {
            let seconds = number / per_second;
            (
                Some(seconds.trunc() as i64),
                Some((seconds.fract() * 1e9) as i32),
            )
        }
    };
    let at = whole
        .zip(fraction)
        .and_then(|(whole, fraction)| Timestamp::new(whole, fraction).ok());
    at.map_or(ReportedTime::Unreadable, plausible)
}

fn plausible(at: Timestamp) -> ReportedTime {
    let since_epoch = at.duration_since(Timestamp::UNIX_EPOCH);
    let seconds = since_epoch.as_secs_f64();
    if seconds < EARLIEST_SECONDS || (LATEST_SECONDS..NEVER_SECONDS).contains(&seconds) {
        ReportedTime::Unreadable
    } else {
        ReportedTime::At(at)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> ReportedTime {
        ReportedTime::At(text.parse().unwrap())
    }

    #[test]
    fn times_are_read_in_every_form() {
        let whole = at("2024-11-29T04:33:59Z");
        let quarter = at("2024-11-29T04:33:59.25Z");
        for (value, expected) in [
            (json!(1_732_854_839), whole),
            (json!(1_732_854_839.0), whole),
            (json!(1.732_854_839e9), whole),
            (json!(1_732_854_839.25), quarter),
            (json!("1732854839"), whole),
            (json!(" 1732854839.25 "), quarter),
            (json!("1.732854839e9"), whole),
            (json!(1_732_854_839_250_u64), quarter),
            (json!("1732854839250"), quarter),
            (json!(1_732_854_839_250.0), quarter),
            (json!(1_732_854_839_250_000_u64), quarter),
            (json!(1_732_854_839_250_000_000_u64), quarter),
            (json!("2024-11-29T04:33:59Z"), whole),
            (json!("2024-11-29T04:33:59.250Z"), quarter),
            (json!("2024-11-29t04:33:59z"), whole),
            (json!("2024-11-29 04:33:59Z"), whole),
            (json!("2024-11-29T05:33:59+01:00"), whole),
            (json!("2024-11-29T04:33:59+00:00"), whole),
            (json!("2024-11-29T04:33:59"), whole),
            (json!("2024-11-29 04:33:59"), whole),
            (json!("2024-11-29"), at("2024-11-29T00:00:00Z")),
            (json!("Fri, 29 Nov 2024 04:33:59 GMT"), whole),
            (json!("Fri, 29 Nov 2024 04:33:59 +0000"), whole),
            // The last second that some systems mean by "never".
            (json!(253_402_200_000_u64), at("9999-12-30T20:00:00Z")),
        ] {
            assert_eq!(read_time(Some(&value)), expected, "{value}");
        }
    }

    #[test]
    fn last_use_is_the_latest_time_that_its_text_can_mean() {
        let whole = at("2024-11-29T04:33:59Z");
        for (value, expected) in [
            (json!(1_732_854_839), whole),
            (json!("1732854839"), whole),
            (json!("2024-11-29T04:33:59Z"), whole),
            (json!("2024-11-29T05:33:59+01:00"), whole),
            (json!("Fri, 29 Nov 2024 04:33:59 GMT"), whole),
            (json!("2024-11-29T04:33:59"), at("2024-11-29T16:33:59Z")),
            (json!(" 2024-11-29 04:33 "), at("2024-11-29T16:33:00Z")),
            (json!("2024-11-29"), at("2024-11-30T12:00:00Z")),
            (json!("0001-01-01"), ReportedTime::Unreadable),
            (json!("yesterday"), ReportedTime::Unreadable),
            (json!(null), ReportedTime::None),
            (json!(0), ReportedTime::None),
        ] {
            assert_eq!(read_last_use(Some(&value)), expected, "{value}");
        }
    }

    #[test]
    fn no_time_is_something_else_than_an_unreadable_one() {
        for none in [json!(null), json!(0), json!(0.0), json!("0"), json!(-0.0)] {
            assert_eq!(read_time(Some(&none)), ReportedTime::None, "{none}");
        }
        assert_eq!(read_time(None), ReportedTime::None);
        for unreadable in [
            json!(true),
            json!(false),
            json!([]),
            json!([1_732_854_839]),
            json!({"seconds": 1_732_854_839}),
            json!(""),
            json!("never"),
            json!("null"),
            json!("yesterday"),
            json!("3 days ago"),
            json!("29.11.2024"),
            json!("NaN"),
            json!("inf"),
            json!("0x67492f37"),
            json!("1_732_854_839"),
            json!("\u{661}\u{667}\u{663}\u{662}\u{668}\u{665}\u{664}\u{668}\u{663}\u{669}"),
            json!("2024-11-29T04:33:59[Europe/Berlin]"),
            json!("2024-11-29T04:33:59 CET"),
            json!("2024-11-29T04"),
            json!("20241129"),
            json!("Fri, 29 Nov 2024 04:33:59 CET"),
            json!("Sat, 29 Nov 2024 04:33:59 GMT"),
            json!("2024-W48"),
            json!(-1),
            json!(-1_732_854_839),
            // A duration, and the zero time of some languages.
            json!(864_000),
            json!("0001-01-01T00:00:00Z"),
            json!(1e300),
            // A date written as a number, and a year that nobody means.
            json!(20_261_201_000_000_u64),
            json!("20261201000000"),
            json!(202_612_010_000_u64),
            json!(20_261_201_000_000_000_u64),
            json!("2151-01-01T00:00:00Z"),
            json!("8390-07-01"),
        ] {
            let read = read_time(Some(&unreadable));
            assert_eq!(read, ReportedTime::Unreadable, "{unreadable}");
        }
    }

    proptest! {
        #[test]
        fn each_form_of_a_time_is_the_same_time(
            seconds in 1_000_000_001_i64..5_680_281_599,
            millis in 0_i64..1_000,
        ) {
            let expected = Timestamp::new(seconds, i32::try_from(millis).unwrap() * 1_000_000);
            let expected = expected.unwrap();
            let in_millis = seconds * 1_000 + millis;
            for value in [
                json!(in_millis),
                json!(in_millis.to_string()),
                json!(in_millis * 1_000),
                json!(expected.to_string()),
                json!(format!("{seconds}.{millis:03}")),
            ] {
                let ReportedTime::At(read) = read_time(Some(&value)) else {
                    return Err(TestCaseError::fail(value.to_string()));
                };
                let difference = read.duration_since(expected).abs();
                prop_assert!(difference < SignedDuration::from_millis(1), "{} {}", value, read);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,40}") {
            read_time(Some(&json!(text)));
        }
    }
}
