//! The clock of the sandbox, in milliseconds since 1970: the API returns whole seconds, but
//! keys may live for less than one.

use std::time::Duration;

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox plays another host, which has its own clock"
)]
pub(crate) fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Returns a length of time in milliseconds.
pub(crate) fn to_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the whole seconds of a time, as the API shows it.
pub(crate) fn to_seconds(millis: i64) -> i64 {
    millis.div_euclid(1000)
}
