//! Times as the ledger, the views and people see them: UTC, whole seconds.

use std::time::Duration;

use jiff::Timestamp;

/// Sixty seconds.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Sixty minutes.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// Twenty-four hours.
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How far two clocks may differ before one of them is not believed.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The text of the contract, `2026-11-23T03:00:00Z`: what the ledger stores
/// and what the JSON outputs show.
#[must_use]
pub fn to_text(at: Timestamp) -> String {
    whole_seconds(at).to_string()
}

/// Reads what [`to_text`] writes.
///
/// # Errors
/// Text that is not a time in RFC 3339 form.
pub fn from_text(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}

/// Drops the part below a second. Everything that is compared with a time read
/// back from the ledger must be cut first, or a value changes by being stored.
#[must_use]
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The first whole second that is not before `at`. What an overlap counts from
/// is rounded up when it is stored, so that no overlap is ever short.
#[must_use]
pub fn next_whole_second(at: Timestamp) -> Timestamp {
    let cut = whole_seconds(at);
    if cut < at {
        after(cut, Duration::from_secs(1))
    } else {
        cut
    }
}

/// `at` plus `span`, at the end of representable time instead of an overflow:
/// a configuration with an absurd duration must not stop the daemon.
#[must_use]
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// `at` minus `span`, at the beginning of representable time instead of an
/// overflow.
#[must_use]
pub fn before(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// How long it is from `from` until `to`; zero when `to` is not later.
#[must_use]
pub fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Returns whether two clocks agree, by what they said at one moment.
#[must_use]
pub fn clocks_agree(theirs: Timestamp, ours: Timestamp) -> bool {
    until(theirs, ours).max(until(ours, theirs)) <= CLOCK_TOLERANCE
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
        for (text, wanted) in [
            ("2026-11-23T03:00:00Z", "2026-11-23T03:00:00Z"),
            ("2026-11-23T03:00:00.000000001Z", "2026-11-23T03:00:01Z"),
            ("2026-11-23T03:00:00.9Z", "2026-11-23T03:00:01Z"),
        ] {
            assert_eq!(next_whole_second(text.parse().unwrap()).to_string(), wanted);
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
