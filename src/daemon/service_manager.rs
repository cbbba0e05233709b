//! Reports to the service manager through `sd_notify`. Without a service
//! manager nothing is sent.
//!
//! Only the event loop pings the watchdog, so that a loop that makes no
//! progress is ended.
//!
//! The event loop never waits for the service manager: what cannot be sent at once, since
//! its queue is full, is dropped, and the state that it must know is sent again later.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::core::os_error;

/// The number of pings within the watchdog's timeout.
const PINGS_PER_TIMEOUT: u32 = 3;

/// The service manager, and the state that was sent to it last.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    status: String,
    /// The watchdog's timeout, if it is enabled.
    watchdog_timeout: Option<Duration>,
    pinged_at: Option<Instant>,
    /// The message about the process's life that could not be sent yet.
    unsent: Option<String>,
}

impl ServiceManager {
    /// Returns the service manager that the environment of this process names.
    pub(crate) fn from_env() -> Self {
        Self {
            status: String::new(),
            watchdog_timeout: sd_notify::watchdog_enabled(),
            pinged_at: None,
            unsent: None,
        }
    }

    /// Reports that the daemon is ready, at start or after a reload.
    pub(crate) fn ready(&mut self) {
        self.send_lifecycle(&[NotifyState::Ready]);
    }

    /// Reports the start of a reload. [`ServiceManager::ready`] ends it,
    /// whether or not the configuration was applied.
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send_lifecycle(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("cannot read the monotonic clock: {error}"),
        }
    }

    /// Reports that the process stops within `span`.
    pub(crate) fn stopping(&mut self, span: Duration) {
        self.send_lifecycle(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(microseconds(span)),
        ]);
    }

    /// Reports that stopping takes up to `span` from now on.
    pub(crate) fn extend_stop_timeout(&mut self, span: Duration) {
        self.send_unsent();
        send(&to_message(&[NotifyState::ExtendTimeoutUsec(
            microseconds(span),
        )]));
    }

    /// Sets the status line, and sends it when it changes.
    pub(crate) fn set_status(&mut self, status: String) {
        self.send_unsent();
        if self.status != status && send(&to_message(&[NotifyState::Status(&status)])) {
            self.status = status;
        }
    }

    /// Pings the watchdog, if a ping is due.
    pub(crate) fn ping_watchdog(&mut self) {
        let Some(timeout) = self.watchdog_timeout else {
            return;
        };
        let is_due = |at: Instant| at.elapsed() >= timeout / PINGS_PER_TIMEOUT;
        if self.pinged_at.is_none_or(is_due) && send(&to_message(&[NotifyState::Watchdog])) {
            self.pinged_at = Some(Instant::now());
        }
    }

    /// Sends a change of the process's life, which replaces one that was not sent yet.
    fn send_lifecycle(&mut self, states: &[NotifyState<'_>]) {
        self.unsent = Some(to_message(states));
        self.send_unsent();
    }

    fn send_unsent(&mut self) {
        self.unsent = self.unsent.take().filter(|message| !send(message));
    }
}

fn microseconds(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn to_message(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

/// Sends a message. Returns false if it has to be sent again, since the queue is full.
fn send(message: &str) -> bool {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return true;
    };
    match try_send(&path, message) {
        Ok(()) => true,
        Err(error) => {
            // rekeyd works without a service manager that listens.
            let reason = os_error::describe(&error);
            tracing::debug!("cannot notify the service manager: {reason}");
            error.kind() != io::ErrorKind::WouldBlock
        }
    }
}

fn try_send(path: &OsStr, message: &str) -> io::Result<()> {
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket
        .send_to_addr(message.as_bytes(), &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the messages that wait in the queue.
    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut messages = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        messages
    }

    #[test]
    fn full_queue_is_not_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let fill = || {
            let mut sent = 0;
            while let Ok(()) = try_send(path.as_os_str(), "STATUS=full\n") {
                sent += 1;
            }
            sent
        };
        let sent = fill();
        assert!(sent > 0);
        let error = try_send(path.as_os_str(), "READY=1\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(received(&socket).len(), sent);
        try_send(path.as_os_str(), "READY=1\n").unwrap();
        assert_eq!(received(&socket), ["READY=1\n"]);
    }

    #[test]
    fn abstract_socket_is_reached() {
        let name = format!("rekeyd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        try_send(OsStr::new(&format!("@{name}")), "READY=1\n").unwrap();
        assert_eq!(received(&socket), ["READY=1\n"]);
    }
}
