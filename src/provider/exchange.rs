//! One request and its answer, and what it means when there is none.

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use crate::core::secret::Secret;
use crate::net::body::{self, BodyError};
use crate::net::failure::explain;
use crate::provider::refusal::Head;
use crate::provider::{Cause, Outcome, ProviderError, Retry};

/// An answer, whatever it says.
pub(super) struct Reply {
    pub(super) head: Head,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends a request once and reads all of its answer, whatever it says.
pub(super) async fn send(operation: &str, request: RequestBuilder) -> Result<Reply, ProviderError> {
    let begun = Instant::now();
    let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let response = request.send().await.map_err(|error| {
        let error = unanswered(operation, error);
        tracing::debug!(
            operation,
            elapsed_ms = elapsed(),
            error = error.message,
            "the provider did not answer"
        );
        error
    })?;
    let head = Head::read(response.status(), response.headers());
    let body = body::read(response).await;
    tracing::debug!(
        operation,
        status = head.status.as_u16(),
        request_id = head.request_id.as_deref(),
        elapsed_ms = elapsed(),
        "the provider answered"
    );
    match body {
        Ok(body) => Ok(Reply { head, body }),
        Err(why @ BodyError::TooLong) => Err(head.unreadable(operation, &why.to_string())),
        Err(why @ BodyError::Broken(_)) => Err(head.error(
            operation,
            (Cause::NoAnswer, Outcome::Unknown, Retry::Later(None)),
            why.to_string(),
        )),
    }
}

/// No answer came. Only where no connection could be made is it certain that
/// nothing was done.
fn unanswered(operation: &str, error: reqwest::Error) -> ProviderError {
    if error.is_connect() {
        return not_sent(operation, Cause::Unreachable, explain(error));
    }
    if error.is_builder() {
        return never_sent(operation, Cause::Refused, explain(error));
    }
    let mut error = not_sent(operation, Cause::NoAnswer, explain(error));
    error.outcome = Outcome::Unknown;
    error
}

/// An error from before anything was sent, and nothing will be until a person
/// changes something.
pub(super) fn never_sent(operation: &str, cause: Cause, message: String) -> ProviderError {
    ProviderError {
        retry: Retry::Never,
        ..not_sent(operation, cause, message)
    }
}

/// An error from before anything was sent.
pub(super) fn not_sent(operation: &str, cause: Cause, message: String) -> ProviderError {
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

/// The header with the secret, marked so that it is not printed.
pub(super) fn bearer(operation: &str, secret: &Secret) -> Result<HeaderValue, ProviderError> {
    let text = Zeroizing::new(format!("Bearer {}", secret.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        never_sent(
            operation,
            Cause::CredentialRefused,
            "the secret has characters that no secret has, such as a line break".to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
