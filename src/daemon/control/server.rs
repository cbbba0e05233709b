//! The control socket: HTTP with JSON on a Unix socket, which also works with
//! `curl --unix-socket`.
//!
//! The mode of the socket lets its owner and its group connect, and read. Only
//! root, the user that rekeyd runs as, and members of the groups in `[control]
//! admins` may change anything; the system identifies the peer. No route
//! returns or accepts a secret.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{self, Body};
use axum::extract::{ConnectInfo, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::settings::ConfigText;
use crate::core::first_few::join_few;
use crate::core::redact;
use crate::daemon::control::protocol::{ControlRequest, DaemonInfo, ErrorBody, Wait};
use crate::daemon::control::socket_file::{
    ControlListenError, SocketOwner, remove_stale_socket, socket_identity,
};
use crate::daemon::control::tracker::IncomingRequest;
use crate::ledger::Ledger;
use crate::net::http_server::{self, ConnectionLimits};
use crate::platform::file_access;
use crate::platform::users::{self, describe_author, describe_user};

/// The mode of the socket: its owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// The largest body of a request, in bytes: a rotation of as many keys as a
/// command line can name.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// The time limit of a body whose request head is complete.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The limit of connections: more than the commands that wait for a daemon at
/// one time, and few compared with the file descriptors of a process.
const MAX_CONNECTIONS: usize = 128;

/// How long a copy of the ledger may take.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for which peers can read their responses when rekeyd stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The server of the control socket, which stops on drop.
pub(crate) struct ControlServer {
    path: PathBuf,
    /// The device and inode of the socket.
    identity: (u64, u64),
    state: Arc<ControlState>,
    shutdown: watch::Sender<bool>,
    server_task: Option<JoinHandle<()>>,
}

/// The state that the handlers share.
struct ControlState {
    requests: mpsc::UnboundedSender<IncomingRequest>,
    /// The groups that may change anything, and the response of `GET /daemon`.
    config: Mutex<ControlConfig>,
    ledger: Ledger,
    /// Held while the ledger is copied.
    copying: tokio::sync::Mutex<()>,
}

/// The settings of the server that the configuration determines.
#[derive(Debug, Clone)]
pub(crate) struct ControlConfig {
    pub(crate) admins: Vec<String>,
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

/// The user and group of the peer, if the system knows them.
#[derive(Debug, Clone, Copy)]
struct PeerCredentials(Option<(u32, u32)>);

impl PeerCredentials {
    fn from_stream(stream: &UnixStream) -> Self {
        let peer = stream.peer_cred().ok();
        Self(peer.map(|peer| (peer.uid(), peer.gid())))
    }

    /// Whether the permissions of a file and of its folders let this peer read it.
    fn may_read(self, file: &Path) -> bool {
        let Some((user, group)) = self.0 else {
            return false;
        };
        let own_user = rustix::process::geteuid().as_raw();
        user == 0 || user == own_user || file_access::may_read(user, group, file)
    }
}

impl ControlServer {
    /// Listens on `path`, and sends requests to `requests`.
    ///
    /// # Errors
    /// If the socket cannot be created, or another process listens on it.
    pub(crate) async fn listen(
        path: &Path,
        requests: mpsc::UnboundedSender<IncomingRequest>,
        ledger: Ledger,
        config: ControlConfig,
    ) -> Result<Self, ControlListenError> {
        remove_stale_socket(path).await?;
        let listener = UnixListener::bind(path).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == ErrorKind::NotFound {
                ControlListenError::FolderNotFound { path }
            } else {
                ControlListenError::Io { path, source }
            }
        })?;
        let permissions = std::fs::Permissions::from_mode(SOCKET_MODE);
        let identity = std::fs::set_permissions(path, permissions)
            .and_then(|()| socket_identity(path))
            .map_err(|source| ControlListenError::Io {
                path: path.to_owned(),
                source,
            })?;
        let state = Arc::new(ControlState {
            requests,
            config: Mutex::new(config),
            ledger,
            copying: tokio::sync::Mutex::default(),
        });
        let (shutdown, stopped) = watch::channel(false);
        let server_run = http_server::serve(
            listener,
            ConnectionLimits::new(MAX_CONNECTIONS),
            routes(Arc::clone(&state)),
            PeerCredentials::from_stream,
            stopped,
        );
        Ok(Self {
            path: path.to_owned(),
            identity,
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

    /// Returns the path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whose socket is at the path. A socket that cannot be checked counts as this
    /// server's.
    pub(crate) fn owner(&self) -> SocketOwner {
        match socket_identity(&self.path) {
            Ok(found) if found == self.identity => SocketOwner::ThisServer,
            Ok(_) => SocketOwner::Other,
            Err(error) if error.kind() == ErrorKind::NotFound => SocketOwner::Absent,
            Err(_) => SocketOwner::ThisServer,
        }
    }

    /// Replaces the configuration.
    pub(crate) fn set_config(&self, config: ControlConfig) {
        *self.state.lock_config() = config;
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
        // Later commands must find that no daemon listens. Another rekeyd's socket stays.
        if socket_identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl ControlState {
    fn lock_config(&self) -> std::sync::MutexGuard<'_, ControlConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn routes(state: Arc<ControlState>) -> Router {
    Router::new()
        .route("/daemon", get(daemon_info))
        .route("/configuration", get(configuration_text))
        .route("/ledger", get(ledger_copy))
        .route("/{verb}", post(handle_request))
        .fallback(not_found)
        .with_state(state)
}

async fn not_found() -> Response {
    error_response(
        StatusCode::NOT_FOUND,
        "no such route; the routes are GET /daemon, /configuration and /ledger, and POST /rotate, \
         /revoke, /hold, /release, /adopt, /adopt-from-sinks, /pause, /resume and /reload"
            .to_owned(),
    )
}

async fn daemon_info(State(state): State<Arc<ControlState>>) -> Json<DaemonInfo> {
    Json(state.lock_config().info.clone())
}

/// Returns the text of the configuration in force to a user who may read its file.
async fn configuration_text(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<PeerCredentials>,
) -> Response {
    let (file, text) = {
        let config = state.lock_config();
        let file = PathBuf::from(&config.info.configuration.file);
        (file, Arc::clone(&config.text.0))
    };
    if peer.may_read(&file) {
        return text.to_string().into_response();
    }
    let reason = format!("you have no permission to read {}", file.display());
    error_response(StatusCode::FORBIDDEN, reason)
}

/// Returns a copy of the ledger, which has no secret, to every user who may connect.
async fn ledger_copy(State(state): State<Arc<ControlState>>) -> Response {
    // One at a time: it is in memory, and delays commits.
    let _copying = state.copying.lock().await;
    let refuse = |reason| error_response(StatusCode::SERVICE_UNAVAILABLE, reason);
    match tokio::time::timeout(COPY_TIMEOUT, state.ledger.copy()).await {
        Ok(Ok(content)) => content.into_response(),
        Ok(Err(error)) => refuse(error.to_string()),
        Err(_) => refuse("the ledger did not respond in time".to_owned()),
    }
}

async fn handle_request(
    State(state): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<PeerCredentials>,
    UrlPath(verb): UrlPath<String>,
    body: Body,
) -> Response {
    let admins = state.lock_config().admins.clone();
    let requested_by = match authorize(peer, &admins) {
        Ok(requested_by) => requested_by,
        Err(reason) => {
            let verb = redact::sanitize(&verb);
            tracing::warn!("refused {verb} on the control socket: {reason}");
            return error_response(StatusCode::FORBIDDEN, reason);
        }
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err((status, reason)) => return error_response(status, reason.to_owned()),
    };
    let request = match ControlRequest::parse(&verb, &body) {
        Ok(request) => request,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error.to_string()),
    };
    tracing::info!(
        by = requested_by,
        verb = request.verb(),
        "{} requested: {}",
        describe_author(&requested_by),
        request_text(&request)
    );
    let (reply, response) = oneshot::channel();
    let incoming = IncomingRequest {
        request,
        requested_by,
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

/// Reads the whole body of a request, within [`BODY_TIMEOUT`].
async fn read_body(body: Body) -> Result<body::Bytes, (StatusCode, &'static str)> {
    let bytes = body::to_bytes(body, MAX_BODY_BYTES);
    match tokio::time::timeout(BODY_TIMEOUT, bytes).await {
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

/// Describes a request: its verb, and the keys or credentials that it names.
fn request_text(request: &ControlRequest) -> String {
    let verb = request.verb();
    match request.subjects() {
        subjects if subjects.is_empty() => verb.to_owned(),
        subjects => format!("{verb} {}", redact::sanitize(&join_few(subjects))),
    }
}

fn error_response(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}

/// Returns the name of the peer for the ledger, or why it may not change
/// anything.
fn authorize(peer: PeerCredentials, admins: &[String]) -> Result<String, String> {
    let Some((user, group)) = peer.0 else {
        return Err("the kernel does not identify the calling user".to_owned());
    };
    let own_uid = rustix::process::geteuid().as_raw();
    let is_admin = || {
        let mut admins = admins.iter();
        admins.any(|admins| users::is_member(user, group, admins))
    };
    if user == 0 || user == own_uid || is_admin() {
        return Ok(format!("uid {user}"));
    }
    let own = match own_uid {
        0 => describe_user(0),
        own_uid => format!("{} or {}", describe_user(0), describe_user(own_uid)),
    };
    Err(format!(
        "{} has read-only access; hint: run the command as {own}, or have one of your groups \
         added to [control] admins",
        describe_user(user)
    ))
}
