//! Descriptions of network errors that show no URL.

use std::error::Error;

use rustls::{CertificateError, OtherError};

use crate::core::redact;

/// Describes why a request failed: the error and its causes, masked and without
/// the URL, whose query may hold a secret.
#[must_use]
pub fn explain(error: reqwest::Error) -> String {
    describe(&error.without_url())
}

/// Describes an error as [`explain`] does, if it has no URL.
pub(super) fn describe(error: &reqwest::Error) -> String {
    // The library's own message names its internals.
    if error.is_timeout() {
        let message = if error.is_connect() {
            "no connection in time"
        } else {
            "no answer in time"
        };
        return message.to_owned();
    }
    explain_causes(error)
}

/// Describes an error and its causes, masked, with advice where there is any.
pub(crate) fn explain_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = redact::sanitize(&chain(error));
    let mut advice = advice_for(error);
    let mut cause = error.source();
    while let (None, Some(error)) = (advice, cause) {
        advice = advice_for(error);
        cause = error.source();
    }
    if let Some(advice) = advice {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}

/// Returns what to do about an error of a connection, where its own words name
/// the library's internals.
fn advice_for(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(problem)) => advice_for_certificate(problem),
        Some(_) => None,
        None => error
            .downcast_ref::<hyper::Error>()
            .filter(|error| error.is_parse_too_large())
            .map(|_| "the head of the answer has more than 100 fields, or is too long"),
    }
}

/// Returns the error of TLS that an error is, or holds. Libraries wrap one
/// error of the system in another, which `source` leaves out.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => tls_error(error.get_ref()?),
        None => error.downcast_ref::<rustls::Error>(),
    }
}

/// Whether a request failed since the certificate of the server is not trusted.
pub(crate) fn rejects_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = tls_error(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

// `CertificateError` is not our own enum.
#[allow(clippy::wildcard_enum_match_arm)]
fn advice_for_certificate(problem: &CertificateError) -> Option<&'static str> {
    match problem {
        CertificateError::UnknownIssuer => Some(
            "nobody that is trusted here has issued its certificate; name its root with ca-file",
        ),
        CertificateError::Other(OtherError(other)) => {
            match other.downcast_ref::<webpki::Error>()? {
                webpki::Error::CaUsedAsEndEntity => Some(
                    "its certificate is that of an authority (CA:TRUE), which no server may \
                     present; make one for the server: openssl req -x509 -addext \
                     basicConstraints=critical,CA:FALSE",
                ),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Joins an error and its causes, and leaves out repetitions.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Many libraries repeat the cause's message in their own.
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
