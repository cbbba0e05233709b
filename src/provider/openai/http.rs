//! One request and its response, or the error of a request without one.

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use crate::core::secret::Secret;
use crate::net::body::{self, BodyError};
use crate::net::error_text::explain;
use crate::provider::openai::errors::ResponseHead;
use crate::provider::{Effect, ErrorKind, ProviderError, RetryAdvice};

/// A response with any status.
pub(super) struct RawResponse {
    pub(super) head: ResponseHead,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends a request once, and reads the whole response, whatever its status.
pub(super) async fn send_request(
    operation: &str,
    request: RequestBuilder,
) -> Result<RawResponse, ProviderError> {
    let start = Instant::now();
    let elapsed = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let response = request.send().await.map_err(|error| {
        let error = transport_error(operation, error);
        tracing::debug!(
            operation,
            elapsed_ms = elapsed(),
            error = error.message,
            "the provider did not answer"
        );
        error
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
    match body {
        Ok(body) => Ok(RawResponse { head, body }),
        Err(error @ BodyError::Encoded(_)) if !head.status.is_success() => {
            Err(head.error_from_body(operation, error.to_string().as_bytes()))
        }
        Err(error @ (BodyError::TooLong | BodyError::Encoded(_))) => {
            Err(head.unusable_body_error(operation, &error.to_string()))
        }
        Err(error @ BodyError::Interrupted(_)) => Err(head.error(
            operation,
            (
                ErrorKind::NoAnswer,
                Effect::Unknown,
                RetryAdvice::Later(head.retry_after),
            ),
            error.to_string(),
        )),
    }
}

/// Returns the error of a request without a response. The operation certainly
/// had no effect only if no connection was made.
fn transport_error(operation: &str, error: reqwest::Error) -> ProviderError {
    if error.is_connect() {
        return error_before_send(operation, ErrorKind::Unreachable, explain(error));
    }
    if error.is_builder() {
        return fatal_error_before_send(operation, ErrorKind::Refused, explain(error));
    }
    let mut error = error_before_send(operation, ErrorKind::NoAnswer, explain(error));
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
            "the secret has characters that no secret has, such as a line break".to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
