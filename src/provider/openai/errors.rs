//! The meaning of a response that is not a success: whether the operation took
//! effect, and whether a retry can succeed.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use url::Url;

use crate::core::gate::RequestClass;
use crate::core::redact::{sanitize, sanitize_bytes};
use crate::net::retry_after::{header_text, requested_pause, server_time};
use crate::net::target;
use crate::provider::openai::schema::{self, ErrorEnvelope};
use crate::provider::{Effect, ErrorKind, ProviderError, RetryAdvice};

/// The codes of a quota or a budget that is used up: a short wait does not resolve them.
const QUOTA_CODES: [&str; 6] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
];

/// The codes of a limit of the rate, whatever the status.
const RATE_CODES: [&str; 2] = ["rate_limit_exceeded", "slow_down"];

/// The codes of refusals whose cause is the organization, the project or the network that
/// rekeyd is in: every key's create gets them alike. A refusal with another code is the
/// request's own until several keys got it.
const SCOPE_CODES: [&str; 5] = [
    "account_deactivated",
    "billing_not_active",
    "ip_not_authorized",
    "project_archived",
    "unsupported_country_region_territory",
];

/// The code of a 404 that is about the path, not about a credential.
const UNKNOWN_URL_CODE: &str = "unknown_url";

/// The beginning of the message of such a 404 without a code: the API has sent
/// both forms.
const INVALID_URL_PREFIX: &str = "Invalid URL";

/// The end of the path of all credentials.
const COLLECTION: &str = "/organization/admin_api_keys";

/// What to do if something other than the provider's API may have answered.
const PATH_HINT: &str = "; hint: check base-url and any proxy in between";

/// The status and headers of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) request_id: Option<String>,
    pub(super) server_time: Option<Timestamp>,
    /// The pause that the provider asks for.
    pub(super) retry_after: Option<Duration>,
    /// The host, the path and its parts, which an answer may quote.
    sent: Vec<String>,
    /// Whether the request was about no single credential, so that the provider has its path.
    is_about_collection: bool,
}

impl ResponseHead {
    pub(super) fn parse(status: StatusCode, headers: &HeaderMap, url: &Url) -> Self {
        Self {
            status,
            request_id: header_text(headers, "x-request-id").map(sanitize),
            server_time: server_time(headers),
            retry_after: requested_pause(headers),
            sent: target::quotable_parts(url),
            is_about_collection: url.path().ends_with(COLLECTION),
        }
    }

    /// Returns an error for this response.
    pub(super) fn error(
        &self,
        operation: &str,
        (kind, effect, retry): (ErrorKind, Effect, RetryAdvice),
        message: String,
    ) -> ProviderError {
        ProviderError {
            operation: operation.to_owned(),
            effect,
            retry,
            kind,
            class: RequestClass::Read,
            code: None,
            message,
            request_id: self.request_id.clone(),
            server_time: self.server_time,
        }
    }

    /// Returns the error of a success whose body cannot be used: the operation
    /// may have taken effect.
    pub(super) fn unusable_body_error(&self, operation: &str, problem: &str) -> ProviderError {
        self.error(
            operation,
            (
                ErrorKind::BadAnswer,
                Effect::Unknown,
                RetryAdvice::Later(self.retry_after),
            ),
            format!(
                "the provider's response ({}) is not usable: {problem}",
                self.status.as_u16()
            ),
        )
    }

    /// Returns the error that a response without success means.
    pub(super) fn error_from_body(&self, operation: &str, body: &[u8]) -> ProviderError {
        let status = self.status.as_u16();
        let sent = self.quotable(operation);
        match schema::parse_error_envelope(body, &sent) {
            Some(envelope) => {
                let classification = self.classify(&envelope);
                let description = describe_envelope(&envelope);
                let hint = if self.is_missing_path(&envelope) {
                    PATH_HINT
                } else {
                    hint_for(classification.0)
                };
                let message = format!("the provider answered {status}: {description}{hint}");
                ProviderError {
                    code: envelope.code,
                    ..self.error(operation, classification, message)
                }
            }
            None => self.unexpected_body_error(operation, body, &sent),
        }
    }

    /// Returns what an answer to the operation may quote: the ids and labels that it
    /// names, and the parts of the URL.
    fn quotable<'a>(&'a self, operation: &'a str) -> Vec<&'a str> {
        let parts = self.sent.iter().map(String::as_str);
        parts.chain(operation.split_whitespace()).collect()
    }

