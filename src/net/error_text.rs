//! What went wrong in a connection, in words that show no URL.

use std::error::Error;

use crate::core::redact;

/// Says why a request failed: the error and what caused it, without the URL,
/// whose query may hold a secret, and masked.
#[must_use]
pub fn explain(error: reqwest::Error) -> String {
    // The library's own words for this are about its parts.
    if error.is_timeout() {
        let what = if error.is_connect() {
            "no connection in time"
        } else {
            "no answer in time"
        };
        return what.to_owned();
    }
    redact::sanitize(&chain(&error.without_url()))
}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many libraries repeat the cause's words in their own.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
