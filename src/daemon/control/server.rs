//! The control socket: HTTP with JSON on a Unix socket, which also works with
//! `curl --unix-socket`.
//!
//! The mode of the socket lets its owner and its group connect, and look. What
//! else a user may do depends on the user, whom the system identifies, and on
//! the groups in `[control]` (`authorization.rs`). The daemon's own user gets nothing
//! without a proof that it knows the cookie (`proof.rs`). No route returns a secret, and
//! only `/use-credential` accepts one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{self, Body};
use axum::extract::{ConnectInfo, Extension, Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use prometheus::IntCounter;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::config::settings::ConfigText;
use crate::core::authority::Authority;
use crate::core::duration;
use crate::daemon::control::authorization::{
    BelongsTo, ControlGroups, CookieProof, PeerCredentials, VerifiedPeer, authorize, own_user,
};
use crate::daemon::control::cookie::OwnerCookie;
use crate::daemon::control::known_operators::KnownOperators;
use crate::daemon::control::ledger_readers::{CopyBody, LedgerReaders};
use crate::daemon::control::memberships::Memberships;
use crate::daemon::control::proof::{BodyDigest, EXCHANGE_TIMEOUT, HANDSHAKE_PATH, PROOF_HEADER};
use crate::daemon::control::protocol::{
    ControlRequest, DaemonInfo, ErrorBody, Introduction, ServerProcess, SocketIdentity, Wait,
};
use crate::daemon::control::proven_request::{
    ControlPeer, KnownDigest, ProvenRequest, add_proof, prove_handshake,
};
use crate::daemon::control::refusals::Refusals;
use crate::daemon::control::request_text::request_text;
use crate::daemon::control::tracker::IncomingRequest;
use crate::daemon::probes::Probes;
use crate::daemon::socket_file::{self, BoundSocket, SocketListenError, SocketPlace};
use crate::ledger::{Ledger, LedgerCopy};
use crate::net::http_server::{
    self, ConnectionLimits, Peers, PlaceShare, RequestDeadline, RequestPlace, UserPlaces, UserPool,
};
use crate::platform::entropy::SystemEntropy;
use crate::platform::pid_namespace::NamespacedProcess;
use crate::platform::users::{describe_author, describe_user};
use crate::platform::{descriptor_limit, file_access};

/// The largest body of a request, in bytes: a rotation of more than a thousand keys.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The limit of connections: more than the commands that wait for a daemon at
/// one time, and few compared with the file descriptors of a process.
const MAX_CONNECTIONS: usize = 192;

/// The parts into which the connections are divided. One user has one; operators together have
/// two, and so have all other users. One is the share of the daemon's own user, and one is kept
/// for root and for requests with a proof.
const PARTS: usize = 6;

/// The part of the file descriptors of the process that connections may have. Rotations
/// need the others.
const DESCRIPTOR_SHARE: usize = 4;

/// How long a copy of the ledger may take.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may read one answer: the largest copy of a ledger, on a busy host.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The time for which peers can read their responses when rekeyd stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The server of the control socket, which stops on drop.
pub(crate) struct ControlServer {
    socket: BoundSocket,
    state: Arc<ControlState>,
    shutdown: watch::Sender<bool>,
    server_task: Option<JoinHandle<()>>,
}

/// The state that the handlers share.
struct ControlState {
    requests: mpsc::UnboundedSender<IncomingRequest>,
    /// The groups, and the response of `GET /daemon`.
    config: Mutex<ControlConfig>,
    /// None if it could not be written yet.
    cookie: Mutex<Option<Arc<OwnerCookie>>>,
    ledger: Ledger,
    probes: Arc<Probes>,
    refusals: Arc<Refusals>,
    memberships: Memberships,
    operators: KnownOperators,
    /// Those who may only look.
    readers: Arc<LedgerReaders>,
    /// All others, whom those do not keep waiting.
    trusted_readers: Arc<LedgerReaders>,
    socket: SocketIdentity,
    process: ServerProcess,
}

/// The settings of the server that the configuration determines.
#[derive(Debug, Clone)]
pub(crate) struct ControlConfig {
    pub(crate) groups: ControlGroups,
    pub(crate) info: DaemonInfo,
    /// The text of the configuration.
    pub(crate) text: ConfigText,
}

/// What changes in the response of `GET /daemon` without a reload.
pub(crate) struct DaemonProgress {
    /// The most important problem that affects all keys.
    pub(crate) problem: Option<String>,
    pub(crate) ledger_damage: Option<String>,
    /// The address at which the metrics are served.
    pub(crate) metrics: Option<String>,
    /// What callers wait for.
    pub(crate) waits: Vec<Wait>,
}

/// The users at the socket.
struct ControlPeers(Arc<ControlState>);

impl Peers<UnixStream> for ControlPeers {
    type Peer = ControlPeer;

    fn describe(&self, stream: &UnixStream) -> ControlPeer {
        let peer = stream.peer_cred().ok();
        ControlPeer::new(PeerCredentials(peer.map(|peer| (peer.uid(), peer.gid()))))
    }

    /// Root takes every place: nobody keeps it from a command. A process of the daemon's own
    /// user may be a program that the daemon runs, and does so only with a proof.
    fn share(&self, peer: &ControlPeer) -> PlaceShare {
        let Some((user, group)) = peer.credentials.0 else {
            return PlaceShare::User(UserPool::Others, None);
        };
        let pool = if user == own_user() {
            UserPool::Own
        } else if user == 0 {
            return PlaceShare::Every;
        } else if self.is_operator(user, group) {
            UserPool::Trusted
        } else {
            UserPool::Others
        };
        PlaceShare::User(pool, Some(user))
    }

    fn note_refused(&self, peer: &ControlPeer) {
        let user = peer.credentials.user();
        self.0.refusals.note(user, || {
            let user = user.map_or_else(|| "an unknown user".to_owned(), describe_user);
            format!("refused a connection on the control socket: {user} has too many")
        });
    }
}

impl ControlPeers {
    fn is_operator(&self, user: u32, group: u32) -> bool {
        let config = self.0.lock_config();
        self.0.operators.has(user, group, &config.groups)
    }
}

/// Returns the limits of connections.
fn connection_limits() -> ConnectionLimits {
    let most = MAX_CONNECTIONS.min(descriptor_limit::present() / DESCRIPTOR_SHARE);
    let part = most / PARTS;
    let places = UserPlaces {
        each: part,
        together: part * 2,
        own_queue: part * 4,
    };
    ConnectionLimits::new(most)
        .with_users(places)
        .with_answer_timeout(ANSWER_TIMEOUT)
}

/// Whether the permissions of a file and of its folders let a peer read it.
fn may_read(peer: PeerCredentials, file: &Path) -> bool {
    let Some((user, group)) = peer.0 else {
        return false;
    };
    user == 0 || user == own_user() || file_access::may_read(user, group, file)
}

impl ControlServer {
    /// Listens on `place`, sends requests to `requests`, and counts those that it `refused`.
    ///
    /// # Errors
    /// If the socket cannot be created, or another process listens on it.
    pub(crate) async fn listen(
        place: &SocketPlace,
        requests: mpsc::UnboundedSender<IncomingRequest>,
        ledger: Ledger,
        probes: Arc<Probes>,
        config: ControlConfig,
        refused: Option<IntCounter>,
    ) -> Result<Self, SocketListenError> {
        let (listener, socket) = socket_file::listen(place).await?;
        let (device, inode) = socket.identity();
        let NamespacedProcess {
            process: id,
            namespace,
        } = NamespacedProcess::own();
        let state = Arc::new(ControlState {
            requests,
            config: Mutex::new(config),
            cookie: Mutex::default(),
            ledger,
            probes,
            refusals: Refusals::new(refused),
            memberships: Memberships::default(),
            operators: KnownOperators::default(),
            readers: Arc::default(),
            trusted_readers: Arc::default(),
            socket: SocketIdentity { device, inode },
            process: ServerProcess { id, namespace },
        });
        let (shutdown, stopped) = watch::channel(false);
        let server_run = http_server::serve(
            listener,
            connection_limits(),
            routes(Arc::clone(&state)),
            ControlPeers(Arc::clone(&state)),
            stopped,
        );
        Ok(Self {
            socket,
            state,
            shutdown,
            server_task: Some(tokio::spawn(server_run)),
        })
    }

    /// Stops, once the responses are sent or [`SHUTDOWN_GRACE`] is over.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.shutdown.send(true);
        if let Some(server_task) = self.server_task.take() {
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, server_task).await;
        }
    }

    /// Returns its socket.
    pub(crate) const fn socket(&self) -> &BoundSocket {
        &self.socket
    }

    /// Replaces the configuration.
    pub(crate) fn set_config(&self, config: ControlConfig) {
        *self.state.lock_config() = config;
    }

    /// Sets the cookie of the ledger's owner.
    pub(crate) fn set_cookie(&self, cookie: Option<Arc<OwnerCookie>>) {
        *self.state.lock_cookie() = cookie;
    }

    /// Sets what `GET /daemon` reports of the daemon's progress.
    pub(crate) fn set_progress(&self, progress: DaemonProgress) {
        let mut config = self.state.lock_config();
        config.info.problem = progress.problem;
        config.info.ledger_damage = progress.ledger_damage;
        config.info.metrics = progress.metrics;
        config.info.waits = progress.waits;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
    }
}

