//! An HTTP client for a server on a Unix socket of this host, which knows the user of the
//! server before it sends anything.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The interval at which a connection is tried again while the server's queue is full.
const QUEUE_INTERVAL: Duration = Duration::from_millis(20);

/// A client of the server at one socket. Its requests have no time limit, since some wait for
/// a delivery.
#[derive(Debug, Clone)]
pub(crate) struct UnixClient {
    socket: PathBuf,
    /// The users that the server may be.
    trusted: Vec<u32>,
    /// A header of each POST.
    proof: Option<(HeaderName, HeaderValue)>,
}

/// A whole response.
pub(crate) struct UnixResponse {
    pub(crate) status: StatusCode,
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
            proof: None,
        }
    }

    /// Returns the user of the process that listens at the socket, and that process as this
    /// one sees it.
    pub(crate) async fn server(&self) -> Option<(u32, Option<i32>)> {
        let stream = self.connect().await.ok()?;
        let server = stream.peer_cred().ok()?;
        Some((server.uid(), server.pid()))
    }

    /// Sends a header with each POST from now on. It is not shown.
    pub(crate) fn prove_with(&mut self, name: HeaderName, value: &str) {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.proof = Some((name, value));
        }
    }

    /// Sends a GET for `path`.
    ///
    /// # Errors
    /// See [`UnixClientError`].
    pub(crate) async fn get(&self, path: &str) -> Result<UnixResponse, UnixClientError> {
        self.send(Method::GET, path, String::new()).await
    }

    /// Posts `body` to `path`.
    ///
    /// # Errors
    /// See [`UnixClientError`].
    pub(crate) async fn post(
        &self,
        path: &str,
        body: String,
    ) -> Result<UnixResponse, UnixClientError> {
        self.send(Method::POST, path, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<UnixResponse, UnixClientError> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::HOST, "rekeyd")
            .body(body)?;
        if let Some((name, value)) = self.proof.clone().filter(|_| method == Method::POST) {
            request.headers_mut().insert(name, value);
        }
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let reply = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = collect(response.into_body()).await?;
            Ok(UnixResponse { status, body })
        };
        let mut connection = std::pin::pin!(connection);
        let mut reply = std::pin::pin!(reply);
        tokio::select! {
            biased;
            response = &mut reply => return response,
            // What has arrived before the connection ended counts.
            _ = &mut connection => {}
        }
        reply.await
    }

    /// Connects, and checks whose the server is: the user of the process that listens.
    async fn connect(&self) -> Result<UnixStream, UnixClientError> {
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_INTERVAL).await;
                }
                connected => break connected.map_err(UnixClientError::Connect)?,
            }
        };
        let server = stream.peer_cred().map_err(UnixClientError::Connect)?;
        if self.trusted.contains(&server.uid()) {
            Ok(stream)
        } else {
            Err(UnixClientError::UntrustedServer { user: server.uid() })
        }
    }
}

async fn collect(body: hyper::body::Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut body = std::pin::pin!(body);
    let mut content = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        let data: Option<Bytes> = frame?.into_data().ok();
        content.extend(data.unwrap_or_default());
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
        let (read, sent) = tokio::join!(server, client.post("/revoke", "{}".to_owned()));
        assert_eq!(read, 0);
        assert!(
            matches!(sent, Err(UnixClientError::UntrustedServer { user }) if user == own),
            "{:?}",
            sent.err()
        );
    }
}
