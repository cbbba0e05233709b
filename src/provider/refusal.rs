//! What an answer that is not a success means: was it done, will it pass.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::core::outside::{shown, shown_bytes};
use crate::provider::wire::{self, Envelope};
use crate::provider::{Cause, Outcome, ProviderError, Retry};

/// The longest wait that the provider may ask for; what it says beyond that is
/// no hint any more.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// 429 codes that do not pass by waiting a little.
const QUOTA_CODES: [&str; 2] = ["insufficient_quota", "credit_balance_exhausted"];

/// The code of a 404 that is about the path, not about a credential.
const UNKNOWN_URL: &str = "unknown_url";

/// How such a 404 begins when it has no code: the API has said it both ways.
const INVALID_URL: &str = "Invalid URL";

/// What surrounds every answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) request_id: Option<String>,
    pub(super) date: Option<Timestamp>,
    retry_after: Option<Duration>,
}

impl Head {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap) -> Self {
        let date = header(headers, DATE.as_str()).and_then(http_date);
        Self {
            status,
            request_id: header(headers, "x-request-id").map(shown),
            date,
            retry_after: retry_after(headers, date),
        }
    }

    /// An error of this answer.
    pub(super) fn error(
        &self,
        operation: &str,
        (cause, outcome, retry): (Cause, Outcome, Retry),
        message: String,
    ) -> ProviderError {
        ProviderError {
            operation: operation.to_owned(),
            outcome,
            retry,
            cause,
            message,
            request_id: self.request_id.clone(),
            date: self.date,
        }
    }

    /// A success that cannot be read: what it answers may have been done.
    pub(super) fn unreadable(&self, operation: &str, why: &str) -> ProviderError {
        self.error(
            operation,
            (Cause::BadAnswer, Outcome::Unknown, Retry::Later(None)),
            format!("the answer ({}) is not usable: {why}", self.status.as_u16()),
        )
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, operation: &str, body: &[u8]) -> ProviderError {
        let status = self.status.as_u16();
        match wire::envelope(body) {
            Some(envelope) => {
                let verdict = self.verdict(&envelope);
                let words = words(&envelope);
                let advice = advice(verdict.0);
                self.error(
                    operation,
                    verdict,
                    format!("the provider answered {status}: {words}{advice}"),
                )
            }
            None => self.foreign(operation, body),
        }
    }

    /// An answer without the provider's envelope: something in between, or
    /// the provider in trouble. Whatever its status, it proves nothing.
    fn foreign(&self, operation: &str, body: &[u8]) -> ProviderError {
        let status = self.status.as_u16();
        let hint = "; check base-url and what stands between here and it";
        let (cause, what, advice) = if is_trouble(self.status) {
            (Cause::ServerError, "an error", "")
        } else if self.status.is_redirection() {
            (Cause::BadAnswer, "a redirect, which is not followed", hint)
        } else {
            (Cause::BadAnswer, "not the provider's answer", hint)
        };
        let excerpt = shown_bytes(body);
        let excerpt = if excerpt.is_empty() {
            "nothing".to_owned()
        } else {
            excerpt
        };
        self.error(
            operation,
            (cause, Outcome::Unknown, Retry::Later(self.retry_after)),
            format!("{status}, {what}: {excerpt}{advice}"),
        )
    }

    fn verdict(&self, envelope: &Envelope) -> (Cause, Outcome, Retry) {
        let later = Retry::Later(self.retry_after);
        if is_trouble(self.status) {
            return (Cause::ServerError, Outcome::Unknown, later);
        }
        let code = envelope.code.as_deref();
        let is_quota = [code, envelope.kind.as_deref()]
            .into_iter()
            .flatten()
            .any(|word| QUOTA_CODES.contains(&word));
        let (cause, retry) = match self.status {
            StatusCode::UNAUTHORIZED if code == Some("invalid_api_key") => {
                (Cause::CredentialRefused, later)
            }
            // Seen in bursts on credentials that work, so it may pass.
            StatusCode::UNAUTHORIZED => (Cause::Forbidden, later),
            StatusCode::FORBIDDEN => (Cause::Forbidden, Retry::Never),
            StatusCode::NOT_FOUND if !is_about_the_path(envelope) => {
                (Cause::NotFound, Retry::Never)
            }
            StatusCode::TOO_MANY_REQUESTS if is_quota => (Cause::QuotaExhausted, Retry::Never),
            StatusCode::TOO_MANY_REQUESTS => (Cause::RateLimited, later),
            status if status.is_client_error() => (Cause::Refused, Retry::Never),
            _ => return (Cause::BadAnswer, Outcome::Unknown, later),
        };
        (cause, Outcome::NotDone, retry)
    }
}

/// Answers that leave open whether the work was done.
fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT)
}

/// Whether a 404 is about a path that the provider does not know: that proves
/// nothing about what would be there.
fn is_about_the_path(envelope: &Envelope) -> bool {
    envelope.code.as_deref() == Some(UNKNOWN_URL)
        || envelope
            .message
            .as_deref()
            .is_some_and(|message| message.starts_with(INVALID_URL))
}

fn words(envelope: &Envelope) -> String {
    let message = envelope.message.as_deref().unwrap_or("no message");
    match envelope.code.as_deref().or(envelope.kind.as_deref()) {
        Some(code) => format!("{message} ({code})"),
        None => message.to_owned(),
    }
}

fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Forbidden => {
            "; the credential needs the owner's rights over admin keys in this organization"
        }
        Cause::QuotaExhausted => "; see the organization's billing",
        Cause::NoCredential
        | Cause::CredentialRefused
        | Cause::NotFound
        | Cause::Refused
        | Cause::RateLimited
        | Cause::Unreachable
        | Cause::NoAnswer
        | Cause::ServerError
        | Cause::BadAnswer => "",
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|time| time.timestamp())
}

/// How long the provider asks to wait: milliseconds before seconds or a date,
/// the date against the answer's own `Date`, so that our clock does not matter.
fn retry_after(headers: &HeaderMap, now: Option<Timestamp>) -> Option<Duration> {
    let span = |text: &str, unit: f64| {
        let number = text.trim().parse::<f64>().ok()?;
        Duration::try_from_secs_f64(number / unit).ok()
    };
    header(headers, "retry-after-ms")
        .and_then(|text| span(text, 1000.0))
        .or_else(|| {
            let text = header(headers, RETRY_AFTER.as_str())?;
            span(text, 1.0).or_else(|| {
                let until = http_date(text)?.duration_since(now?);
                Some(Duration::try_from(until).unwrap_or_default())
            })
        })
        .map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn wait(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        Head::read(StatusCode::TOO_MANY_REQUESTS, &headers).retry_after
    }

    #[test]
    fn the_wait_is_read_in_each_form() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let until = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        let thirty = Some(Duration::from_secs(30));
        assert_eq!(wait(&[("retry-after", "30")]), thirty);
        assert_eq!(
            wait(&[("retry-after-ms", "30000"), ("retry-after", "1")]),
            thirty
        );
        assert_eq!(wait(&[date, until]), thirty);
        assert_eq!(wait(&[until]), None);
        assert_eq!(wait(&[("retry-after", "-1")]), None);
        assert_eq!(wait(&[("retry-after", "NaN")]), None);
        assert_eq!(wait(&[("retry-after", "1e300")]), None);
        assert_eq!(wait(&[("retry-after", "9999999")]), Some(LONGEST_WAIT));
        assert_eq!(wait(&[]), None);
    }
}
