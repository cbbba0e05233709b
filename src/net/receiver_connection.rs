//! Connections to receivers on this host whose user is known before they get a secret.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::core::os_error;
use crate::net::address;
use crate::net::connect_check::most_telling;
use crate::net::tcp_table;

/// The first bytes of every request. A receiver may accept a connection only when bytes have
/// arrived (`TCP_DEFER_ACCEPT`); these show nothing, while the rest of a head may have a
/// token.
const FIRST_BYTES: &[u8] = b"POST ";

/// The delay before the table of connections is read again: the first one, and the longest.
const POLL_DELAYS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How long a check waits before it sends the first bytes: most receivers accept without
/// them, and see no request that is cut off.
const SILENT_TIME: Duration = Duration::from_secs(2);

/// What is connected to.
#[derive(Debug, Clone)]
pub(crate) enum ReceiverEndpoint {
    /// The host and port of an http URL of the loopback.
    Loopback(Url),
    /// A Unix socket.
    Socket(PathBuf),
}

/// The reason why there is no connection to the right receiver. Nothing of a request was
/// sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiverError {
    /// Nobody listens there.
    #[error("cannot connect to {place}: {}", os_error::describe(source))]
    Unreachable {
        /// The address or the socket.
        place: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A process of another user accepted the connection, or listens on the socket.
    #[error("the process that answers at {place} belongs to another user")]
    OtherUser {
        /// The address or the socket.
        place: String,
        /// That user.
        user: u32,
    },
    /// Nobody has accepted the connection in time.
    #[error("no process accepted the connection to {place} in time")]
    NotSeen {
        /// The address.
        place: String,
    },
    /// The table of connections cannot be read.
    #[error(
        "cannot read who accepted the connection to {place}: {}",
        os_error::describe(source)
    )]
    Unreadable {
        /// The address.
        place: String,
        /// The error of the system.
        source: io::Error,
    },
}

/// A connection whose other end is a process of a trusted user.
pub(crate) struct ReceiverConnection {
    stream: BegunStream,
}

impl ReceiverEndpoint {
    /// Connects, and returns the connection once a process of one of the `trusted` users has
    /// accepted it. Until then only the method of a request is sent.
    ///
    /// # Errors
    /// See [`ReceiverError`].
    pub(crate) async fn connect(
        &self,
        trusted: &[u32],
        deadline: Instant,
    ) -> Result<ReceiverConnection, ReceiverError> {
        self.open(trusted, deadline, Duration::ZERO).await
    }

    /// Connects, and checks who accepts the connection. Only a receiver that accepts none
    /// for some time gets the method of a request.
    ///
    /// # Errors
    /// See [`ReceiverError`].
    pub(crate) async fn check(
        &self,
        trusted: &[u32],
        deadline: Instant,
    ) -> Result<(), ReceiverError> {
        self.open(trusted, deadline, SILENT_TIME).await.map(drop)
    }

    async fn open(
        &self,
        trusted: &[u32],
        deadline: Instant,
        silent_time: Duration,
    ) -> Result<ReceiverConnection, ReceiverError> {
        match self {
            Self::Socket(path) => connect_socket(path, trusted, deadline).await,
            Self::Loopback(url) => connect_loopback(url, trusted, deadline, silent_time).await,
        }
    }
}

/// The user of a socket is known from the start: the one who listens on it.
async fn connect_socket(
    path: &Path,
    trusted: &[u32],
    deadline: Instant,
) -> Result<ReceiverConnection, ReceiverError> {
    let place = path.display().to_string();
    let connected = timeout_at(deadline, UnixStream::connect(path)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let opened = connected.and_then(|stream| Ok((stream.peer_cred()?.uid(), stream)));
    match opened {
        Ok((user, stream)) if trusted.contains(&user) => Ok(ReceiverConnection {
            stream: BegunStream::new(stream),
        }),
        Ok((user, _)) => Err(ReceiverError::OtherUser { place, user }),
        Err(source) => Err(ReceiverError::Unreachable { place, source }),
    }
}

async fn connect_loopback(
    url: &Url,
    trusted: &[u32],
    deadline: Instant,
    silent_time: Duration,
) -> Result<ReceiverConnection, ReceiverError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let unreachable = |source| ReceiverError::Unreachable {
        place: format!("{host}:{port}"),
        source,
    };
    let host_name = host.trim_matches(['[', ']']);
    let addresses = address::resolve(host_name, port)
        .await
        .map_err(unreachable)?;
    // Another user may listen on one address of a name, and the receiver on the other one.
    let attempt = |address| open_loopback(address, trusted.to_vec(), deadline, silent_time);
    let opened = address::try_each(addresses, attempt).await;
    opened.map_err(|errors| {
        // Those that were not seen in time are the last ones.
        let (mut refused, mut others) = (Vec::new(), Vec::new());
        for error in errors {
            if let ReceiverError::Unreachable { source, .. } = error {
                refused.push(source);
            } else {
                others.push(error);
            }
        }
        let other = others.into_iter().next();
        other.unwrap_or_else(|| unreachable(most_telling(refused)))
    })
}

