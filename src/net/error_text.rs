//! Descriptions of network errors: the one cause that matters, and no URL.

use std::error::Error;
use std::io;
use std::iter::successors;

use rustls::{AlertDescription, CertificateError, OtherError};

use crate::core::os_error;
use crate::core::redact;

/// Describes why a request failed: its cause, masked and without the URL, whose query may
/// hold a secret.
#[must_use]
pub fn explain(error: reqwest::Error) -> String {
    describe(&error.without_url())
}

/// Describes an error as [`explain`] does, if it has no URL.
pub(super) fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let message = if error.is_connect() {
            "connection timed out"
        } else {
            "timed out"
        };
        return message.to_owned();
    }
    explain_causes(error)
}

/// Describes the cause of an error, masked, with a hint where there is one. Libraries
/// wrap it in errors that name their own steps.
pub(crate) fn explain_causes(error: &(dyn Error + 'static)) -> String {
    let causes = || {
        successors(Some(error), |error: &&(dyn Error + 'static)| {
            (*error).source()
        })
    };
    let described = causes().find_map(describe_cause);
    let innermost = || causes().last().map(ToString::to_string);
    redact::sanitize(&described.or_else(innermost).unwrap_or_default())
}

/// Describes an error of TLS, of HTTP or of the system.
fn describe_cause(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = tls_error(error) {
        return Some(describe_tls(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(match error.get_ref() {
            Some(inner) => explain_inner(inner),
            None => os_error::describe(error),
        });
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        Some("the response has more than 100 headers, or headers that are too long".to_owned())
    } else if error.is_parse() {
        Some("the response is not valid HTTP".to_owned())
    } else if error.is_incomplete_message() {
        Some("the server closed the connection".to_owned())
    } else {
        None
    }
}

/// Describes the error that an error of the system holds.
fn explain_inner(inner: &(dyn Error + Send + Sync + 'static)) -> String {
    match inner.downcast_ref::<io::Error>() {
        Some(error) => explain_causes(error),
        None => inner.to_string(),
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

/// Whether a request failed because one side does not trust the certificate of the other.
pub(crate) fn rejects_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) =
            tls_error(error)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

// Neither enum is our own.
#[allow(clippy::wildcard_enum_match_arm)]
fn describe_tls(error: &rustls::Error) -> String {
    let problem = match error {
        rustls::Error::InvalidCertificate(problem) => problem,
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            return "the server requires a certificate of its clients; hint: set client-certificate \
                    and client-key"
                .to_owned();
        }
        error => return format!("TLS error: {error}"),
    };
    let text = match problem {
        CertificateError::UnknownIssuer => {
            "its certificate is not trusted (unknown issuer); hint: name the issuer's root \
             certificate with ca-file"
        }
        CertificateError::BadSignature => {
            "its certificate has the issuer of a trusted one, but another key signed it; hint: \
             name the root certificate that signed it with ca-file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; hint: check this host's clock"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name"
        }
        CertificateError::Other(OtherError(other))
            if matches!(
                other.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ) =>
        {
            "its certificate is that of a certificate authority (CA:TRUE), which no server may \
             present; hint: create one for the server: openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE"
        }
        _ => return format!("its certificate is not valid: {problem}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as libraries wrap it.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Wrapper(#[source] io::Error);

    #[test]
    fn only_the_cause_is_described() {
        let refused = || io::Error::from_raw_os_error(111);
        let expired = || rustls::Error::InvalidCertificate(CertificateError::Expired);
        for (error, expected) in [
            (refused(), "connection refused"),
            (io::Error::other(refused()), "connection refused"),
            (
                io::Error::other(io::Error::other("no such host")),
                "no such host",
            ),
            (
                io::ErrorKind::UnexpectedEof.into(),
                "unexpected end of file",
            ),
            (io::Error::other(expired()), "its certificate has expired"),
        ] {
            assert_eq!(explain_causes(&error), expected);
            assert_eq!(explain_causes(&Wrapper(error)), expected);
        }
    }
}
