//! Who may read `/metrics`, which names keys and sinks: other hosts need the password.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::config::OPEN_METRICS_HINT;
use crate::config::settings::MetricsAccess;
use crate::core::secret_text::SecretForm;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::{BlockingPool, secret_file};

/// The time limit of reading the password: its file system may hang.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The scheme of the header with the password.
const SCHEME: &str = "basic ";

/// The rule of one server, which a reload may replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessRule {
    /// The options of `[metrics]`.
    pub(crate) access: MetricsAccess,
    /// The parts of paths that others may own or write.
    pub(crate) trusted_paths: TrustedPaths,
}

/// The reason why a request gets no metrics.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AccessRefusal {
    /// Other hosts can reach the address, and no option says who may read.
    NotConfigured,
    /// The request has no password, or another one.
    WrongPassword,
    /// The password cannot be read.
    NoPassword,
}

impl AccessRefusal {
    /// Returns the answer. It says nothing about this host to somebody without the password.
    pub(super) fn into_response(self) -> Response {
        match self {
            Self::NotConfigured => {
                let text = format!(
                    "other hosts can reach this address, and the metrics name keys and sinks; \
                     hint: {OPEN_METRICS_HINT}\n"
                );
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::WrongPassword => {
                let challenge = HeaderValue::from_static("Basic realm=\"rekeyd\"");
                let text = "the metrics need the password of [metrics] password-file\n";
                let headers = [(WWW_AUTHENTICATE, challenge)];
                (StatusCode::UNAUTHORIZED, headers, text).into_response()
            }
            Self::NoPassword => {
                let text = "cannot read the password of the metrics; hint: run `rekeyd check`\n";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
        }
    }
}

impl AccessRule {
    /// Checks that a request may read the metrics. `is_exposed` says whether other hosts
    /// reach the address. A thread of `files` reads the password.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn check(
        &self,
        is_exposed: bool,
        headers: &HeaderMap,
        files: &BlockingPool,
    ) -> Result<(), AccessRefusal> {
        let Some(file) = self.access.password_file.clone() else {
            return match is_exposed && self.access.refuses_other_hosts() {
                true => Err(AccessRefusal::NotConfigured),
                false => Ok(()),
            };
        };
        // Without a password in it, a request costs no look at the disk.
        let given = given_password(headers).ok_or(AccessRefusal::WrongPassword)?;
        let describe = {
            let file = file.display().to_string();
            move || format!("reading {file}")
        };
        let trusted_paths = self.trusted_paths.clone();
        let reading = files.run(describe, READ_TIMEOUT, move || {
            secret_file::read_configured(&file, SecretForm::Token, &trusted_paths)
                .map_err(|error| error.to_string())
        });
        let read = match reading.await {
            Ok(read) => read,
            Err(error) => Err(error.to_string()),
        };
        let expected = read.map_err(|problem| {
            tracing::debug!("cannot read the password of the metrics: {problem}");
            AccessRefusal::NoPassword
        })?;
        match is_same(&given, expected.expose().as_bytes()) {
            true => Ok(()),
            false => Err(AccessRefusal::WrongPassword),
        }
    }
}

/// Returns the password of a request with HTTP Basic authentication, whatever its user name.
fn given_password(headers: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let scheme = header.get(..SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let encoded = header[SCHEME.len()..].trim();
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(Zeroizing::new(decoded[colon + 1..].to_vec()))
}

/// Compares digests, whose first difference tells nothing about the password.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    digest(&SHA256, given).as_ref() == digest(&SHA256, expected).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let value = HeaderValue::from_str(authorization).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn rule(password_file: Option<&std::path::Path>, unprotected: bool) -> AccessRule {
        AccessRule {
            access: MetricsAccess {
                password_file: password_file.map(Into::into),
                unprotected,
            },
            trusted_paths: TrustedPaths::default(),
        }
    }

    #[test]
    fn password_is_what_follows_the_first_colon() {
        for (header, expected) in [
            // x:pass, :pass and x:pa:ss
            ("Basic eDpwYXNz", Some("pass")),
            ("basic OnBhc3M=", Some("pass")),
            ("BASIC eDpwYTpzcw==", Some("pa:ss")),
            ("Basic", None),
            ("Basic ", None),
            ("Basic *", None),
            // Without a colon.
            ("Basic cGFzcw==", None),
            ("Bearer eDpwYXNz", None),
        ] {
            let found = given_password(&headers(header));
            let found = found.map(|found| String::from_utf8(found.to_vec()).unwrap());
            assert_eq!(found.as_deref(), expected, "{header}");
        }
    }

    fn files() -> BlockingPool {
        BlockingPool::new(1)
    }

    #[tokio::test]
    async fn other_hosts_need_an_option() {
        let none = HeaderMap::new();
        for (is_exposed, unprotected, expected) in [
            (false, false, Ok(())),
            (false, true, Ok(())),
            (true, true, Ok(())),
            (true, false, Err(AccessRefusal::NotConfigured)),
        ] {
            let rule = rule(None, unprotected);
            let found = rule.check(is_exposed, &none, &files()).await;
            assert_eq!(found, expected, "{is_exposed} {unprotected}");
        }
    }

    #[tokio::test]
    async fn password_is_read_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let rule = rule(Some(&file), false);
        let pass = headers("Basic eDpwYXNz");
        for is_exposed in [false, true] {
            let check = async |headers: &HeaderMap| rule.check(is_exposed, headers, &files()).await;
            let _ = std::fs::remove_file(&file);
            assert_eq!(check(&pass).await, Err(AccessRefusal::NoPassword));
            for (text, expected) in [
                ("pass\n", Ok(())),
                ("other\n", Err(AccessRefusal::WrongPassword)),
            ] {
                write_secret(&file, text);
                assert_eq!(check(&pass).await, expected, "{text}");
                let none = check(&HeaderMap::new()).await;
                assert_eq!(none, Err(AccessRefusal::WrongPassword));
            }
        }
    }

    fn write_secret(file: &std::path::Path, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}
