//! One request and its answer, and what it means when there is none.

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use crate::core::secret::Secret;
use crate::net::body::{self, BodyError};
use crate::net::error_text::explain;
use crate::provider::openai::errors::ResponseHead;
use crate::provider::{Effect, ErrorKind, ProviderError, RetryAdvice};

/// An answer, whatever it says.
pub(super) struct RawResponse {
    pub(super) head: ResponseHead,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends a request once and reads all of its answer, whatever it says.
pub(super) async fn send_request(
    operation: &str,
    request: RequestBuilder,
) -> Result<RawResponse, ProviderError> {
    let begun = Instant::now();
    let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
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
    let head = ResponseHead::parse(response.status(), response.headers());
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
        Err(why @ BodyError::TooLong) => Err(head.unusable_body_error(operation, &why.to_string())),
        Err(why @ BodyError::Interrupted(_)) => Err(head.error(
            operation,
            (
                ErrorKind::NoAnswer,
                Effect::Unknown,
                RetryAdvice::Later(None),
            ),
            why.to_string(),
        )),
    }
}

/// No answer came. Only where no connection could be made is it certain that
/// nothing was done.
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

/// An error from before anything was sent, and nothing will be until a person
/// changes something.
pub(super) fn fatal_error_before_send(
    operation: &str,
    cause: ErrorKind,
    message: String,
) -> ProviderError {
    ProviderError {
        retry: RetryAdvice::Never,
        ..error_before_send(operation, cause, message)
    }
}

/// An error from before anything was sent.
pub(super) fn error_before_send(
    operation: &str,
    cause: ErrorKind,
    message: String,
) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        effect: Effect::NotApplied,
        retry: RetryAdvice::Later(None),
        kind: cause,
        message,
        request_id: None,
        server_time: None,
    }
}

/// The header with the secret, marked so that it is not printed.
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
