//! Durations as text with one unit: `30s`, `15m`, `24h`, `7d`.

use std::time::Duration;

/// The units that a duration may carry, with their seconds, smallest first.
const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

/// The longest accepted duration: ten years. Longer ones are typing mistakes, and
/// sums of accepted durations stay far from any overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The reason why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The number or the unit is missing, or the unit is unknown.
    #[error("a duration is a whole number with one unit, s, m, h or d, such as \"90s\" or \"24h\"")]
    InvalidSyntax,
    /// More than [`MAX_DURATION`].
    #[error("at most 3650d")]
    TooLong,
}

/// Parses a duration such as `15m`.
///
/// # Errors
/// [`DurationError`], whose text describes the accepted form.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (unit, seconds) = UNITS
        .into_iter()
        .find(|(unit, _)| text.ends_with(unit))
        .ok_or(DurationError::InvalidSyntax)?;
    let number = text.strip_suffix(unit).unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::InvalidSyntax);
    }
    let whole = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds));
    match whole.map(Duration::from_secs) {
        Some(span) if span <= MAX_DURATION => Ok(span),
        Some(_) | None => Err(DurationError::TooLong),
    }
}

/// Parses a duration that is longer than none.
///
/// # Errors
/// As [`parse`], or it is 0.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text) {
        Ok(Duration::ZERO) => Err("at least 1s".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the shortest text that [`parse`] reads as `span`, without fractions of
/// a second.
#[must_use]
pub fn to_text(span: Duration) -> String {
    let seconds = span.as_secs();
    let (unit, size) = UNITS
        .into_iter()
        .rev()
        .find(|(_, size)| seconds.is_multiple_of(*size) && seconds > 0)
        .unwrap_or(UNITS[0]);
    format!("{}{unit}", seconds / size)
}

/// Returns a duration for people, in its two largest units: `3 d 4 h`, `5 min`, `12 s`.
#[must_use]
pub fn to_human_text(span: Duration) -> String {
    let mut rest = span.as_secs();
    let mut parts = Vec::new();
    for (unit, size) in UNITS.into_iter().rev() {
        // People read a lone `m` as a metre or a month.
        let unit = if unit == "m" { "min" } else { unit };
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn documented_durations_are_parsed() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("24h", 86_400),
            ("7d", 604_800),
            ("0s", 0),
            ("007d", 604_800),
            ("3650d", 315_360_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn to_text_uses_the_largest_whole_unit() {
        for text in ["0s", "30s", "15m", "90m", "23h", "1d", "7d", "3650d"] {
            assert_eq!(to_text(parse(text).unwrap()), text);
        }
        assert_eq!(to_text(Duration::from_millis(1_999)), "1s");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn printed_duration_is_read_back(seconds in 0..=MAX_DURATION.as_secs()) {
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&to_text(span)), Ok(span));
        }

        #[test]
        fn only_the_grammar_is_accepted(text in "[-+ .0-9\u{661}smhdwMS]{0,6}") {
            let number = text.strip_suffix(['s', 'm', 'h', 'd']);
            let is_grammar = number.is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            });
            prop_assert_eq!(parse(&text) != Err(DurationError::InvalidSyntax), is_grammar, "{}", text);
        }
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for text in [
            "", "s", "30", "-1s", "+1s", "1.5h", "1h30m", " 1s", "1 s", "1w", "1ms", "１s", "1s ",
            "1s\n", "1S", "1\0s", "0x1s", "1_0s", "1e3s", "٣s", "1µs", "d1",
        ] {
            assert_eq!(parse(text), Err(DurationError::InvalidSyntax), "{text}");
        }
        for text in [
            "3651d",
            "315360001s",
            "99999999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
    }

    #[test]
    fn human_text_has_at_most_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (12, "12 s"),
            (90, "1 min 30 s"),
            (300, "5 min"),
            (273_600, "3 d 4 h"),
            (86_405, "1 d"),
        ] {
            assert_eq!(to_human_text(Duration::from_secs(seconds)), text);
        }
    }
}