    /// Returns the error of a response without the provider's envelope: an
    /// intermediary's, or the provider's own failure. Whatever its status, it
    /// proves nothing.
    fn unexpected_body_error(&self, operation: &str, body: &[u8], sent: &[&str]) -> ProviderError {
        let status = self.status.as_u16();
        let (kind, answer, hint) = if is_ambiguous(self.status) {
            let answer = format!("the provider answered {status}");
            (ErrorKind::ServerError, answer, "")
        } else if self.status.is_redirection() {
            (
                ErrorKind::BadAnswer,
                format!("HTTP {status} (rekeyd does not follow redirects)"),
                PATH_HINT,
            )
        } else {
            (
                ErrorKind::BadAnswer,
                format!("HTTP {status}, but not from the provider"),
                PATH_HINT,
            )
        };
        let excerpt = sanitize_bytes(body, sent);
        let excerpt = if excerpt.is_empty() {
            "an empty body".to_owned()
        } else {
            excerpt
        };
        self.error(
            operation,
            (kind, Effect::Unknown, RetryAdvice::Later(self.retry_after)),
            format!("{answer}: {excerpt}{hint}"),
        )
    }

    /// Whether a response says that the API has no such path, as with a wrong base URL.
    fn is_missing_path(&self, envelope: &ErrorEnvelope) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE)
            && (self.is_about_collection || is_unknown_path(envelope))
    }

    fn classify(&self, envelope: &ErrorEnvelope) -> (ErrorKind, Effect, RetryAdvice) {
        let later = RetryAdvice::Later(self.retry_after);
        if is_ambiguous(self.status) {
            return (ErrorKind::ServerError, Effect::Unknown, later);
        }
        let code = envelope.code.as_deref();
        let has_one_of = |codes: &[&str]| {
            let given = [code, envelope.kind.as_deref()];
            given.into_iter().flatten().any(|one| codes.contains(&one))
        };
        // A refusal does not pass by itself, unless the provider says when.
        let settled = self
            .retry_after
            .map_or(RetryAdvice::Never, |pause| RetryAdvice::Later(Some(pause)));
        let (kind, retry) = match self.status {
            status if !status.is_client_error() => {
                return (ErrorKind::BadAnswer, Effect::Unknown, later);
            }
            _ if has_one_of(&QUOTA_CODES) => (ErrorKind::QuotaExhausted, settled),
            _ if has_one_of(&RATE_CODES) => (ErrorKind::RateLimited, later),
            _ if has_one_of(&SCOPE_CODES) => (ErrorKind::ScopeRefused, settled),
            StatusCode::UNAUTHORIZED if code == Some("invalid_api_key") => {
                (ErrorKind::CredentialRefused, later)
            }
            // Seen in bursts for credentials that work, so that a retry may
            // succeed.
            StatusCode::UNAUTHORIZED => (ErrorKind::Forbidden, later),
            StatusCode::FORBIDDEN => (ErrorKind::Forbidden, RetryAdvice::Never),
            StatusCode::NOT_FOUND | StatusCode::GONE if !is_unknown_path(envelope) => {
                (ErrorKind::NotFound, RetryAdvice::Never)
            }
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimited, later),
            _ => (ErrorKind::Refused, RetryAdvice::Never),
        };
        (kind, Effect::NotApplied, retry)
    }
}

/// Whether a status leaves open whether the operation took effect.
fn is_ambiguous(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT)
}

/// Whether a 404 or 410 concerns a path that the provider does not know, which proves
/// nothing about a credential there.
fn is_unknown_path(envelope: &ErrorEnvelope) -> bool {
    envelope.code.as_deref() == Some(UNKNOWN_URL_CODE)
        || envelope
            .message
            .as_deref()
            .is_some_and(|message| message.starts_with(INVALID_URL_PREFIX))
}

fn describe_envelope(envelope: &ErrorEnvelope) -> String {
    let message = envelope.message.as_deref().unwrap_or("no message");
    match envelope.code.as_deref().or(envelope.kind.as_deref()) {
        Some(code) => format!("{message} ({code})"),
        None => message.to_owned(),
    }
}

fn hint_for(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Forbidden => {
            "; hint: give the owner of the admin key the rights of an owner of this organization"
        }
        ErrorKind::QuotaExhausted => "; hint: check the organization's billing",
        ErrorKind::ScopeRefused => {
            "; hint: check the organization's state at the provider, and which addresses it allows"
        }
        ErrorKind::NoCredential
        | ErrorKind::CredentialRefused
        | ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::RateLimited
        | ErrorKind::Unreachable
        | ErrorKind::NoAnswer
        | ErrorKind::ServerError
        | ErrorKind::BadAnswer => "",
    }
}
