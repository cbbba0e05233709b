//! Connections that can break instead of carrying the answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A listener whose connections break while `broken` is set.
pub(super) struct HangupListener {
    listener: TcpListener,
    hang_up: Arc<AtomicBool>,
}

/// One of its connections.
pub(super) struct HangupConnection {
    stream: TcpStream,
    hang_up: Arc<AtomicBool>,
}

impl HangupListener {
    pub(super) fn new(listener: TcpListener, broken: Arc<AtomicBool>) -> Self {
        Self {
            listener,
            hang_up: broken,
        }
    }
}

impl axum::serve::Listener for HangupListener {
    type Io = HangupConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (HangupConnection, SocketAddr) {
        // axum's own accept waits and goes on after an error.
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let connection = HangupConnection {
            stream,
            hang_up: Arc::clone(&self.hang_up),
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for HangupConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for HangupConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hang_up.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