async fn open_loopback(
    address: SocketAddr,
    trusted: Vec<u32>,
    deadline: Instant,
    silent_time: Duration,
) -> Result<ReceiverConnection, ReceiverError> {
    let place = address.to_string();
    let connected = timeout_at(deadline, connect_tcp(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let unreachable = |source| ReceiverError::Unreachable {
        place: place.clone(),
        source,
    };
    let (mut stream, client) = connected.map_err(unreachable)?;
    let silent_until = deadline.min(Instant::now() + silent_time);
    let mut seen = timeout_at(silent_until, wait_for_user(client, address)).await;
    if seen.is_err() {
        let begun = timeout_at(deadline, stream.begin()).await;
        begun.unwrap_or(Ok(())).map_err(unreachable)?;
        seen = timeout_at(deadline, wait_for_user(client, address)).await;
    }
    match seen {
        Ok(Ok(user)) if trusted.contains(&user) => Ok(ReceiverConnection { stream }),
        Ok(Ok(user)) => Err(ReceiverError::OtherUser { place, user }),
        Ok(Err(source)) => Err(ReceiverError::Unreadable { place, source }),
        Err(_elapsed) => Err(ReceiverError::NotSeen { place }),
    }
}

/// Connects, and returns the own address, too.
async fn connect_tcp(address: SocketAddr) -> io::Result<(BegunStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    let client = stream.local_addr()?;
    if client == address {
        // Nobody listens: a port that the kernel chooses may be the one that it looks for.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok((BegunStream::new(stream), client))
}

/// Waits until the connection was accepted, and returns by which user.
async fn wait_for_user(client: SocketAddr, server: SocketAddr) -> io::Result<u32> {
    let (mut delay, longest) = POLL_DELAYS;
    loop {
        let look = move || tcp_table::accepting_user(client, server);
        let seen = tokio::task::spawn_blocking(look).await;
        if let Some(user) = seen.map_err(io::Error::other)?? {
            return Ok(user);
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(longest);
    }
}

impl ReceiverConnection {
    /// Sends a POST request, and returns the response, whose body has to be read before
    /// this connection is dropped.
    ///
    /// # Errors
    /// The error of the transfer.
    pub(crate) async fn send<B>(
        self,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, JoinSet<()>), hyper::Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await?;
        // Aborted on drop: a body that is not sent in time must not be sent later.
        let mut transfer = JoinSet::new();
        transfer.spawn(async move {
            // The sender and the body of the response get the error.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await?;
        Ok((response, transfer))
    }
}

/// Both kinds of stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream on which the first bytes of a request were sent already: they are not sent
/// again.
struct BegunStream {
    stream: Box<dyn Stream>,
    sent: usize,
}

impl BegunStream {
    fn new(stream: impl Stream + 'static) -> Self {
        let stream = Box::new(stream);
        Self { stream, sent: 0 }
    }

    /// Sends the first bytes, once.
    async fn begin(&mut self) -> io::Result<()> {
        self.stream.write_all(FIRST_BYTES).await?;
        self.sent = FIRST_BYTES.len();
        Ok(())
    }

    /// Returns how many of these bytes were sent already, if any.
    fn skip(&mut self, length: usize) -> Option<usize> {
        let skipped = self.sent.min(length);
        self.sent -= skipped;
        (skipped > 0).then_some(skipped)
    }
}

impl AsyncRead for BegunStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BegunStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(skipped) = self.skip(bytes.len()) {
            return Poll::Ready(Ok(skipped));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        if let Some(skipped) = self.skip(length) {
            return Poll::Ready(Ok(skipped));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    /// So that the client copies no body into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
