//! Whether a request opened its connection, or was sent on one that was open.
//!
//! The server may have closed an open one in the meantime, which the client
//! notices only when no answer comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether the request of this task has opened a connection.
    static HAS_OPENED: Arc<AtomicBool>;
}

/// Runs a request of a client with [`OpenedConnections`]. Returns its output,
/// and whether it opened a connection.
pub(crate) async fn observe<T>(request: impl Future<Output = T>) -> (T, bool) {
    let has_opened = Arc::new(AtomicBool::new(false));
    let output = HAS_OPENED.scope(Arc::clone(&has_opened), request).await;
    (output, has_opened.load(Ordering::Relaxed))
}

/// Whether a request failed since its connection ended before a byte of an
/// answer came.
pub(crate) fn ended_without_answer(error: &reqwest::Error) -> bool {
    if error.is_connect() || error.is_timeout() || error.is_builder() {
        return false;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message()
                || error.is_canceled()
                || error.is_closed()
                || is_broken_connection(error);
        }
        cause = error.source();
    }
    false
}

fn is_broken_connection(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let kind = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    kind.is_some_and(|error| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        )
    })
}

/// A layer around the connections that a client opens.
#[derive(Debug, Clone)]
pub(super) struct OpenedConnections;

impl<S> Layer<S> for OpenedConnections {
    type Service = ObservedConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        ObservedConnector(connector)
    }
}

/// A connector that notes its use for [`observe`].
#[derive(Debug, Clone)]
pub(super) struct ObservedConnector<S>(S);

impl<S, R> Service<R> for ObservedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connected = connecting.await;
            // The client opens a connection while a kept one is about to become free, and
            // continues to open it outside of the request if the kept one was faster: only
            // one that is open in the request is the request's.
            if connected.is_ok() {
                let _ = HAS_OPENED.try_with(|opened| opened.store(true, Ordering::Relaxed));
            }
            connected
        })
    }
}
