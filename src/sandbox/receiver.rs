//! A webhook receiver on loopback, for the demo and the tests.
//!
//! It does what a receiver should: it verifies the Standard Webhooks signature,
//! answers repeats of a `webhook-id` with a 2xx, and [`Receiver::applied`]
//! ignores all but the greatest sequence. It is not for production: it keeps
//! the secrets as plain data, and without a clock it cannot reject old
//! timestamps.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::sync::watch;

use crate::core::os_error;
use crate::core::secret::Secret;
use crate::net::http_server::{self, ConnectionLimits};
use crate::net::signature::{SigningKeyError, SigningKeys};

/// The limit of connections, more than a test or a demo opens.
const MAX_CONNECTIONS: usize = 1024;

/// The error of a receiver that does not start.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The signing secret does not parse.
    #[error("cannot start the webhook receiver: {source}")]
    SigningSecret {
        /// The error of the parser.
        source: SigningKeyError,
    },
    /// No port is free.
    #[error(
        "cannot start the webhook receiver on loopback: {}",
        os_error::describe(source)
    )]
    Listen {
        /// The error of the system.
        source: io::Error,
    },
}

/// A running receiver, which stops on drop.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<ReceiverShared>,
    /// Stops the server when it is dropped.
    _shutdown: watch::Sender<bool>,
}

/// The receiver's responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverMode {
    /// Accepts valid webhooks with 200.
    Accept,
    /// Rejects all webhooks with this status.
    RejectWithStatus(u16),
    /// Accepts valid webhooks and still answers this status, like a proxy that
    /// answers 504 for a slow receiver.
    AcceptWithStatus(u16),
    /// Accepts valid webhooks and closes the connection without an answer.
    AcceptAndClose,
    /// Rejects all webhooks by closing the connection without an answer.
    Close,
}

/// Records each webhook before it is accepted. While it fails, the receiver
/// answers 500. The receiver logs any error, so that each recorder may have a
/// type of its own.
pub type Recorder =
    Box<dyn Fn(&ReceivedWebhook) -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync>;

/// A webhook with a valid signature that is no repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedWebhook {
    /// The path that it was posted to.
    pub path: String,
    /// Its `webhook-id`.
    pub id: String,
    /// The key.
    pub key: String,
    /// The rotation's number in the key.
    pub sequence: u64,
    /// The secret.
    pub value: String,
    /// The whole body.
    pub body: Vec<u8>,
}

struct ReceiverShared {
    keys: SigningKeys,
    recorder: Recorder,
    state: Mutex<ReceiverState>,
}

#[derive(Debug)]
struct ReceiverState {
    mode: ReceiverMode,
    seen_ids: BTreeSet<String>,
    received: Vec<ReceivedWebhook>,
    requests: u64,
    rejected: u64,
}

impl Receiver {
    /// Starts a receiver on a free port of loopback, on the current runtime.
    /// `signing_secret` holds one or two lines `whsec_<base64>`.
    ///
    /// # Errors
    /// If the signing secret does not parse, or no port is free.
    pub async fn start(signing_secret: &Secret) -> Result<Self, ReceiverError> {
        Self::start_with(signing_secret, Box::new(|_| Ok(()))).await
    }

    /// Starts a receiver as [`Receiver::start`] does, with a recorder.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub async fn start_with(
        signing_secret: &Secret,
        recorder: Recorder,
    ) -> Result<Self, ReceiverError> {
        let keys = SigningKeys::parse(signing_secret.expose())
            .map_err(|source| ReceiverError::SigningSecret { source })?;
        let shared = Arc::new(ReceiverShared {
            keys,
            recorder,
            state: Mutex::new(ReceiverState {
                mode: ReceiverMode::Accept,
                seen_ids: BTreeSet::new(),
                received: Vec::new(),
                requests: 0,
                rejected: 0,
            }),
        });
        let start_error = |source| ReceiverError::Listen { source };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(start_error)?;
        let address = listener.local_addr().map_err(start_error)?;
        let router = Router::new()
            .route("/", post(receive))
            .route("/{*path}", post(receive))
            .with_state(Arc::clone(&shared));
        let (shutdown, stopped) = watch::channel(false);
        tokio::spawn(http_server::serve(
            listener,
            ConnectionLimits::new(MAX_CONNECTIONS),
            router,
            (),
            stopped,
        ));
        Ok(Self {
            address,
            shared,
            _shutdown: shutdown,
        })
    }

    /// Returns the URL for webhooks. The receiver also accepts paths below it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns the accepted webhooks in the order of their arrival.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedWebhook> {
        self.shared.lock().received.clone()
    }

    /// Returns the webhook whose secret a consumer behind this receiver would
    /// use for `key`: the one with the greatest sequence.
    #[must_use]
    pub fn applied(&self, key: &str) -> Option<ReceivedWebhook> {
        let state = self.shared.lock();
        let key_webhooks = state.received.iter().filter(|webhook| webhook.key == key);
        key_webhooks.max_by_key(|webhook| webhook.sequence).cloned()
    }

    /// Returns the number of requests, with repeats and rejected ones.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.lock().requests
    }

    /// Returns the number of requests with an invalid signature or body.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.shared.lock().rejected
    }

    /// Sets the mode of its responses.
    pub fn set_mode(&self, mode: ReceiverMode) {
        self.shared.lock().mode = mode;
    }
}

