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
const AT_ONCE: usize = 64;

/// A connection on which nothing is asked for so long is closed. Longer than
/// the pace at which pages are commonly read, since a new one costs more.
const IDLE: Duration = Duration::from_secs(120);

/// Takes so many connections at once, each for as long as something comes.
pub(super) struct Limited {
    inner: TcpListener,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Limited {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self::with(inner, AT_ONCE, IDLE)
    }

    fn with(inner: TcpListener, at_once: usize, idle: Duration) -> Self {
        Self {
            inner,
            room: Arc::new(Semaphore::new(at_once)),
            idle,
        }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // It is never closed.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (inner, from) = Listener::accept(&mut self.inner).await;
        let connection = Connection {
            inner,
            idle: self.idle,
            end: Box::pin(sleep(self.idle)),
            _room: room,
        };
        (connection, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One connection.
pub(super) struct Connection {
    inner: TcpStream,
    idle: Duration,
    end: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// What the other side has done; an error once it has done nothing for too
    /// long.
    fn done<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.end.as_mut().reset(Instant::now() + self.idle);
            return done;
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, into);
        self.done(read, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, from);
        self.done(written, context)
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
    async fn who_asks_for_nothing_makes_room_for_others() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut limited = Limited::with(inner, 1, Duration::from_millis(50));
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
