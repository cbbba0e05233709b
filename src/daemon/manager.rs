//! What the service manager is told: systemd, or nobody where there is none.
//!
//! The watchdog is fed by the loop itself and by nothing beside it: a loop that
//! makes no progress is to be ended.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A watchdog is fed so many times in the time it allows.
const FEEDS: u32 = 3;

/// The service manager, and what it was told last.
#[derive(Debug)]
pub(crate) struct Manager {
    status: String,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
    fed_at: Option<Instant>,
}

impl Manager {
    /// The one that started this process, as the environment says.
    pub(crate) fn of_this_process() -> Self {
        Self {
            status: String::new(),
            watchdog: sd_notify::watchdog_enabled(),
            fed_at: None,
        }
    }

    /// The process does its work from now on, or does it again.
    pub(crate) fn ready(&mut self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read anew. [`Manager::ready`] ends that,
    /// whether or not it was taken.
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("the monotonic clock cannot be asked: {error}"),
        }
    }

    /// The process ends, within `span` at most.
    pub(crate) fn stopping(&mut self, span: Duration) {
        tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(microseconds(span)),
        ]);
    }

    /// The process still ends, and takes `span` more at most.
    pub(crate) fn still_stopping(&mut self, span: Duration) {
        tell(&[NotifyState::ExtendTimeoutUsec(microseconds(span))]);
    }

    /// What it shows for people, in one line; told when it changes.
    pub(crate) fn show(&mut self, status: String) {
        if self.status != status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// A sign of life.
    pub(crate) fn feed(&mut self) {
        let Some(patience) = self.watchdog else {
            return;
        };
        let hungry = |at: Instant| at.elapsed() >= patience / FEEDS;
        if self.fed_at.is_none_or(hungry) {
            tell(&[NotifyState::Watchdog]);
            self.fed_at = Some(Instant::now());
        }
    }
}

fn microseconds(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn tell(states: &[NotifyState<'_>]) {
    // A service manager that is away is no reason to stop.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}
