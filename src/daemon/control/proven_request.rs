//! The peers of the control socket, and which of their requests come from a process that knows
//! the cookie.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{self, Body};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tokio::time::Instant;

use crate::daemon::control::authorization::PeerCredentials;
use crate::daemon::control::cookie::OwnerCookie;
use crate::daemon::control::proof::{
    BodyDigest, CHALLENGE_HEADER, Challenge, Challenges, CookieKey, EXCHANGE_TIMEOUT, PROOF_HEADER,
    Statement,
};
use crate::platform::entropy::{Entropy, EntropyError};

/// The peer of one connection.
#[derive(Debug, Clone)]
pub(super) struct ControlPeer {
    pub(super) credentials: PeerCredentials,
    /// The exchange of the next request of the connection.
    handshake: Arc<Mutex<Option<Exchange>>>,
}

/// An exchange that a handshake has begun.
#[derive(Debug)]
struct Exchange {
    challenges: Challenges,
    begun_at: Instant,
}

/// A request that its sender has proven, apart from its body, which may not be here yet.
#[derive(Clone)]
pub(super) struct ProvenRequest {
    key: CookieKey,
    challenges: Challenges,
    method: Method,
    path: String,
    body: BodyDigest,
}

/// The digest of a response's body, as an extension of a response whose body cannot be read
/// again.
#[derive(Debug, Clone)]
pub(super) struct KnownDigest(pub(super) BodyDigest);

impl ControlPeer {
    pub(super) fn new(credentials: PeerCredentials) -> Self {
        Self {
            credentials,
            handshake: Arc::default(),
        }
    }

    /// Begins an exchange with the challenge in the headers of a handshake, and returns it;
    /// none without a challenge.
    ///
    /// # Errors
    /// The system returns no random bytes.
    pub(super) fn begin_exchange(
        &self,
        headers: &HeaderMap,
        entropy: &dyn Entropy,
    ) -> Result<Option<Challenges>, EntropyError> {
        let shown = headers.get(CHALLENGE_HEADER);
        let of_command = shown.and_then(|text| Challenge::parse(text.to_str().ok()?));
        let Some(of_command) = of_command else {
            return Ok(None);
        };
        let challenges = Challenges {
            of_command,
            of_daemon: Challenge::draw(entropy)?,
        };
        *self.lock() = Some(Exchange {
            challenges: challenges.clone(),
            begun_at: Instant::now(),
        });
        Ok(Some(challenges))
    }

    /// Ends the exchange, and returns its challenges if it has not taken too long.
    fn end_exchange(&self) -> Option<Challenges> {
        let begun = self.lock().take()?;
        let is_in_time = begun.begun_at.elapsed() <= EXCHANGE_TIMEOUT;
        is_in_time.then_some(begun.challenges)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.handshake
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvenRequest {
    /// Returns the request of `peer`, if its headers prove it. The exchange of the connection
    /// ends with any request.
    pub(super) fn of(
        peer: &ControlPeer,
        cookie: Option<&OwnerCookie>,
        request: &Request,
    ) -> Option<Self> {
        let challenges = peer.end_exchange()?;
        let key = cookie?.key();
        let path = request.uri().path_and_query()?.as_str();
        let statement = Statement::Request {
            method: request.method(),
            path,
        };
        let body = key.verify(&statement, &challenges, request.headers())?;
        Some(Self {
            key: key.clone(),
            challenges,
            method: request.method().clone(),
            path: path.to_owned(),
            body,
        })
    }

    /// Returns whether the body that has arrived is the proven one.
    pub(super) fn has_body(&self, body: &[u8]) -> bool {
        self.body == BodyDigest::of(body)
    }

    /// Adds the daemon's proof to the response.
    pub(super) async fn sign(&self, response: Response) -> Response {
        let (mut parts, mut body) = response.into_parts();
        let digest = match parts.extensions.remove::<KnownDigest>() {
            Some(KnownDigest(digest)) => digest,
            None => {
                let content = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                let digest = BodyDigest::of(&content);
                body = Body::from(content);
                digest
            }
        };
        let statement = Statement::Response {
            method: &self.method,
            path: &self.path,
            status: parts.status,
        };
        let proof = self.key.prove(&statement, &self.challenges, &digest);
        add_proof(&mut parts.headers, &proof);
        Response::from_parts(parts, body)
    }
}

/// Returns the proof of a handshake's response with this body.
pub(super) fn prove_handshake(
    cookie: &OwnerCookie,
    path: &str,
    challenges: &Challenges,
    body: &[u8],
) -> String {
    let statement = Statement::Response {
        method: &Method::GET,
        path,
        status: StatusCode::OK,
    };
    let digest = BodyDigest::of(body);
    cookie.key().prove(&statement, challenges, &digest)
}

/// Adds a proof, which is always a valid header.
pub(super) fn add_proof(headers: &mut HeaderMap, proof: &str) {
    if let Ok(value) = HeaderValue::from_str(proof) {
        headers.insert(PROOF_HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    /// A process that passes requests on keeps none for later.
    #[tokio::test(start_paused = true)]
    async fn exchange_ends_in_time_and_with_one_request() {
        let peer = ControlPeer::new(PeerCredentials(Some((0, 0))));
        let mut headers = HeaderMap::new();
        let challenge = Challenge::draw(&SystemEntropy::new()).unwrap();
        headers.insert(CHALLENGE_HEADER, challenge.as_str().parse().unwrap());
        let begin = || {
            let begun = peer.begin_exchange(&headers, &SystemEntropy::new());
            begun.unwrap().unwrap()
        };
        let challenges = begin();
        tokio::time::advance(EXCHANGE_TIMEOUT).await;
        assert_eq!(peer.end_exchange(), Some(challenges));
        assert_eq!(peer.end_exchange(), None, "it is over");
        begin();
        tokio::time::advance(EXCHANGE_TIMEOUT + EXCHANGE_TIMEOUT / 10).await;
        assert_eq!(peer.end_exchange(), None, "too late");
    }
}
