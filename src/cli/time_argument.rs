//! Times on the command line: a time, a date, or a duration from now.

use jiff::Timestamp;

use crate::core::{duration, time};
use crate::platform::clock::{Clock as _, SystemClock};

/// The accepted forms, for messages.
const FORMS: &str = "expected a time such as 2026-12-24T18:00:00Z, a date such as 2026-12-24 (in \
                     UTC), or a duration such as 7d";

/// Parses a time to come: a duration counts from now.
pub(crate) fn parse_future(text: &str) -> Result<Timestamp, String> {
    parse_at(text, SystemClock.now(), time::after)
}

/// Parses a time in the past: a duration counts back from now.
pub(crate) fn parse_past(text: &str) -> Result<Timestamp, String> {
    parse_at(text, SystemClock.now(), time::before)
}

fn parse_at(
    text: &str,
    now: Timestamp,
    add: fn(Timestamp, std::time::Duration) -> Timestamp,
) -> Result<Timestamp, String> {
    let text = text.trim();
    match duration::parse(text) {
        Ok(span) => return Ok(add(now, span)),
        Err(error @ duration::DurationError::TooLong) => return Err(error.to_string()),
        Err(duration::DurationError::InvalidSyntax) => {}
    }
    time::from_any_text(text).ok_or_else(|| FORMS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_durations_are_taken() {
        let now: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        for (text, future, past) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z", None),
            ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z", None),
            ("2026-12-24 18:00:00Z", "2026-12-24T18:00:00Z", None),
            ("2026-12-24", "2026-12-24T00:00:00Z", None),
            ("2026-12-24 18:00", "2026-12-24T18:00:00Z", None),
            ("2026-12-24T18:00:30", "2026-12-24T18:00:30Z", None),
            (" 2026-12-24 ", "2026-12-24T00:00:00Z", None),
            ("7d", "2026-12-01T03:00:00Z", Some("2026-11-17T03:00:00Z")),
            ("90s", "2026-11-24T03:01:30Z", Some("2026-11-24T02:58:30Z")),
        ] {
            let parsed = parse_at(text, now, time::after).unwrap();
            assert_eq!(parsed.to_string(), future, "{text}");
            let parsed = parse_at(text, now, time::before).unwrap();
            assert_eq!(parsed.to_string(), past.unwrap_or(future), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "7",
            "7 d",
            "d",
            "2026-12",
            "2026-13-01",
            "24.12.2026",
            "18:00",
            "2026-12-24T18",
            "2026-12-24T18:00[Europe/Berlin]",
            "20261224",
            "+7d",
            "-7d",
            "7D",
            "7d7d",
            "\u{667}d",
            "2026-12-24T25:00:00Z",
        ] {
            let error = parse_at(text, now, time::after).unwrap_err();
            assert_eq!(error, FORMS, "{text}");
        }
        assert_eq!(
            parse_at("9999d", now, time::after).unwrap_err(),
            "at most 3650d"
        );
    }
}
