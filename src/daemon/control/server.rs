//! The control socket: HTTP with JSON on a Unix socket, so that `curl
//! --unix-socket` works, too.
//!
//! The mode of the socket lets its owner and its group connect, and read. Only
//! root, the user that rekeyd runs as, and members of the groups in `[control]
//! admins` may change anything: the system says who the peer is. No route
//! returns or accepts a secret.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
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

use crate::core::redact;
use crate::daemon::control::protocol::{ControlRequest, DaemonInfo, ErrorBody};
use crate::daemon::control::tracker::IncomingRequest;
use crate::net::http_server::{self, ConnectionLimits};
use crate::platform::users;

/// The owner and the group of the socket may connect.
const SOCKET_MODE: u32 = 0o660;

/// The largest request: a rotation of as many keys as a command line can name.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// How long a peer has for the body of a request whose head is complete.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// More commands than wait for a daemon at one time, and few beside the file
/// descriptors that a process may open.
const MAX_CONNECTIONS: usize = 128;

/// How long peers have to read their responses when rekeyd stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The server of the control socket; it stops when this is dropped.
pub(crate) struct ControlServer {
    path: PathBuf,
    state: Arc<ControlState>,
    shutdown: watch::Sender<bool>,
    server_task: Option<JoinHandle<()>>,
}

/// What the handlers share.
struct ControlState {
    requests: mpsc::UnboundedSender<IncomingRequest>,
    /// Who may change things, and what `GET /daemon` returns.
    config: Mutex<ControlConfig>,
}

/// What depends on the configuration.
#[derive(Debug, Clone)]
pub(crate) struct ControlConfig {
    pub(crate) admins: Vec<String>,
    pub(crate) info: DaemonInfo,
}

/// User and group of the peer, if the system knows them.
#[derive(Debug, Clone, Copy)]
struct PeerCredentials(Option<(u32, u32)>);

impl PeerCredentials {
    fn of(stream: &UnixStream) -> Self {
        let peer = stream.peer_cred().ok();
        Self(peer.map(|peer| (peer.uid(), peer.gid())))
    }
}

impl ControlServer {
    /// Listens at `path`; requests are sent to `requests`.
    ///
    /// # Errors
    /// The socket cannot be created, or another process listens there.
    pub(crate) fn listen(
        path: &Path,
        requests: mpsc::UnboundedSender<IncomingRequest>,
        config: ControlConfig,
    ) -> Result<Self, String> {
        let cannot = |why: String| format!("cannot listen at {}: {why}", path.display());
        remove_stale_socket(path).map_err(cannot)?;
        let listener = UnixListener::bind(path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                cannot("its folder does not exist".to_owned())
            } else {
                cannot(error.to_string())
            }
        })?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(|error| cannot(error.to_string()))?;
        let shared = Arc::new(ControlState {
            requests,
            config: Mutex::new(config),
        });
        let (shutdown, stopped) = watch::channel(false);
        let serving = http_server::serve(
            listener,
            ConnectionLimits::new(MAX_CONNECTIONS),
            routes(Arc::clone(&shared)),
            PeerCredentials::of,
            stopped,
        );
        Ok(Self {
            path: path.to_owned(),
            state: shared,
            shutdown,
            server_task: Some(tokio::spawn(serving)),
        })
    }

    /// Stops, once the responses that were given are sent or
    /// [`SHUTDOWN_GRACE`] is over.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.shutdown.send(true);
        if let Some(serving) = self.server_task.take() {
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, serving).await;
        }
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the configuration.
    pub(crate) fn set_config(&self, config: ControlConfig) {
        *self.state.lock_config() = config;
    }

    /// Sets the global problem that `GET /daemon` shows.
    pub(crate) fn set_problem(&self, problem: Option<String>) {
        self.state.lock_config().info.problem = problem;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
        // Commands that come later have to find that no daemon listens.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlState {
    fn lock_config(&self) -> std::sync::MutexGuard<'_, ControlConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the socket of a process that has ended.
fn remove_stale_socket(path: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(facts) if !facts.file_type().is_socket() => {
            return Err("there is a file that is no socket".to_owned());
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err("another process listens there; give each rekeyd its own socket".to_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn routes(shared: Arc<ControlState>) -> Router {
    Router::new()
        .route("/daemon", get(daemon_info))
        .route("/{verb}", post(handle_request))
        .fallback(not_found)
        .with_state(shared)
}

async fn not_found() -> Response {
    error_response(
        StatusCode::NOT_FOUND,
        "there is GET /daemon and POST /rotate, /revoke, /hold, /release, /adopt, /pause, \
         /resume and /reload"
            .to_owned(),
    )
}

async fn daemon_info(State(shared): State<Arc<ControlState>>) -> Json<DaemonInfo> {
    Json(shared.lock_config().info.clone())
}

async fn handle_request(
    State(shared): State<Arc<ControlState>>,
    ConnectInfo(peer): ConnectInfo<PeerCredentials>,
    UrlPath(verb): UrlPath<String>,
    body: Body,
) -> Response {
    let admins = shared.lock_config().admins.clone();
    let by = match authorize(peer, &admins) {
        Ok(by) => by,
        Err(why) => {
            let verb = redact::sanitize(&verb);
            tracing::warn!("refused {verb} on the control socket: {why}");
            return error_response(StatusCode::FORBIDDEN, why);
        }
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err((status, why)) => return error_response(status, why.to_owned()),
    };
    let request = match ControlRequest::parse(&verb, &body) {
        Ok(request) => request,
        Err(why) => return error_response(StatusCode::BAD_REQUEST, why),
    };
    tracing::info!(by, verb = request.verb(), "{by} asks to {}", request.verb());
    let (reply, answer) = oneshot::channel();
    let job = IncomingRequest {
        request,
        requested_by: by,
        reply,
    };
    let stopping = || {
        let why = "rekeyd stops; ask again when it runs".to_owned();
        error_response(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    if shared.requests.send(job).is_err() {
        return stopping();
    }
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => stopping(),
    }
}

/// Reads the whole body of a request, within [`BODY_TIMEOUT`].
async fn read_body(body: Body) -> Result<body::Bytes, (StatusCode, &'static str)> {
    let whole = body::to_bytes(body, MAX_BODY_BYTES);
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too long or did not come whole",
        )),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the request did not come whole in time",
        )),
    }
}

fn error_response(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}

/// The name of the peer for the ledger, or why it may not change anything.
fn authorize(peer: PeerCredentials, admins: &[String]) -> Result<String, String> {
    let Some((user, group)) = peer.0 else {
        return Err("the system does not say who you are".to_owned());
    };
    let own = rustix::process::geteuid().as_raw();
    let of_admins = || {
        let mut admins = admins.iter();
        admins.any(|admins| users::is_member(user, group, admins))
    };
    if user == 0 || user == own || of_admins() {
        return Ok(format!("uid {user}"));
    }
    Err(format!(
        "user {user} may look and not change anything: ask as root or as user {own}, or name a \
         group of yours in [control] admins"
    ))
}
