//! What an answer that is no success means: was it done, can asking again
//! help, and what kind of trouble it is.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;

use crate::core::outside;
use crate::core::time;
use crate::provider::wire::{Envelope, ErrorBody};
use crate::provider::{Cause, Outcome, ProviderError, Retry};

/// The longest wait that the provider may ask for: what asks for more is a
/// mistake, and a person should see the key failing.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// A whole answer.
pub(crate) struct Heard {
    pub(crate) operation: String,
    pub(crate) status: StatusCode,
    pub(crate) request_id: Option<String>,
    pub(crate) date: Option<Timestamp>,
    pub(crate) retry_after_ms: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// The request never left.
pub(crate) fn not_sent(operation: &str, cause: Cause, message: String) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        outcome: Outcome::NotDone,
        retry: Retry::Later(None),
        cause,
        message,
        request_id: None,
        date: None,
    }
}

/// An answer that is not the provider's, or not to be understood: whatever was
/// asked for may have been done.
pub(crate) fn bad_answer(heard: &Heard, why: &str) -> ProviderError {
    ProviderError {
        operation: heard.operation.clone(),
        outcome: Outcome::Unknown,
        retry: Retry::Later(None),
        cause: Cause::BadAnswer,
        message: outside::shown(&format!("HTTP {}: {why}", heard.status.as_u16())),
        request_id: heard.request_id.clone(),
        date: heard.date,
    }
}

/// An answer that is no success.
pub(crate) fn classify(heard: &Heard) -> ProviderError {
    let status = heard.status;
    let envelope = Envelope::read(&heard.body);
    if status.is_server_error() || matches!(status.as_u16(), 408 | 409) {
        return error(
            heard,
            Outcome::Unknown,
            later(heard),
            Cause::ServerError,
            envelope.as_ref(),
        );
    }
    let Some(envelope) = envelope else {
        // Something in between answered: it proves nothing about the request.
        return error(
            heard,
            Outcome::Unknown,
            later(heard),
            Cause::BadAnswer,
            None,
        );
    };
    let code = envelope.code.as_deref().unwrap_or_default();
    let (retry, cause) = match status.as_u16() {
        401 if code == "invalid_api_key" => (Retry::Later(None), Cause::CredentialRefused),
        401 => (Retry::Later(None), Cause::Forbidden),
        403 => (Retry::Never, Cause::Forbidden),
        // The path is wrong, not the id: no proof that anything is gone.
        404 if code == "unknown_url" => (Retry::Never, Cause::Refused),
        404 => (Retry::Never, Cause::NotFound),
        429 if matches!(code, "insufficient_quota" | "credit_balance_exhausted") => {
            (Retry::Never, Cause::QuotaExhausted)
        }
        429 => (later(heard), Cause::RateLimited),
        400..=499 => (Retry::Never, Cause::Refused),
        _ => (Retry::Later(None), Cause::BadAnswer),
    };
    let outcome = if status.is_client_error() {
        Outcome::NotDone
    } else {
        Outcome::Unknown
    };
    error(heard, outcome, retry, cause, Some(&envelope))
}

fn error(
    heard: &Heard,
    outcome: Outcome,
    retry: Retry,
    cause: Cause,
    envelope: Option<&ErrorBody>,
) -> ProviderError {
    let status = heard.status.as_u16();
    let message = match envelope {
        Some(body) => {
            let code = body
                .code
                .as_deref()
                .or(body.kind.as_deref())
                .unwrap_or("no code");
            let said = body.message.as_deref().unwrap_or("no message");
            format!("HTTP {status} {code}: {said}")
        }
        None if heard.body.is_empty() => {
            format!("HTTP {status} without the provider's error envelope: an empty answer")
        }
        None => {
            let said = outside::shown_bytes(&heard.body);
            format!("HTTP {status} without the provider's error envelope: {said}")
        }
    };
    ProviderError {
        operation: heard.operation.clone(),
        outcome,
        retry,
        cause,
        message: outside::shown(&message),
        request_id: heard.request_id.clone(),
        date: heard.date,
    }
}

/// After what time to ask again, where the provider says so: `retry-after-ms`,
/// or `retry-after` in seconds or as a date.
fn later(heard: &Heard) -> Retry {
    let number = |text: &Option<String>| text.as_deref()?.trim().parse::<f64>().ok();
    let wait = number(&heard.retry_after_ms)
        .map(|ms| ms / 1_000.0)
        .or_else(|| number(&heard.retry_after))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(|| {
            let text = heard.retry_after.as_deref()?;
            let at = jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(text)
                .ok()?;
            // By the provider's own clock: ours may be off.
            Some(time::until(heard.date?, at))
        });
    Retry::Later(wait.map(|wait| wait.min(LONGEST_WAIT)))
}