impl ControlState {
    fn lock_config(&self) -> std::sync::MutexGuard<'_, ControlConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_cookie(&self) -> std::sync::MutexGuard<'_, Option<Arc<OwnerCookie>>> {
        self.cookie.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the peer as the author of a request that needs `needed`, and that may be
    /// `proven`. A refusal is counted, and logged.
    async fn authorize(
        &self,
        peer: &ControlPeer,
        proven: Option<&ProvenRequest>,
        needed: Authority,
        command: &str,
    ) -> Result<VerifiedPeer, Box<Response>> {
        let groups = self.lock_config().groups.clone();
        let cookie = self.lock_cookie().clone();
        let proof = CookieProof {
            path: cookie.map(|cookie| cookie.path().to_owned()),
            is_given: proven.is_some(),
        };
        let peer = peer.credentials;
        let belongs = self.belongs_to(peer, &groups).await;
        if let Some((user, _)) = peer.member() {
            self.operators.remember(user, belongs.admins);
        }
        authorize(peer, &groups, belongs, &proof, needed, command).map_err(|reason| {
            self.refusals.note(peer.user(), || {
                format!("refused {command} on the control socket: {reason}")
            });
            Box::new(error_response(StatusCode::FORBIDDEN, reason))
        })
    }
}

impl ControlState {
    /// Returns to which of the groups a peer belongs, if its rights depend on that.
    async fn belongs_to(&self, peer: PeerCredentials, groups: &ControlGroups) -> BelongsTo {
        let Some((user, group)) = peer.member() else {
            return BelongsTo::default();
        };
        let known = &self.memberships;
        let super_admins = known.is_member(user, group, &groups.super_admins).await;
        BelongsTo {
            admins: super_admins || known.is_member(user, group, &groups.admins).await,
            super_admins,
        }
    }
}

/// A copy of the ledger that others may be reading, too.
struct SharedCopy(Arc<LedgerCopy>);

impl AsRef<[u8]> for SharedCopy {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// What a handler knows of the sender of a request.
type Proof = Option<Extension<ProvenRequest>>;

fn routes(state: Arc<ControlState>) -> Router {
    Router::new()
        .route("/daemon", get(daemon_info))
        .route("/configuration", get(configuration_text))
        .route("/live", get(liveness))
        .route("/ready", get(readiness))
        .route("/ledger", get(ledger_copy))
        .route("/{verb}", post(handle_request))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), prove))
        .route("/handshake", get(handshake))
        .with_state(state)
}

