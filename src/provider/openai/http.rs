//! One request and its response, or the error of a request without one.

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use crate::core::gate::RequestClass;
use crate::core::secret::Secret;
use crate::net::body::{self, BodyError};
use crate::net::connection_use::{self, ended_without_answer};
use crate::net::error_text::{self, explain};
use crate::net::proxy::describe_peer;
use crate::provider::openai::errors::ResponseHead;
use crate::provider::{Effect, ErrorKind, ProviderError, RetryAdvice};

/// A response with any status.
pub(super) struct RawResponse {
    pub(super) head: ResponseHead,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// A request without a response.
pub(super) struct FailedRequest {
    pub(super) error: ProviderError,
    /// Whether one side does not trust the certificate of the other.
    pub(super) rejects_certificate: bool,
}

impl From<ProviderError> for FailedRequest {
    fn from(error: ProviderError) -> Self {
        Self {
            error,
            rejects_certificate: false,
        }
    }
}

/// Sends a request once, and reads the whole response, whatever its status.
///
/// `repetition` is the same request on a connection of its own, if it may be
/// sent again without harm. It is sent if the first one was sent on a kept
/// connection that ended before an answer began: the server had closed it.
pub(super) async fn send_request(
    operation: &str,
    request: RequestBuilder,
    repetition: Option<RequestBuilder>,
) -> Result<RawResponse, FailedRequest> {
    let start = Instant::now();
    let elapsed = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (sent, has_opened) = connection_use::observe(request.send()).await;
    let sent = match (sent, repetition) {
        (Err(error), Some(repetition)) if !has_opened && ended_without_answer(&error) => {
            tracing::debug!(
                operation,
                "the server closed the kept connection; sending the request again"
            );
            repetition.send().await
        }
        (sent, _) => sent,
    };
    let response = sent.map_err(|error| {
        let rejects_certificate = error_text::rejects_certificate(&error);
        let error = transport_error(operation, error);
        tracing::debug!(
            operation,
            elapsed_ms = elapsed(),
            error = error.message,
            "no response from the provider"
        );
        FailedRequest {
            error,
            rejects_certificate,
        }
    })?;
    let head = ResponseHead::parse(response.status(), response.headers(), response.url());
    let body = body::read(response).await;
    tracing::debug!(
        operation,
        status = head.status.as_u16(),
        request_id = head.request_id.as_deref(),
        elapsed_ms = elapsed(),
        "the provider answered"
    );
    let error = match body {
        Ok(body) => return Ok(RawResponse { head, body }),
        Err(error @ BodyError::Encoded(_)) if !head.status.is_success() => {
            head.error_from_body(operation, error.to_string().as_bytes())
        }
        Err(error @ (BodyError::TooLong | BodyError::Encoded(_))) => {
            head.unusable_body_error(operation, &error.to_string())
        }
        Err(BodyError::Interrupted(reason)) => head.error(
            operation,
            (
                ErrorKind::NoAnswer,
                Effect::Unknown,
                RetryAdvice::Later(head.retry_after),
            ),
            format!("the provider's response ended early: {reason}"),
        ),
    };
    Err(error.into())
}

/// Returns the error of a request without a response. The operation certainly
/// had no effect only if no connection was made.
fn transport_error(operation: &str, error: reqwest::Error) -> ProviderError {
    let peer = error.url().map(describe_peer).unwrap_or_default();
    if error.is_connect() {
        let message = format!("cannot reach the provider{peer}: {}", explain(error));
        return error_before_send(operation, ErrorKind::Unreachable, message);
    }
    if error.is_builder() {
        return fatal_error_before_send(operation, ErrorKind::Refused, explain(error));
    }
    let message = format!("no response from the provider{peer}: {}", explain(error));
    let mut error = error_before_send(operation, ErrorKind::NoAnswer, message);
    error.effect = Effect::Unknown;
    error
}

/// Returns an error that occurred before anything was sent, and that only a
/// person can resolve.
pub(super) fn fatal_error_before_send(
    operation: &str,
    kind: ErrorKind,
    message: String,
) -> ProviderError {
    ProviderError {
        retry: RetryAdvice::Never,
        ..error_before_send(operation, kind, message)
    }
}

/// Returns an error that occurred before anything was sent.
pub(super) fn error_before_send(
    operation: &str,
    kind: ErrorKind,
    message: String,
) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        effect: Effect::NotApplied,
        retry: RetryAdvice::Later(None),
        kind,
        message,
        class: RequestClass::Read,
        code: None,
        request_id: None,
        server_time: None,
    }
}

/// Returns the header with the secret, marked as sensitive so that it is never
/// printed.
pub(super) fn authorization_header(
    operation: &str,
    secret: &Secret,
) -> Result<HeaderValue, ProviderError> {
    let text = Zeroizing::new(format!("Bearer {}", secret.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        fatal_error_before_send(
            operation,
            ErrorKind::CredentialRefused,
            "the secret contains characters that no HTTP header can hold, such as a line break"
                .to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
