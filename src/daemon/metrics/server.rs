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

use crate::net::http_server::{self, ConnectionLimits};

/// More than monitoring needs, and few beside the file descriptors that a
/// process may open.
const MAX_CONNECTIONS: usize = 64;

/// How long the event loop has to answer before it counts as stuck.
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
    /// The page, or the problem for a 503.
    pub(crate) reply: oneshot::Sender<Result<String, String>>,
}

/// The server of the pages; it stops when this is dropped.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    server_task: JoinHandle<()>,
}

/// How long the server has to end: a peer that still reads a page does not keep
/// the address.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

impl MetricsServer {
    /// Listens at `address`; requests are sent to `requests`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn listen(
        address: SocketAddr,
        wanted: mpsc::UnboundedSender<PageRequest>,
    ) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot serve metrics at {address}: {error}");
        let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let listener = TcpListener::from_std(listener).map_err(cannot)?;
        let (shutdown, stopped) = watch::channel(false);
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(Arc::new(wanted));
        let limits = ConnectionLimits::new(MAX_CONNECTIONS);
        let serving = http_server::serve(listener, limits, router, |_| (), stopped);
        Ok(Self {
            address,
            shutdown,
            server_task: tokio::spawn(serving),
        })
    }

    /// Stops. The address is free then, and so are others that overlap it.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.shutdown.send(true);
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut self.server_task).await;
    }

    /// The address that it listens at.
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

async fn metrics(wanted: PageRequestSender) -> Response {
    let mut response = request_page(wanted, MonitoringPage::Metrics).await;
    if response.status().is_success() {
        let kind = axum::http::HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

async fn health(wanted: PageRequestSender) -> Response {
    request_page(wanted, MonitoringPage::Health).await
}

async fn readiness(wanted: PageRequestSender) -> Response {
    request_page(wanted, MonitoringPage::Readiness).await
}

async fn request_page(State(wanted): PageRequestSender, page: MonitoringPage) -> Response {
    let (reply, answer) = oneshot::channel();
    let unwell = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if wanted.send(PageRequest { page, reply }).is_err() {
        return unwell("rekeyd stops".to_owned()).into_response();
    }
    match tokio::time::timeout(REPLY_TIMEOUT, answer).await {
        Ok(Ok(Ok(page))) => page.into_response(),
        Ok(Ok(Err(why))) => unwell(why).into_response(),
        Ok(Err(_)) => unwell("rekeyd stops".to_owned()).into_response(),
        Err(_) => unwell("the loop of rekeyd does not turn".to_owned()).into_response(),
    }
}
