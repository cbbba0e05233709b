//! The monitoring pages over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::core::os_error;
use crate::net::http_server::{self, ConnectionLimits};

/// The limit of connections: more than monitoring needs, and few compared with
/// the file descriptors of a process.
const MAX_CONNECTIONS: usize = 64;

/// The time after which an event loop that does not answer is reported as
/// stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// A monitoring page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MonitoringPage {
    /// `/metrics`.
    Metrics,
    /// `/healthz`: whether the event loop is alive.
    Health,
    /// `/readyz`: whether keys are rotated.
    Readiness,
}

/// A request for a page, for the event loop to answer.
pub(crate) struct PageRequest {
    pub(crate) page: MonitoringPage,
    /// The channel for the page, or for the problem of a 503.
    pub(crate) reply: oneshot::Sender<Result<String, String>>,
}

/// The error of an address that the server cannot listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics at {address}: {}", os_error::describe(source))]
pub(crate) struct MetricsListenError {
    /// The address.
    pub(crate) address: SocketAddr,
    /// The error of the system.
    pub(crate) source: std::io::Error,
}

/// The server of the pages, which stops on drop.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    server_task: JoinHandle<()>,
}

/// The time for which the server waits at its end: a peer that still reads a
/// page must not keep the address.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

impl MetricsServer {
    /// Listens on `address`, and sends requests to `requests`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(crate) fn listen(
        address: SocketAddr,
        requests: mpsc::UnboundedSender<PageRequest>,
    ) -> Result<Self, MetricsListenError> {
        let listen_error = |source| MetricsListenError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let listener = TcpListener::from_std(listener).map_err(listen_error)?;
        let (shutdown, stopped) = watch::channel(false);
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(Arc::new(requests));
        let limits = ConnectionLimits::new(MAX_CONNECTIONS);
        let server_run = http_server::serve(listener, limits, router, (), stopped);
        Ok(Self {
            address,
            shutdown,
            server_task: tokio::spawn(server_run),
        })
    }

    /// Stops, and frees the address and all that overlap it.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.shutdown.send(true);
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut self.server_task).await;
    }

    /// Returns the address of the server.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
    }
}

type PageRequestSender = State<Arc<mpsc::UnboundedSender<PageRequest>>>;

async fn metrics(requests: PageRequestSender) -> Response {
    let mut response = request_page(requests, MonitoringPage::Metrics).await;
    if response.status().is_success() {
        let content_type = axum::http::HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

async fn health(requests: PageRequestSender) -> Response {
    request_page(requests, MonitoringPage::Health).await
}

async fn readiness(requests: PageRequestSender) -> Response {
    request_page(requests, MonitoringPage::Readiness).await
}

async fn request_page(State(requests): PageRequestSender, page: MonitoringPage) -> Response {
    let (reply, response) = oneshot::channel();
    let unavailable = |reason: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    if requests.send(PageRequest { page, reply }).is_err() {
        return unavailable("rekeyd is stopping".to_owned()).into_response();
    }
    match tokio::time::timeout(REPLY_TIMEOUT, response).await {
        Ok(Ok(Ok(page))) => page.into_response(),
        Ok(Ok(Err(reason))) => unavailable(reason).into_response(),
        Ok(Err(_)) => unavailable("rekeyd is stopping".to_owned()).into_response(),
        Err(_) => unavailable("the main loop does not respond".to_owned()).into_response(),
    }
}
