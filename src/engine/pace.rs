//! Whether the engine keeps pace: it takes what has ended and begins what is due. This is
//! what the daemon's heartbeat stands for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::condition::Condition;
use crate::engine::scheduler::Engine;

/// How long a result or a due key may wait for the engine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

impl Engine {
    /// Returns whether no task ended more than 20 seconds ago whose result was not taken, and
    /// no key has been due for so long that nothing holds back. Called after each
    /// [`Engine::start_due`]. The limits of places, a condition and a stop hold keys back;
    /// what a worker waits for is its own.
    pub fn keeps_pace(&mut self) -> bool {
        let now = Instant::now();
        self.watch_due_keys(now);
        let untaken = self.running.first_untaken();
        let mut waits = untaken.into_iter().chain(self.due_watch.values().copied());
        waits.all(|since| now.duration_since(since) <= PATIENCE)
    }

    /// Notes the keys at the heads of the queues that could begin, and forgets those that have
    /// begun.
    fn watch_due_keys(&mut self, now: Instant) {
        let wall_time = self.services.clock.now();
        let mut watched = std::mem::take(&mut self.due_watch);
        let is_stopping = self.stopping.load(Ordering::Relaxed);
        if is_stopping || self.services.conditions.is_active(Condition::Ledger) {
            return;
        }
        watched.retain(|entry, _| entry.0 <= wall_time && self.run_queue.contains(entry));
        for entry in self.run_queue.heads() {
            if entry.0 <= wall_time && !watched.contains_key(entry) {
                watched.insert(entry.clone(), now);
            }
        }
        self.due_watch = watched;
    }
}
