//! What the service manager is told: systemd, or nobody where there is none.
//!
//! The watchdog is fed by the loop itself and by nothing beside it: a loop that
//! makes no progress is to be ended.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A watchdog is fed so many times in the time it allows.
const PINGS_PER_TIMEOUT: u32 = 3;

/// The service manager, and what it was told last.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    status: String,
    /// How long it waits for a sign of life.
    watchdog_timeout: Option<Duration>,
    pinged_at: Option<Instant>,
}

impl ServiceManager {
    /// The one that started this process, as the environment says.
    pub(crate) fn from_env() -> Self {
        Self {
            status: String::new(),
            watchdog_timeout: sd_notify::watchdog_enabled(),
            pinged_at: None,
        }
    }

    /// The process does its work from now on, or does it again.
    pub(crate) fn ready(&mut self) {
        send_state(&[NotifyState::Ready]);
    }

    /// The configuration is being read anew. [`ServiceManager::ready`] ends that,
    /// whether or not it was taken.
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send_state(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("the monotonic clock cannot be asked: {error}"),
        }
    }

    /// The process ends, within `span` at most.
    pub(crate) fn stopping(&mut self, span: Duration) {
        send_state(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(microseconds(span)),
        ]);
    }

    /// The process still ends, and takes `span` more at most.
    pub(crate) fn extend_stop_timeout(&mut self, span: Duration) {
        send_state(&[NotifyState::ExtendTimeoutUsec(microseconds(span))]);
    }

    /// What it shows for people, in one line; told when it changes.
    pub(crate) fn set_status(&mut self, status: String) {
        if self.status != status {
            send_state(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// A sign of life.
    pub(crate) fn ping_watchdog(&mut self) {
        let Some(patience) = self.watchdog_timeout else {
            return;
        };
        let hungry = |at: Instant| at.elapsed() >= patience / PINGS_PER_TIMEOUT;
        if self.pinged_at.is_none_or(hungry) {
            send_state(&[NotifyState::Watchdog]);
            self.pinged_at = Some(Instant::now());
        }
    }
}

fn microseconds(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn send_state(states: &[NotifyState<'_>]) {
    // A service manager that is away is no reason to stop.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}
