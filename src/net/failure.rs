//! An HTTP failure in words, without the URL: it may have a query.

use std::error::Error;

/// The failure and its sources, each once.
#[must_use]
pub fn text(error: &reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer in time".to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut next: Option<&dyn Error> = error.source();
    while let Some(source) = next {
        let word = source.to_string();
        if !words.iter().any(|before| before.contains(&word)) {
            words.push(word);
        }
        next = source.source();
    }
    if words.is_empty() {
        words.push(
            if error.is_timeout() {
                "no connection in time"
            } else {
                "failed"
            }
            .to_owned(),
        );
    }
    crate::core::outside::shown(&words.join(": "))
}
