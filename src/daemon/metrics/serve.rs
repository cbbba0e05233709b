//! The pages over HTTP.

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

use crate::daemon::metrics::listener::Limited;

/// A loop that has not answered after this is taken to be stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which page somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// `/metrics`.
    Metrics,
    /// `/healthz`: whether the loop turns.
    Health,
    /// `/readyz`: whether keys are rotated.
    Readiness,
}

/// A page that somebody waits for.
pub(crate) struct Wanted {
    pub(crate) page: Page,
    /// The page, or with an error why all is not well.
    pub(crate) reply: oneshot::Sender<Result<String, String>>,
}

/// The pages are served until this is dropped.
pub(crate) struct Pages {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// How long the end of the pages is waited for: who still reads one does not
/// keep the address.
const END: Duration = Duration::from_millis(500);

impl Pages {
    /// Listens at `address`; what is wanted goes to `wanted`.
    ///
    /// # Errors
    /// The address cannot be listened at, in words.
    pub(crate) fn listen(
        address: SocketAddr,
        wanted: mpsc::UnboundedSender<Wanted>,
    ) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot serve metrics at {address}: {error}");
        let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let listener = TcpListener::from_std(listener).map_err(cannot)?;
        let (stop, mut stopped) = watch::channel(false);
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(Arc::new(wanted));
        let serving =
            axum::serve(Limited::new(listener), router).with_graceful_shutdown(async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            });
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("metrics are not served any more: {error}");
            }
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// Serves no more. The address is free then, and others that overlap it.
    pub(crate) async fn end(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(END, &mut self.serving).await;
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

type Asked = State<Arc<mpsc::UnboundedSender<Wanted>>>;

async fn metrics(wanted: Asked) -> Response {
    let mut response = page(wanted, Page::Metrics).await;
    if response.status().is_success() {
        let kind = axum::http::HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

async fn health(wanted: Asked) -> Response {
    page(wanted, Page::Health).await
}

async fn readiness(wanted: Asked) -> Response {
    page(wanted, Page::Readiness).await
}

async fn page(State(wanted): Asked, page: Page) -> Response {
    let (reply, answer) = oneshot::channel();
    let unwell = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if wanted.send(Wanted { page, reply }).is_err() {
        return unwell("rekeyd stops".to_owned()).into_response();
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(page))) => page.into_response(),
        Ok(Ok(Err(why))) => unwell(why).into_response(),
        Ok(Err(_)) => unwell("rekeyd stops".to_owned()).into_response(),
        Err(_) => unwell("the loop of rekeyd does not turn".to_owned()).into_response(),
    }
}
