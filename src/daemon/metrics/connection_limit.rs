//! Who may read the pages at one time: whoever reaches their address, often a
//! whole network, takes none of the files that rekeyd needs to rotate.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// More than monitoring needs, and few beside what a process may open.
const MAX_CONNECTIONS: usize = 64;

/// A connection on which nothing is asked for so long is closed. Longer than
/// the pace at which pages are commonly read, since a new one costs more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Takes so many connections at once, each for as long as something comes.
pub(super) struct LimitedListener {
    inner: TcpListener,
    permits: Arc<Semaphore>,
    idle_timeout: Duration,
}

impl LimitedListener {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self::with_limits(inner, MAX_CONNECTIONS, IDLE_TIMEOUT)
    }

    fn with_limits(inner: TcpListener, at_once: usize, idle: Duration) -> Self {
        Self {
            inner,
            permits: Arc::new(Semaphore::new(at_once)),
            idle_timeout: idle,
        }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedConnection, SocketAddr) {
        // It is never closed.
        let room = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (inner, from) = Listener::accept(&mut self.inner).await;
        let connection = LimitedConnection {
            inner,
            idle_timeout: self.idle_timeout,
            idle_timer: Box::pin(sleep(self.idle_timeout)),
            _permit: room,
        };
        (connection, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One connection.
pub(super) struct LimitedConnection {
    inner: TcpStream,
    idle_timeout: Duration,
    idle_timer: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl LimitedConnection {
    /// What the other side has done; an error once it has done nothing for too
    /// long.
    fn check_idle<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.idle_timer
                .as_mut()
                .reset(Instant::now() + self.idle_timeout);
            return done;
        }
        ready!(self.idle_timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for LimitedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, into);
        self.check_idle(read, context)
    }
}

impl AsyncWrite for LimitedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, from);
        self.check_idle(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn idle_connection_is_closed_and_frees_its_permit() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut limited = LimitedListener::with_limits(inner, 1, Duration::from_millis(50));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let (mut held, _) = limited.accept().await;
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"?").await.unwrap();
        let waiting = tokio::spawn(async move {
            let (mut next, _) = limited.accept().await;
            next.read_u8().await
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "there is room for one");
        let closed = held.read_u8().await.unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap(), b'?');
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }
}
