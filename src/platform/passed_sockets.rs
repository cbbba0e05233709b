//! The sockets that the service manager passes at the start of a process: whoever has the
//! rights of the process cannot take their addresses, not even while it does not run.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;

/// The first socket, which later servers of this process use again.
static FIRST: Mutex<Option<PassedSocket>> = Mutex::new(None);

/// A socket that listens.
#[derive(Debug)]
pub enum PassedSocket {
    /// At an IP address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl PassedSocket {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }
}

/// Takes the sockets from the environment, so that no program inherits them. MUST be called
/// while there is a single thread, since it changes the environment.
pub fn take() {
    let mut passed = ListenFd::from_env();
    let tcp = passed.take_tcp_listener(0).ok().flatten();
    let mut unix = || passed.take_unix_listener(0).ok().flatten();
    let first = tcp.map(PassedSocket::Tcp);
    *lock() = first.or_else(|| unix().map(PassedSocket::Unix));
}

/// Returns the first socket, if there is one.
#[must_use]
pub fn first() -> Option<io::Result<PassedSocket>> {
    lock().as_ref().map(PassedSocket::try_clone)
}

fn lock() -> std::sync::MutexGuard<'static, Option<PassedSocket>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}
