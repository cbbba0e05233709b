//! The monitoring pages over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::OPEN_METRICS_HINT;
use crate::config::settings::MetricsAddress;
use crate::core::loopback::is_loopback_address;
use crate::core::os_error;
use crate::daemon::metrics::access::AccessRule;
use crate::daemon::metrics::public_problem::without_names;
use crate::daemon::metrics::registry::Metrics;
use crate::daemon::metrics::shared_page::SharedPage;
use crate::daemon::probes::Probes;
use crate::daemon::socket_file::{self, BoundSocket, SocketListenError, SocketOwner, SocketPlace};
use crate::net::http_server::{self, ConnectionLimits};
use crate::platform::BlockingPool;
use crate::platform::clock::Clock;
use crate::platform::passed_sockets::{self, PassedSocket};

/// The option that names the address, for people.
pub(crate) const METRICS_OPTION: &str = "[metrics] listen";

/// The limit of connections: more than monitoring needs, and few compared with
/// the file descriptors of a process.
const MAX_CONNECTIONS: usize = 64;

/// The number of threads that read the password at the same time.
const FILE_THREADS: usize = 4;

/// How long a reader may wait for a page, if others read the earlier ones slowly.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The sources of the pages.
pub(crate) struct Pages {
    metrics: Arc<SharedPage>,
    probes: Arc<Probes>,
}

impl Pages {
    /// Returns the pages about a process with these `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>, probes: Arc<Probes>, clock: Arc<dyn Clock>) -> Self {
        let (view, conditions) = (Arc::clone(&probes.view), Arc::clone(&probes.conditions));
        Self {
            metrics: SharedPage::new(Box::new(move || {
                metrics.render(&view.snapshot(), &conditions, clock.now())
            })),
            probes,
        }
    }
}

/// The reason why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsListenError {
    /// The address is not free, or none of this host.
    #[error("cannot serve metrics at {address}: {}", os_error::describe(source))]
    Address {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The Unix socket cannot be created.
    #[error("cannot serve metrics: {0}")]
    Socket(#[from] SocketListenError),
    /// The service manager has passed no socket.
    #[error(
        "cannot serve metrics: the service manager passed no socket that listens; hint: start \
         rekeyd-metrics.socket (see systemd/examples) and restart rekeyd, or set [metrics] listen \
         to an address"
    )]
    NoPassedSocket,
    /// The socket that the service manager has passed cannot be used.
    #[error("cannot serve metrics on the socket of the service manager: {}", os_error::describe(.0))]
    PassedSocket(io::Error),
}

/// The server of the pages, which stops on drop.
pub(crate) struct MetricsServer {
    address: MetricsAddress,
    /// The Unix socket at which it listens.
    socket: Option<BoundSocket>,
    /// Whether other hosts can reach it.
    is_exposed: bool,
    rule: watch::Sender<AccessRule>,
    shutdown: watch::Sender<bool>,
    server_task: JoinHandle<()>,
}

/// The time for which the server waits at its end: a peer that still reads a
/// page must not keep the address.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

impl MetricsServer {
    /// Listens on `address`, and shows `pages`, the metrics to whom `rule` allows.
    ///
    /// # Errors
    /// If the address cannot be bound, or the service manager has passed no socket.
    pub(crate) async fn listen(
        address: &MetricsAddress,
        rule: AccessRule,
        pages: Arc<Pages>,
    ) -> Result<Self, MetricsListenError> {
        let (listener, socket) = bind(address).await?;
        let is_exposed = listener.is_exposed();
        let (shutdown, stopped) = watch::channel(false);
        let (rule, current_rule) = watch::channel(rule);
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(Arc::new(ServedPages {
                pages,
                is_exposed,
                rule: current_rule,
                files: BlockingPool::new(FILE_THREADS),
            }));
        let limits = ConnectionLimits::new(MAX_CONNECTIONS);
        let server_task = match listener {
            PageListener::Tcp(listener) => {
                tokio::spawn(http_server::serve(listener, limits, router, (), stopped))
            }
            PageListener::Unix(listener) => {
                tokio::spawn(http_server::serve(listener, limits, router, (), stopped))
            }
        };
        let server = Self {
            address: address.clone(),
            socket,
            is_exposed,
            rule,
            shutdown,
            server_task,
        };
        server.log_refusal();
        Ok(server)
    }

    /// Replaces the rule by which requests are allowed.
    pub(crate) fn set_rule(&self, rule: AccessRule) {
        let is_new = self.rule.send_if_modified(|current| {
            let is_new = *current != rule;
            *current = rule;
            is_new
        });
        if is_new {
            self.log_refusal();
        }
    }

