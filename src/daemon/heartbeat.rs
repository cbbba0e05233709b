//! The daemon's heartbeat, which the watchdog, `/healthz` and the control socket read.
//!
//! It beats at each pass of the event loop that asked the engine what is due and took what had
//! ended, as long as the engine keeps pace ([`crate::engine::Engine::keeps_pace`]). Rest, a
//! condition, a sink that hangs and a slow disk do not stop it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::ticker::MAX_SLEEP;

/// The time without a beat after which the main loop counts as stuck: its longest rest, and
/// what a pass may take on a busy host.
const MAX_SILENCE: Duration = MAX_SLEEP.saturating_add(Duration::from_secs(10));

/// The heartbeat, shared by the event loop and those who read it.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat(Arc<Mutex<Instant>>);

impl Default for Heartbeat {
    /// Returns a heartbeat that beats now.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Heartbeat {
    /// Records a beat.
    pub(crate) fn beat(&self) {
        *self.last() = Instant::now();
    }

    /// Returns whether the main loop is alive.
    ///
    /// # Errors
    /// For how long it was silent, if that is too long, as a text for people.
    pub(crate) fn check(&self) -> Result<(), String> {
        let silence = self.last().elapsed();
        if silence <= MAX_SILENCE {
            return Ok(());
        }
        Err(format!(
            "the main loop does not respond: it last kept pace {} s ago",
            silence.as_secs()
        ))
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_reported_until_the_next_beat() {
        let heartbeat = Heartbeat::default();
        let reader = heartbeat.clone();
        tokio::time::advance(MAX_SLEEP).await;
        assert_eq!(reader.check(), Ok(()), "the longest rest");
        tokio::time::advance(Duration::from_secs(11)).await;
        let problem = reader.check().unwrap_err();
        assert!(problem.ends_with("41 s ago"), "{problem}");
        heartbeat.beat();
        assert_eq!(reader.check(), Ok(()));
    }
}
