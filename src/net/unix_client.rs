//! An HTTP client for a server on a Unix socket of this host, which knows the user of the
//! server before it sends anything.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

/// The interval at which a connection is tried again while the server's queue is full.
const QUEUE_INTERVAL: Duration = Duration::from_millis(20);

/// The longest response. A copy of a ledger is the longest that rekeyd sends: 256 MiB.
const MAX_RESPONSE_BYTES: usize = 257 << 20;

/// The longest response of a server that is not known yet.
const MAX_SHORT_RESPONSE_BYTES: usize = 64 << 10;

/// A client of the server at one socket. Its requests have no time limit, since some wait for
/// a delivery.
#[derive(Debug, Clone)]
pub(crate) struct UnixClient {
    socket: PathBuf,
    /// The users that the server may be.
    trusted: Vec<u32>,
}

/// A connection to the server, for one request after another.
pub(crate) struct UnixConnection {
    sender: http1::SendRequest<String>,
    connection: http1::Connection<TokioIo<UnixStream>, String>,
    server: UCred,
}

/// A whole response.
pub(crate) struct UnixResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnixClientError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(io::Error),
    /// The server is another user's. Nothing was sent.
    #[error("the process that listens there belongs to another user")]
    UntrustedServer {
        /// That user.
        user: u32,
    },
    /// The transfer failed.
    #[error(transparent)]
    Transfer(#[from] hyper::Error),
    /// The response is longer than any of rekeyd's.
    #[error("the response is longer than {} KiB", limit >> 10)]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The request is none.
    #[error(transparent)]
    Request(#[from] axum::http::Error),
}

impl UnixClient {
    /// Returns a client of the server at `socket`, if that belongs to one of the `trusted`
    /// users.
    pub(crate) fn new(socket: &Path, trusted: Vec<u32>) -> Self {
        Self {
            socket: socket.to_owned(),
            trusted,
        }
    }

    /// Returns the path of the socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects, and checks whose the server is: the user of the process that listens.
    ///
    /// # Errors
    /// See [`UnixClientError`].
    pub(crate) async fn connect(&self) -> Result<UnixConnection, UnixClientError> {
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_INTERVAL).await;
                }
                connected => break connected.map_err(UnixClientError::Connect)?,
            }
        };
        let server = stream.peer_cred().map_err(UnixClientError::Connect)?;
        if !self.trusted.contains(&server.uid()) {
            return Err(UnixClientError::UntrustedServer { user: server.uid() });
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(UnixConnection {
            sender,
            connection,
            server,
        })
    }
}

impl UnixConnection {
    /// Returns the user of the process that listens at the socket.
    pub(crate) fn server_user(&self) -> u32 {
        self.server.uid()
    }

    /// Returns the id of that process as this one sees it.
    pub(crate) fn server_process(&self) -> Option<i32> {
        self.server.pid()
    }

    /// Sends a request, with a header if there is one.
    ///
    /// # Errors
    /// See [`UnixClientError`].
    pub(crate) async fn send(
        &mut self,
        method: &Method,
        path: &str,
        header: Option<(HeaderName, String)>,
        body: String,
    ) -> Result<UnixResponse, UnixClientError> {
        self.send_limited(method, path, header, body, MAX_RESPONSE_BYTES)
            .await
    }

    /// Sends a request without a body to a server that is not known yet: its response has to be
    /// short.
    ///
    /// # Errors
    /// See [`UnixClientError`].
    pub(crate) async fn send_for_short(
        &mut self,
        method: &Method,
        path: &str,
        header: Option<(HeaderName, String)>,
    ) -> Result<UnixResponse, UnixClientError> {
        self.send_limited(
            method,
            path,
            header,
            String::new(),
            MAX_SHORT_RESPONSE_BYTES,
        )
        .await
    }

    async fn send_limited(
        &mut self,
        method: &Method,
        path: &str,
        header: Option<(HeaderName, String)>,
        body: String,
        limit: usize,
    ) -> Result<UnixResponse, UnixClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "rekeyd");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(body)?;
        let sender = &mut self.sender;
        let reply = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            Ok(UnixResponse {
                status: parts.status,
                headers: parts.headers,
                body: collect(body, limit).await?,
            })
        };
        let mut reply = std::pin::pin!(reply);
        tokio::select! {
            biased;
            response = &mut reply => return response,
            // What has arrived before the connection ended counts.
            _ = &mut self.connection => {}
        }
        reply.await
    }
}

/// Returns the whole body, which the server may send without end.
async fn collect(body: hyper::body::Incoming, limit: usize) -> Result<Vec<u8>, UnixClientError> {
    let mut body = std::pin::pin!(body);
    let mut content = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        let data: Option<Bytes> = frame?.into_data().ok();
        content.extend(data.unwrap_or_default());
        if content.len() > limit {
            return Err(UnixClientError::TooLong { limit });
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;

    use super::*;

    /// The first thing that it gets is the end of the connection.
    #[tokio::test]
    async fn server_of_another_user_gets_no_byte() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let client = UnixClient::new(&socket, vec![own + 1]);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read(&mut [0; 64]).await.unwrap()
        };
        let connect = async { client.connect().await.err() };
        let (read, refused) = tokio::join!(server, connect);
        assert_eq!(read, 0);
        assert!(
            matches!(refused, Some(UnixClientError::UntrustedServer { user }) if user == own),
            "{refused:?}"
        );
    }
}