    /// Logs that the socket of the service manager refuses `/metrics`. An address in the
    /// configuration is checked there.
    fn log_refusal(&self) {
        let is_passed = self.address == MetricsAddress::ServiceManager;
        if is_passed && self.is_exposed && self.rule.borrow().access.refuses_other_hosts() {
            tracing::error!(
                "/metrics at the socket of the service manager answers 403, because other hosts \
                 could read the names of keys and sinks; hint: {OPEN_METRICS_HINT}"
            );
        }
    }

    /// Stops, and frees the address and all that overlap it.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.shutdown.send(true);
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut self.server_task).await;
    }

    /// Returns the address of the server.
    pub(crate) const fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Whether clients of the address reach this server: the file of a Unix socket may have
    /// been removed or replaced.
    pub(crate) fn is_reachable(&self) -> bool {
        let socket = self.socket.as_ref().map(BoundSocket::owner);
        socket.is_none_or(|owner| owner == SocketOwner::ThisServer)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
    }
}

/// A socket that listens.
enum PageListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl PageListener {
    /// Whether other hosts can reach it. An address that cannot be read may be one of them.
    fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                !address.is_ok_and(|address| is_loopback_address(address.ip()))
            }
            Self::Unix(_) => false,
        }
    }
}

async fn bind(
    address: &MetricsAddress,
) -> Result<(PageListener, Option<BoundSocket>), MetricsListenError> {
    match address {
        MetricsAddress::Tcp(address) => {
            let failed = |source| MetricsListenError::Address {
                address: *address,
                source,
            };
            let listener = std::net::TcpListener::bind(address).map_err(failed)?;
            let listener = to_tokio(listener).map_err(failed)?;
            Ok((listener, None))
        }
        MetricsAddress::Socket(path) => {
            let place = SocketPlace {
                path: path.clone(),
                option: METRICS_OPTION,
            };
            let (listener, socket) = socket_file::listen(&place).await?;
            Ok((PageListener::Unix(listener), Some(socket)))
        }
        MetricsAddress::ServiceManager => {
            let passed = passed_sockets::first().ok_or(MetricsListenError::NoPassedSocket)?;
            let listener = passed.and_then(|passed| match passed {
                PassedSocket::Tcp(listener) => to_tokio(listener),
                PassedSocket::Unix(listener) => {
                    listener.set_nonblocking(true)?;
                    UnixListener::from_std(listener).map(PageListener::Unix)
                }
            });
            let listener = listener.map_err(MetricsListenError::PassedSocket)?;
            Ok((listener, None))
        }
    }
}

fn to_tokio(listener: std::net::TcpListener) -> io::Result<PageListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(PageListener::Tcp)
}

/// What the handlers of a server share.
struct ServedPages {
    pages: Arc<Pages>,
    is_exposed: bool,
    rule: watch::Receiver<AccessRule>,
    /// The threads that read the password: requests of others must not occupy all.
    files: BlockingPool,
}

async fn metrics(State(served): State<Arc<ServedPages>>, headers: HeaderMap) -> Response {
    let rule = served.rule.borrow().clone();
    if let Err(refusal) = rule.check(served.is_exposed, &headers, &served.files).await {
        return refusal.into_response();
    }
    let pages = &served.pages;
    if let Err(problem) = pages.probes.check_live() {
        return unavailable(problem);
    }
    let page = tokio::time::timeout(PAGE_TIMEOUT, pages.metrics.read());
    match page.await {
        Ok(Some(page)) => {
            let mut response = Response::new(Body::new(page));
            let content_type = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        Ok(None) => unavailable("cannot render the metrics".to_owned()),
        Err(_) => unavailable("others read the metrics too slowly".to_owned()),
    }
}

async fn health(State(served): State<Arc<ServedPages>>) -> Response {
    answer_probe(served.pages.probes.check_live())
}

/// Returns the readiness to anybody who reaches the address, who must not learn a key's name.
async fn readiness(State(served): State<Arc<ServedPages>>) -> Response {
    let probes = &served.pages.probes;
    answer_probe(probes.check_ready().map_err(|problem| {
        let keys = probes.view.snapshot().keys;
        without_names(&problem, keys.iter().map(|(key, _)| key))
    }))
}

fn answer_probe(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => "ok\n".into_response(),
        Err(problem) => unavailable(problem),
    }
}

fn unavailable(reason: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}
