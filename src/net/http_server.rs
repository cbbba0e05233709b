//! An HTTP/1.1 server whose connections are bounded in number and in time.
//!
//! axum's own `serve` has no limit at all: a peer that connects and sends
//! nothing would keep a file descriptor for ever. Here a connection has to send
//! a whole request head in time, and when all places are taken the one that has
//! been silent longest is evicted, or else the one that has not read its answer
//! for longest ([`connections`]). A peer that is never silent is closed after some
//! answers if others wait.

mod connections;
mod peers;
mod places;
mod tracked_stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::connections::{Admission, Connection, Connections};
pub(crate) use self::connections::{ConnectionLimits, RequestPlace};
pub(crate) use self::peers::Peers;
pub(crate) use self::places::{PlaceShare, UserPlaces, UserPool};
use self::tracked_stream::TrackedStream;

/// The body of the answer to a connection of a user who has too many.
const REFUSAL: &str = "{\"error\":\"you have too many connections; hint: repeat the command when others have ended\"}";

/// The time by which the body of a request has to be complete, which handlers receive as an
/// extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestDeadline(pub(crate) Instant);

/// Serves `router` on `listener` until `shutdown` becomes true, and then until
/// the requests in progress are answered. Handlers receive what `peers` knows of
/// the peer of their connection as [`ConnectInfo`].
pub(crate) async fn serve<L, P>(
    mut listener: L,
    limits: ConnectionLimits,
    router: Router,
    peers: P,
    mut shutdown: watch::Receiver<bool>,
) where
    L: Listener,
    P: Peers<L::Io>,
{
    let peers = Arc::new(peers);
    let connections = Arc::new(Connections::new(limits));
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer, admission) = tokio::select! {
            biased;
            () = wait_for_shutdown(&mut shutdown) => break,
            accepted = async {
                let (stream, _) = listener.accept().await;
                let peer = peers.describe(&stream);
                let admission = connections.admit(peers.share(&peer)).await;
                (stream, peer, admission)
            } => accepted,
        };
        let service = ConnectionService {
            router: router.clone(),
            info: ConnectInfo(peer.clone()),
        };
        let (shutdown, peers) = (shutdown.clone(), Arc::clone(&peers));
        tasks.spawn(async move {
            let connection = match admission {
                Admission::Admitted(connection) => Some(connection),
                Admission::Queued(waiting) => waiting.admit().await,
                Admission::Refused => None,
            };
            match connection {
                Some(connection) => serve_connection(stream, connection, service, shutdown).await,
                None => {
                    peers.note_refused(&peer);
                    refuse(stream).await;
                }
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    // Frees the address while the last requests are answered.
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Returns a response that closes the connection without an answer, like a
/// failing host.
#[cfg(any(test, feature = "demo"))]
pub(crate) fn hang_up() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUp);
    response
}

/// Marks a response that is never sent.
#[derive(Debug, Clone, Copy)]
struct HangUp;

/// The reason to make hyper close a connection without an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum CloseReason {
    #[error("closed the connection to make room for another")]
    Evicted,
    #[error("the handler closed the connection")]
    HangUp,
}

/// The handler of one connection's requests.
struct ConnectionService<I> {
    router: Router,
    info: ConnectInfo<I>,
}

/// Answers that the peer has too many connections, as far as the answer can be sent at once.
async fn refuse<S: tokio::io::AsyncWrite + Unpin>(mut stream: S) {
    let length = REFUSAL.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{REFUSAL}"
    );
    let _ = timeout(Duration::ZERO, stream.write_all(answer.as_bytes())).await;
}

/// Serves one connection until it ends, one of its deadlines passes, or it is
/// evicted.
async fn serve_connection<S, I>(
    stream: S,
    connection: Connection,
    service: ConnectionService<I>,
    mut shutdown: watch::Receiver<bool>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    I: Clone + Send + Sync + 'static,
{
    let ConnectionService { router, info } = service;
    let router = TowerToHyperService::new(router);
    let handle = |mut request: Request<Incoming>| {
        let deadline = connection.begin_request();
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(connection.place());
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(RequestDeadline(deadline));
        }
        let response = router.call(request);
        let connection = &connection;
        async move {
            if deadline.is_none() {
                return Err(CloseReason::Evicted);
            }
            let mut response: Response = match response.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<HangUp>().is_some() {
                return Err(CloseReason::HangUp);
            }
            if connection.begin_answer() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        }
    };
    let stream = TokioIo::new(TrackedStream::new(stream, &connection));
    // Deadlines are kept here, because hyper's own timeout would close an idle
    // connection as early as a slow one.
    let http_connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(stream, service_fn(handle));
    let mut http_connection = std::pin::pin!(http_connection);
    let mut is_stopping = false;
    while let Some(deadline) = connection.deadline() {
        tokio::select! {
            biased;
            () = connection.changed() => {}
            () = wait_for_shutdown(&mut shutdown), if !is_stopping => {
                if connection.is_silent() {
                    return;
                }
                is_stopping = true;
                http_connection.as_mut().graceful_shutdown();
            }
            // The peer caused an error and cannot be answered any more.
            _ = http_connection.as_mut() => return,
            () = sleep_until_some(deadline) => {
                if connection.is_overdue() {
                    return;
                }
            }
        }
    }
}

async fn wait_for_shutdown(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the server's owner was dropped, which also stops it.
    let _ = shutdown.wait_for(|is_shutdown| *is_shutdown).await;
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
