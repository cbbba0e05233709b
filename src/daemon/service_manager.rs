//! Reports to the service manager through `sd_notify`. Without a service
//! manager nothing is sent.
//!
//! Only the event loop pings the watchdog, so that a loop that makes no
//! progress is ended.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The number of pings within the watchdog's timeout.
const PINGS_PER_TIMEOUT: u32 = 3;

/// The service manager, and the state that was sent to it last.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    status: String,
    /// The watchdog's timeout, if it is enabled.
    watchdog_timeout: Option<Duration>,
    pinged_at: Option<Instant>,
}

impl ServiceManager {
    /// Returns the service manager that the environment of this process names.
    pub(crate) fn from_env() -> Self {
        Self {
            status: String::new(),
            watchdog_timeout: sd_notify::watchdog_enabled(),
            pinged_at: None,
        }
    }

    /// Reports that the daemon is ready, at start or after a reload.
    pub(crate) fn ready(&mut self) {
        send_state(&[NotifyState::Ready]);
    }

    /// Reports the start of a reload. [`ServiceManager::ready`] ends it,
    /// whether or not the configuration was applied.
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send_state(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("the monotonic clock cannot be asked: {error}"),
        }
    }

    /// Reports that the process stops within `span`.
    pub(crate) fn stopping(&mut self, span: Duration) {
        send_state(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(microseconds(span)),
        ]);
    }

    /// Reports that stopping takes up to `span` from now on.
    pub(crate) fn extend_stop_timeout(&mut self, span: Duration) {
        send_state(&[NotifyState::ExtendTimeoutUsec(microseconds(span))]);
    }

    /// Sets the status line, and sends it when it changes.
    pub(crate) fn set_status(&mut self, status: String) {
        if self.status != status {
            send_state(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Pings the watchdog, if a ping is due.
    pub(crate) fn ping_watchdog(&mut self) {
        let Some(timeout) = self.watchdog_timeout else {
            return;
        };
        let is_due = |at: Instant| at.elapsed() >= timeout / PINGS_PER_TIMEOUT;
        if self.pinged_at.is_none_or(is_due) {
            send_state(&[NotifyState::Watchdog]);
            self.pinged_at = Some(Instant::now());
        }
    }
}

fn microseconds(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn send_state(states: &[NotifyState<'_>]) {
    // rekeyd works without a service manager that listens.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}