/// Answers the challenge of a command, and challenges it.
async fn handshake(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    place: Option<Extension<RequestPlace>>,
    headers: HeaderMap,
) -> Response {
    if let Some(Extension(place)) = place {
        place.expect_another();
    }
    let challenges = match peer.begin_exchange(&headers, &SystemEntropy::new()) {
        Ok(challenges) => challenges,
        Err(error) => return error_response(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    let challenge = challenges.as_ref().map(|challenges| &challenges.of_daemon);
    let introduction = Introduction {
        ledger: state.lock_config().info.ledger.clone(),
        challenge: challenge.map(|challenge| challenge.as_str().to_owned()),
        socket: state.socket,
        process: state.process,
    };
    let body = match serde_json::to_vec(&introduction) {
        Ok(body) => body,
        Err(error) => {
            return error_response(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        }
    };
    let cookie = state.lock_cookie().clone();
    let proof = challenges
        .zip(cookie)
        .map(|(challenges, cookie)| prove_handshake(&cookie, HANDSHAKE_PATH, &challenges, &body));
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(proof) = proof {
        add_proof(response.headers_mut(), &proof);
    }
    response
}

/// Marks a proven request for its handler, and proves the response to it.
async fn prove(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    mut request: Request,
    next: Next,
) -> Response {
    let cookie = state.lock_cookie().clone();
    let Some(proven) = ProvenRequest::of(&peer, cookie.as_deref(), &request) else {
        let is_own_user = peer.credentials.user() == Some(own_user());
        if !is_own_user && request.headers().contains_key(PROOF_HEADER) {
            // Its sender expects a proven answer, and must not take it for refused when it was
            // carried out.
            return error_response(StatusCode::FORBIDDEN, refused_proof());
        }
        return next.run(request).await;
    };
    if let Some(place) = request.extensions().get::<RequestPlace>() {
        place.take_from_every();
    }
    request.extensions_mut().insert(proven.clone());
    let response = next.run(request).await;
    proven.sign(response).await
}

fn refused_proof() -> String {
    format!(
        "the proof does not fit the request, or came later than {} after the handshake; hint: \
         repeat the command",
        duration::to_text(EXCHANGE_TIMEOUT)
    )
}

async fn not_found() -> Response {
    error_response(
        StatusCode::NOT_FOUND,
        "no such route; the routes are GET /daemon, /live, /ready, /configuration and /ledger, and \
         POST /rotate, /revoke, /hold, /release, /adopt, /adopt-from-sinks, /pause, /resume, \
         /retire, /prune, /log-level, /channel-tested, /use-credential and /reload"
            .to_owned(),
    )
}

/// Returns what the daemon is, and what is wrong with it. Its own user needs no proof: where
/// the ledger's folder is gone, with the cookie, a command still learns why.
async fn daemon_info(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    proof: Proof,
) -> Response {
    if let Err(refusal) = authorize_look(&state, &peer, &proof).await {
        return *refusal;
    }
    let info = state.lock_config().info.clone();
    Json(info).into_response()
}

/// Lets every user look who may connect, and the daemon's own without a proof.
async fn authorize_look(
    state: &ControlState,
    peer: &ControlPeer,
    proof: &Proof,
) -> Result<(), Box<Response>> {
    if peer.credentials.user() == Some(own_user()) {
        return Ok(());
    }
    let author = state.authorize(peer, of(proof), Authority::Observe, "status");
    author.await.map(drop)
}

/// Returns whether the main loop is alive. A container's own probe has its user, and no
/// proof.
async fn liveness(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    proof: Proof,
) -> Response {
    match authorize_look(&state, &peer, &proof).await {
        Ok(()) => answer_probe("live", state.probes.check_live()),
        Err(refusal) => *refusal,
    }
}

/// Returns whether no condition keeps keys from rotating.
async fn readiness(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    proof: Proof,
) -> Response {
    match authorize_look(&state, &peer, &proof).await {
        Ok(()) => answer_probe("ready", state.probes.check_ready()),
        Err(refusal) => *refusal,
    }
}

fn answer_probe(name: &str, outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => Json(serde_json::json!({ name: true })).into_response(),
        Err(problem) => error_response(StatusCode::SERVICE_UNAVAILABLE, problem),
    }
}

/// Returns the text of the configuration in force to a user who may read its file.
async fn configuration_text(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    proof: Proof,
) -> Response {
    let author = state.authorize(&peer, of(&proof), Authority::Observe, "status");
    if let Err(refusal) = author.await {
        return *refusal;
    }
    let (file, text) = {
        let config = state.lock_config();
        let file = PathBuf::from(&config.info.configuration.file);
        (file, Arc::clone(&config.text.0))
    };
    if may_read(peer.credentials, &file) {
        return text.to_string().into_response();
    }
    let reason = format!("you have no permission to read {}", file.display());
    error_response(StatusCode::FORBIDDEN, reason)
}

/// Returns a copy of the ledger, which has no secret, to every user who may look.
async fn ledger_copy(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    proof: Proof,
) -> Response {
    let author = state.authorize(&peer, of(&proof), Authority::Observe, "history");
    let author = match author.await {
        Ok(author) => author,
        Err(refusal) => return *refusal,
    };
    let readers = match author.authority {
        Authority::Observe => &state.readers,
        Authority::Operate | Authority::Destroy | Authority::Full => &state.trusted_readers,
    };
    let copying = async {
        let place = readers.admit(peer.credentials.user()).await?;
        Some((place, state.ledger.copy().await))
    };
    let refuse = |reason| error_response(StatusCode::SERVICE_UNAVAILABLE, reason);
    let (place, content) = match tokio::time::timeout(COPY_TIMEOUT, copying).await {
        Ok(Some((place, Ok(copy)))) => (place, body::Bytes::from_owner(SharedCopy(copy))),
        Ok(Some((_, Err(error)))) => return refuse(error.to_string()),
        Ok(None) | Err(_) => {
            let reason = "the ledger did not respond in time, or others read it; hint: repeat the \
                          command";
            return refuse(reason.to_owned());
        }
    };
    let digest = match of(&proof) {
        Some(_) => digest_of(content.clone()).await,
        None => None,
    };
    let mut response = Response::new(Body::new(CopyBody::new(content, place)));
    if let Some(digest) = digest {
        response.extensions_mut().insert(KnownDigest(digest));
    }
    response
}

fn of(proof: &Proof) -> Option<&ProvenRequest> {
    proof.as_ref().map(|Extension(proven)| proven)
}

/// Returns the digest of a copy of the ledger, which may be large.
async fn digest_of(content: body::Bytes) -> Option<BodyDigest> {
    let digest = tokio::task::spawn_blocking(move || BodyDigest::of(&content));
    digest.await.ok()
}

async fn handle_request(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<ControlPeer>,
    Extension(deadline): Extension<RequestDeadline>,
    proof: Proof,
    UrlPath(verb): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (needed, command) = ControlRequest::least_authority(&verb);
    // Before a byte of the body is read.
    if let Err(refusal) = state.authorize(&peer, of(&proof), needed, command).await {
        return *refusal;
    }
    let body = match read_body(&headers, body, deadline).await {
        Ok(body) => body,
        Err((status, reason)) => return error_response(status, reason.to_owned()),
    };
    if of(&proof).is_some_and(|proven| !proven.has_body(&body)) {
        let reason = "the body is not the one that its sender has proven".to_owned();
        return error_response(StatusCode::BAD_REQUEST, reason);
    }
    let request = match ControlRequest::parse(&verb, &body) {
        Ok(request) => request,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let (needed, command) = (request.authority(), request.command());
    let author = state.authorize(&peer, of(&proof), needed, command).await;
    let author = match author {
        Ok(author) => author,
        Err(refusal) => return *refusal,
    };
    tracing::info!(
        by = author.name,
        verb = request.verb(),
        "{} requested: {}",
        describe_author(&author.name),
        request_text(&request)
    );
    let (reply, response) = oneshot::channel();
    let incoming = IncomingRequest {
        request,
        author,
        reply,
    };
    let stopping_response = || {
        let reason = "rekeyd is stopping; hint: repeat the command when it runs again".to_owned();
        error_response(StatusCode::SERVICE_UNAVAILABLE, reason)
    };
    if state.requests.send(incoming).is_err() {
        return stopping_response();
    }
    match response.await {
        Ok(response) => Json(response).into_response(),
        Err(_) => stopping_response(),
    }
}

/// Reads the whole body of a request, within its deadline.
async fn read_body(
    headers: &HeaderMap,
    body: Body,
    RequestDeadline(deadline): RequestDeadline,
) -> Result<body::Bytes, (StatusCode, &'static str)> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is longer than 64 KiB; hint: name fewer keys at a time, or use --all",
        ));
    }
    let bytes = body::to_bytes(body, MAX_BODY_BYTES);
    match timeout_at(deadline, bytes).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too long or incomplete",
        )),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the request did not arrive in time",
        )),
    }
}

