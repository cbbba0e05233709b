//! Descriptions of network errors that show no URL.

use std::error::Error;

use crate::core::redact;

/// Describes why a request failed: the error and its causes, masked and without
/// the URL, whose query may hold a secret.
#[must_use]
pub fn explain(error: reqwest::Error) -> String {
    describe(&error.without_url())
}

/// Describes an error as [`explain`] does, if it has no URL.
pub(super) fn describe(error: &reqwest::Error) -> String {
    // The library's own message names its internals.
    if error.is_timeout() {
        let message = if error.is_connect() {
            "no connection in time"
        } else {
            "no answer in time"
        };
        return message.to_owned();
    }
    redact::sanitize(&chain(error))
}

/// Joins an error and its causes, and leaves out repetitions.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Many libraries repeat the cause's message in their own.
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
