//! How a command and the daemon prove to each other that they know the cookie, which never
//! leaves its file.
//!
//! A program of the daemon's has the daemon's user. Under another name of the socket it could
//! answer a command, read what that sends, and send it to the daemon. So each side draws a
//! random challenge for one request, and shows an HMAC of both challenges, the request, and the
//! body: it fits nothing else, and only a process that can read the cookie can make it.

use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::core::hex;
use crate::platform::entropy::{Entropy, EntropyError};

/// The path at which both sides exchange their challenges.
pub(crate) const HANDSHAKE_PATH: &str = "/handshake";

/// The header of a handshake: the challenge of the command.
pub(crate) const CHALLENGE_HEADER: &str = "rekeyd-challenge";

/// The header of a request, and of a response, that is proven: the digest of the body and the
/// HMAC, with a blank between them. A handshake's response has the same.
pub(crate) const PROOF_HEADER: &str = "rekeyd-proof";

/// How long an exchange may take: from the daemon's challenge to the head of the request, and
/// for a command from the connection to the daemon's proof. A process that passes a request on
/// cannot keep it for later.
pub(crate) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

const CHALLENGE_BYTES: usize = 32;

/// A random text that no other request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge(String);

/// The challenges of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenges {
    pub(crate) of_command: Challenge,
    pub(crate) of_daemon: Challenge,
}

/// SHA-256 of a body, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyDigest(String);

/// What a proof is about, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement<'a> {
    /// A request of a command.
    Request {
        /// Its method.
        method: &'a Method,
        /// Its path.
        path: &'a str,
    },
    /// The daemon's response to it.
    Response {
        /// The method of the request.
        method: &'a Method,
        /// The path of the request.
        path: &'a str,
        /// The status of the response.
        status: StatusCode,
    },
}

/// The cookie as the key of proofs.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct CookieKey(Zeroizing<String>);

impl Challenge {
    /// Draws one.
    ///
    /// # Errors
    /// The system returns no random bytes.
    pub(crate) fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut random = [0; CHALLENGE_BYTES];
        entropy.fill(&mut random)?;
        Ok(Self(hex::encode(&random)))
    }

    /// Parses the challenge of the other side.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && text.len() == 2 * CHALLENGE_BYTES).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl BodyDigest {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self(hex::encode(digest::digest(&digest::SHA256, body).as_ref()))
    }
}

impl Statement<'_> {
    /// Returns its text, which is that of no other statement.
    fn text(&self) -> String {
        match self {
            Self::Request { method, path } => format!("rekeyd request\n{method} {path}"),
            Self::Response {
                method,
                path,
                status,
            } => format!("rekeyd response\n{method} {path} {}", status.as_u16()),
        }
    }
}

impl CookieKey {
    pub(crate) const fn new(cookie: Zeroizing<String>) -> Self {
        Self(cookie)
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }

    /// Returns the value of [`PROOF_HEADER`] that proves a statement with this body.
    pub(crate) fn prove(
        &self,
        statement: &Statement<'_>,
        challenges: &Challenges,
        body: &BodyDigest,
    ) -> String {
        let text = message(statement, challenges, body);
        let tag = hmac::sign(&self.hmac(), text.as_bytes());
        format!("{} {}", body.0, hex::encode(tag.as_ref()))
    }

    /// Returns the digest of the body that a proof of this statement has in `headers`; none if
    /// it is no such proof. The body need not have arrived. The time that this takes does not
    /// depend on where a wrong proof differs.
    pub(crate) fn verify(
        &self,
        statement: &Statement<'_>,
        challenges: &Challenges,
        headers: &HeaderMap,
    ) -> Option<BodyDigest> {
        let proof = headers.get(PROOF_HEADER)?.to_str().ok()?;
        let (body, tag) = proof.split_once(' ')?;
        let body = BodyDigest(body.to_owned());
        let tag = hex::decode(tag)?;
        let text = message(statement, challenges, &body);
        hmac::verify(&self.hmac(), text.as_bytes(), &tag).ok()?;
        Some(body)
    }
}

fn message(statement: &Statement<'_>, challenges: &Challenges, body: &BodyDigest) -> String {
    let Challenges {
        of_command,
        of_daemon,
    } = challenges;
    format!(
        "{}\n{}\n{}\n{}",
        statement.text(),
        of_command.0,
        of_daemon.0,
        body.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    fn key(cookie: &str) -> CookieKey {
        CookieKey::new(Zeroizing::new(cookie.to_owned()))
    }

    fn challenges() -> Challenges {
        let draw = || Challenge::draw(&SystemEntropy::new()).unwrap();
        Challenges {
            of_command: draw(),
            of_daemon: draw(),
        }
    }

    /// A proof fits one request or response, of one exchange, with one body.
    #[test]
    fn proof_fits_nothing_else() {
        let (own, other) = (challenges(), challenges());
        let swapped = Challenges {
            of_command: own.of_daemon.clone(),
            of_daemon: own.of_command.clone(),
        };
        let request = |method, path| Statement::Request { method, path };
        let response = |path, status| Statement::Response {
            method: &Method::POST,
            path,
            status,
        };
        let statements = [
            request(&Method::POST, "/rotate"),
            request(&Method::GET, "/rotate"),
            request(&Method::POST, "/revoke"),
            response("/rotate", StatusCode::OK),
            response("/rotate", StatusCode::FORBIDDEN),
            response("/revoke", StatusCode::OK),
        ];
        let body = BodyDigest::of(b"{}");
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(PROOF_HEADER, value.parse().unwrap());
            headers
        };
        for proven in &statements {
            let proof = key("cookie").prove(proven, &own, &body);
            assert!(!proof.contains("cookie"));
            for statement in &statements {
                let verified = key("cookie").verify(statement, &own, &headers(&proof));
                let expected = (statement == proven).then(|| body.clone());
                assert_eq!(verified, expected, "{statement:?} by {proven:?}");
            }
            for wrong in [&other, &swapped] {
                let verified = key("cookie").verify(proven, wrong, &headers(&proof));
                assert_eq!(verified, None);
            }
            assert_eq!(key("").verify(proven, &own, &headers(&proof)), None);
            let (digest, tag) = proof.split_once(' ').unwrap();
            let other_body = BodyDigest::of(b"");
            for wrong in [
                String::new(),
                tag.to_owned(),
                format!("{digest} "),
                format!("{digest} {}", &tag[1..]),
                format!("{digest} {}", &tag[2..]),
                format!("{digest} {tag}0"),
                format!("{} {tag}", other_body.0),
            ] {
                let verified = key("cookie").verify(proven, &own, &headers(&wrong));
                assert_eq!(verified, None, "{wrong}");
            }
        }
        let none = key("cookie").verify(&statements[0], &own, &HeaderMap::new());
        assert_eq!(none, None);
    }

    #[test]
    fn challenge_has_its_length_and_is_drawn_anew() {
        let drawn = challenges();
        assert_ne!(drawn.of_command, drawn.of_daemon);
        let text = drawn.of_command.as_str();
        assert_eq!(Challenge::parse(text), Some(drawn.of_command.clone()));
        for wrong in ["", &text[1..], &format!("{text}0"), &"g".repeat(64)] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
    }
}