fn error_response(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::time::Instant;

    use super::*;

    /// A body that never ends.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = body::Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<body::Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_has_to_be_short_and_in_time() {
        let read = async |body, length: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(length) = length {
                headers.insert(header::CONTENT_LENGTH, length.parse().unwrap());
            }
            let deadline = RequestDeadline(Instant::now() + Duration::from_secs(10));
            let read = read_body(&headers, body, deadline).await;
            read.map(|body| body.len()).map_err(|(status, _)| status)
        };
        let text = |length| Body::from("x".repeat(length));
        for (body, length, expected) in [
            (text(MAX_BODY_BYTES), Some("65536"), Ok(MAX_BODY_BYTES)),
            (text(MAX_BODY_BYTES), None, Ok(MAX_BODY_BYTES)),
            (
                text(MAX_BODY_BYTES + 1),
                None,
                Err(StatusCode::PAYLOAD_TOO_LARGE),
            ),
            (
                Body::new(Endless),
                Some("65537"),
                Err(StatusCode::PAYLOAD_TOO_LARGE),
            ),
            (
                Body::new(Endless),
                Some("10"),
                Err(StatusCode::REQUEST_TIMEOUT),
            ),
        ] {
            assert_eq!(read(body, length).await, expected, "{length:?}");
        }
    }
}
