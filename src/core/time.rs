//! Times in UTC and whole seconds, as the ledger stores them and people see them.

use std::time::Duration;

use jiff::Timestamp;

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
    use super::*;
    use std::time::Duration;

    #[test]
    fn text_round_trips_in_whole_seconds() {
        let at: Timestamp = "2026-11-23T03:00:00.987Z".parse().unwrap();
        assert_eq!(to_text(at), "2026-11-23T03:00:00Z");
        assert_eq!(from_text(&to_text(at)).unwrap(), whole_seconds(at));
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
}
