//! What a receiver's answer, or its silence, says about the secret.

use std::error::Error as _;

use reqwest::{Response, StatusCode};

use crate::core::outside::{LONGEST_READ, shown, shown_bytes};
use crate::sink::{DeliveryError, Taken};

/// Judges an answer by its status alone; the body is only quoted.
pub(super) async fn judge(url: &str, response: Response) -> Result<(), DeliveryError> {
    let status = response.status();
    let Some((taken, advice)) = verdict(status) else {
        return Ok(());
    };
    let quoted = match read(response).await {
        Some(body) if !body.is_empty() => format!(": {}", shown_bytes(&body)),
        Some(_) | None => String::new(),
    };
    Err(DeliveryError {
        taken,
        message: format!("posted to {url}, the answer was {status}{quoted}; {advice}"),
    })
}

/// What became of the secret, and what to do; `None` when it was accepted.
fn verdict(status: StatusCode) -> Option<(Taken, &'static str)> {
    Some(match status.as_u16() {
        200..=299 => return None,
        429 => (Taken::No, "it is tried again later"),
        300..=399 => (
            Taken::Maybe,
            "redirects are not followed; give the URL that it ends at",
        ),
        408 => (
            Taken::Maybe,
            "it may have taken the secret; it is tried again",
        ),
        401 | 403 => (
            Taken::Refused,
            "see whether it knows the signing secret and the bearer token",
        ),
        400..=499 => (Taken::Refused, "see what the receiver expects at that URL"),
        _ => (
            Taken::Maybe,
            "it may have taken the secret; see the receiver's log; it is tried again",
        ),
    })
}

/// Why there is no answer; `unsent` when nothing of the body has left.
pub(super) fn no_answer(url: &str, error: reqwest::Error, unsent: bool) -> DeliveryError {
    let error = error.without_url();
    let why = reasons(&error);
    // Connecting includes the TLS handshake; the request follows only then.
    let (taken, message) = if error.is_builder() {
        (Taken::No, format!("cannot post to {url}: {why}"))
    } else if error.is_connect() || unsent {
        (
            Taken::No,
            format!("cannot connect to {url}: {why}; see whether it is up and reachable"),
        )
    } else {
        (
            Taken::Maybe,
            format!(
                "posted to {url}, no answer came: {why}; it may have taken the secret; see the \
                 receiver's log"
            ),
        )
    };
    DeliveryError { taken, message }
}

/// An error and what is behind it: the outermost alone says little.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    shown(&text)
}

/// All of the body that is worth showing, or nothing when it breaks off: a
/// secret cut in half could not be masked.
async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < LONGEST_READ {
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
    fn every_status_has_the_class_of_the_contract() {
        for (status, wanted) in [
            (200, None),
            (202, None),
            (299, None),
            (301, Some(Taken::Maybe)),
            (304, Some(Taken::Maybe)),
            (400, Some(Taken::Refused)),
            (401, Some(Taken::Refused)),
            (404, Some(Taken::Refused)),
            (408, Some(Taken::Maybe)),
            (409, Some(Taken::Refused)),
            (429, Some(Taken::No)),
            (499, Some(Taken::Refused)),
            (500, Some(Taken::Maybe)),
            (503, Some(Taken::Maybe)),
            (504, Some(Taken::Maybe)),
            (600, Some(Taken::Maybe)),
            (999, Some(Taken::Maybe)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(status).map(|(taken, _)| taken), wanted, "{status}");
        }
    }
}
