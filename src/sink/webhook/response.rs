//! What a receiver's answer, or its silence, says about the secret.

use std::error::Error as _;

use reqwest::{Response, StatusCode};

use crate::core::redact::{MAX_INPUT_BYTES, sanitize, sanitize_bytes};
use crate::sink::{Acceptance, DeliveryError};

/// Judges an answer by its status alone; the body is only quoted.
pub(super) async fn classify(url: &str, response: Response) -> Result<(), DeliveryError> {
    let status = response.status();
    let Some((taken, advice)) = classify_status(status) else {
        return Ok(());
    };
    let quoted = match read_body(response).await {
        Some(body) if !body.is_empty() => format!(": {}", sanitize_bytes(&body)),
        Some(_) | None => String::new(),
    };
    Err(DeliveryError {
        acceptance: taken,
        message: format!("posted to {url}, the answer was {status}{quoted}; {advice}"),
    })
}

/// What became of the secret, and what to do; `Skip` when it was accepted.
fn classify_status(status: StatusCode) -> Option<(Acceptance, &'static str)> {
    Some(match status.as_u16() {
        200..=299 => return None,
        429 => (Acceptance::NotAccepted, "it is tried again later"),
        300..=399 => (
            Acceptance::Uncertain,
            "redirects are not followed; give the URL that it ends at",
        ),
        408 => (
            Acceptance::Uncertain,
            "it may have taken the secret; it is tried again",
        ),
        401 | 403 => (
            Acceptance::Rejected,
            "see whether it knows the signing secret and the bearer token",
        ),
        400..=499 => (
            Acceptance::Rejected,
            "see what the receiver expects at that URL",
        ),
        _ => (
            Acceptance::Uncertain,
            "it may have taken the secret; see the receiver's log; it is tried again",
        ),
    })
}

/// Why there is no answer; `unsent` when nothing of the body has left.
pub(super) fn send_error(url: &str, error: reqwest::Error, unsent: bool) -> DeliveryError {
    let error = error.without_url();
    let why = error_chain(&error);
    // Connecting includes the TLS handshake; the request follows only then.
    let (taken, message) = if error.is_builder() {
        (
            Acceptance::NotAccepted,
            format!("cannot post to {url}: {why}"),
        )
    } else if error.is_connect() || unsent {
        (
            Acceptance::NotAccepted,
            format!("cannot connect to {url}: {why}; see whether it is up and reachable"),
        )
    } else {
        (
            Acceptance::Uncertain,
            format!(
                "posted to {url}, no answer came: {why}; it may have taken the secret; see the \
                 receiver's log"
            ),
        )
    };
    DeliveryError {
        acceptance: taken,
        message,
    }
}

/// An error and what is behind it: the outermost alone says little.
fn error_chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    sanitize(&text)
}

/// All of the body that is worth showing, or nothing when it breaks off: a
/// secret cut in half could not be masked.
async fn read_body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MAX_INPUT_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => return None,
        }
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_classified_as_documented() {
        for (status, wanted) in [
            (200, None),
            (202, None),
            (299, None),
            (301, Some(Acceptance::Uncertain)),
            (304, Some(Acceptance::Uncertain)),
            (400, Some(Acceptance::Rejected)),
            (401, Some(Acceptance::Rejected)),
            (404, Some(Acceptance::Rejected)),
            (408, Some(Acceptance::Uncertain)),
            (409, Some(Acceptance::Rejected)),
            (429, Some(Acceptance::NotAccepted)),
            (499, Some(Acceptance::Rejected)),
            (500, Some(Acceptance::Uncertain)),
            (503, Some(Acceptance::Uncertain)),
            (504, Some(Acceptance::Uncertain)),
            (600, Some(Acceptance::Uncertain)),
            (999, Some(Acceptance::Uncertain)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                classify_status(status).map(|(taken, _)| taken),
                wanted,
                "{status}"
            );
        }
    }
}
