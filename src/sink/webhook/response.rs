//! The meaning of a receiver's response, or of its absence, for the secret.

use reqwest::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::core::redact::{MAX_INPUT_BYTES, sanitize_bytes};
use crate::net::retry_after::requested_pause;
use crate::net::{body, error_text, target};
use crate::sink::{Acceptance, DeliveryError};

/// Classifies a response by its status alone; the body is only quoted, and may itself
/// quote the values that were `sent`.
pub(super) async fn classify(
    response: Response,
    url: &Url,
    deadline: Instant,
    sent: &[&str],
) -> Result<(), DeliveryError> {
    let status = response.status();
    let parts = target::quotable_parts(url);
    let sent: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .chain(sent.iter().copied())
        .collect();
    let Some((acceptance, advice)) = classify_status(status) else {
        return Ok(());
    };
    let retry_after = requested_pause(response.headers());
    let body = timeout_at(deadline, read_body(response)).await;
    let quoted_body = match body.ok().flatten() {
        Some(body) if !body.is_empty() => format!(": {}", sanitize_bytes(&body, &sent)),
        Some(_) | None => String::new(),
    };
    Err(DeliveryError {
        acceptance,
        message: format!("the receiver answered {status}{quoted_body}; {advice}"),
        retry_after,
    })
}

/// Returns whether the receiver may hold the secret, and advice; `None` if it
/// accepted.
fn classify_status(status: StatusCode) -> Option<(Acceptance, &'static str)> {
    Some(match status.as_u16() {
        200..=299 => return None,
        429 => (Acceptance::NotAccepted, "it asks to slow down"),
        300..=399 => (
            Acceptance::Uncertain,
            "hint: use the URL that it redirects to, because rekeyd follows no redirects",
        ),
        408 => (Acceptance::Uncertain, "it may have stored the secret"),
        401 | 403 => (
            Acceptance::Rejected,
            "hint: check the signing secret and the bearer token at the receiver",
        ),
        400..=499 => (
            Acceptance::Rejected,
            "hint: check what the receiver expects at this URL",
        ),
        _ => (
            Acceptance::Uncertain,
            "it may have stored the secret; hint: see the receiver's log",
        ),
    })
}

/// The failure of a request without a response.
pub(super) struct SendFailure {
    /// The cause, masked.
    pub(super) reason: String,
    /// Whether no byte of its body was sent.
    pub(super) is_unsent: bool,
}

impl SendFailure {
    /// Returns the failure of the HTTP client's request.
    pub(super) fn new(error: reqwest::Error, is_unsent: bool) -> Self {
        let error = error.without_url();
        Self {
            reason: error_text::explain_causes(&error),
            // Connecting includes the TLS handshake, which precedes the request.
            is_unsent: is_unsent || error.is_builder() || error.is_connect(),
        }
    }

    /// Returns it as that of a delivery to `url`.
    pub(super) fn at(self, url: &str) -> DeliveryError {
        let reason = self.reason;
        if self.is_unsent {
            DeliveryError::not_accepted(format!("cannot connect to {url}: {reason}"))
        } else {
            DeliveryError::uncertain(format!(
                "no response from {url}: {reason}; it may have stored the secret; hint: see the \
                 receiver's log"
            ))
        }
    }
}

/// Reads as much of the body as is worth quoting. Returns `None` if it breaks
/// off: a secret cut in half could not be masked.
async fn read_body(mut response: Response) -> Option<Vec<u8>> {
    if let Some(encoding) = body::foreign_encoding(&response) {
        return Some(format!("(encoded as {encoding})").into_bytes());
    }
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
        for (status, expected) in [
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
                classify_status(status).map(|(acceptance, _)| acceptance),
                expected,
                "{status}"
            );
        }
    }
}