impl std::fmt::Debug for ReceiverShared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Shared(…)")
    }
}

impl ReceiverShared {
    fn lock(&self) -> std::sync::MutexGuard<'_, ReceiverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the `webhook-id` of a request with a valid signature.
    fn verified_id(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let header_text = |name| headers.get(name)?.to_str().ok();
        let id = header_text("webhook-id")?;
        let timestamp = header_text("webhook-timestamp")?;
        let signature = header_text("webhook-signature")?;
        let is_valid = self.keys.verify(id, timestamp, body, signature);
        is_valid.then(|| id.to_owned())
    }
}

async fn receive(
    State(shared): State<Arc<ReceiverShared>>,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = shared.lock();
    state.requests += 1;
    let mode = state.mode;
    match mode {
        ReceiverMode::RejectWithStatus(status) => {
            return (status_code(status), "as configured\n").into_response();
        }
        ReceiverMode::Close => return http_server::hang_up(),
        ReceiverMode::Accept | ReceiverMode::AcceptWithStatus(_) | ReceiverMode::AcceptAndClose => {
        }
    }
    let Some(id) = shared.verified_id(&headers, &body) else {
        state.rejected += 1;
        return (StatusCode::UNAUTHORIZED, "invalid signature\n").into_response();
    };
    let Some(received) = parse_event(target.path(), &id, &body) else {
        state.rejected += 1;
        return (StatusCode::BAD_REQUEST, "not a key.rotated event\n").into_response();
    };
    if !state.seen_ids.contains(&id) {
        if let Err(problem) = (shared.recorder)(&received) {
            tracing::error!("cannot record a webhook: {problem}");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return (status, "not recorded\n").into_response();
        }
        state.seen_ids.insert(id);
        state.received.push(received);
    }
    match mode {
        ReceiverMode::Accept => (StatusCode::OK, "accepted\n").into_response(),
        ReceiverMode::AcceptWithStatus(status) | ReceiverMode::RejectWithStatus(status) => (
            status_code(status),
            "accepted, with the configured status\n",
        )
            .into_response(),
        ReceiverMode::AcceptAndClose | ReceiverMode::Close => http_server::hang_up(),
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn parse_event(path: &str, id: &str, body: &[u8]) -> Option<ReceivedWebhook> {
    let event: serde_json::Value = serde_json::from_slice(body).ok()?;
    if event.get("type")?.as_str()? != "key.rotated" {
        return None;
    }
    let data = event.get("data")?;
    Some(ReceivedWebhook {
        path: path.to_owned(),
        id: id.to_owned(),
        key: data.get("key")?.as_str()?.to_owned(),
        sequence: data.get("sequence")?.as_u64()?,
        value: data.get("value")?.as_str()?.to_owned(),
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const SIGNING_SECRET: &str = "whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXRlc3Rz";

    /// Posts a valid webhook. Returns the status of the response.
    async fn post_status(receiver: &Receiver, path: &'static str) -> StatusCode {
        let body = br#"{"type":"key.rotated","data":{"key":"k","sequence":1,"value":"v"}}"#;
        let keys = SigningKeys::parse(SIGNING_SECRET).unwrap();
        let signature = keys.sign("msg_1", 1, body);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1"),
            ("webhook-signature", &signature),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let shared = State(Arc::clone(&receiver.shared));
        let body = Bytes::from_static(body);
        receive(shared, Uri::from_static(path), headers, body)
            .await
            .status()
    }

    #[tokio::test]
    async fn webhook_is_rejected_until_recorded() {
        let is_failing = Arc::new(AtomicBool::new(true));
        let recorder_is_failing = Arc::clone(&is_failing);
        let recorder: Recorder = Box::new(move |received| {
            assert_eq!(received.path, "/key/sink");
            match recorder_is_failing.load(Ordering::SeqCst) {
                true => Err("the disk is full".into()),
                false => Ok(()),
            }
        });
        let signing = Secret::new(SIGNING_SECRET.to_owned());
        let receiver = Receiver::start_with(&signing, recorder).await.unwrap();
        let rejected_status = post_status(&receiver, "/key/sink").await;
        assert_eq!(rejected_status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(receiver.received().is_empty());
        is_failing.store(false, Ordering::SeqCst);
        for _ in 0..2 {
            assert_eq!(post_status(&receiver, "/key/sink").await, StatusCode::OK);
        }
        assert_eq!(receiver.received().len(), 1);
    }
}
