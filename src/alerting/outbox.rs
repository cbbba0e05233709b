//! The transactional outbox: notifications on their way into the ledger. A
//! batch takes all that are pending; one that could not be written is written
//! again unchanged.

use tokio::sync::watch;

use crate::core::notification::{ChannelId, Notification};
use crate::ledger::OutboxEntry;

/// The state of the outbox for the dispatcher's workers.
#[derive(Debug, Clone, Default)]
pub struct OutboxSignal {
    /// Grows with each notification that is written to the ledger.
    pub written: u64,
    /// Grows when channels have accepted a test.
    pub accepted_tests: u64,
    /// Notifications that bypass the ledger, since they report its own failure.
    pub direct: Vec<(Notification, Vec<ChannelId>)>,
}

/// Wakes the dispatcher's workers.
pub(crate) struct OutboxWaker(watch::Sender<OutboxSignal>);

impl OutboxWaker {
    /// Has the workers send at once, because channels have accepted a test.
    pub(crate) fn wake_after_test(&self) {
        self.0
            .send_modify(|signal| signal.accepted_tests = signal.accepted_tests.wrapping_add(1));
    }
}

/// The result of writing a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// The ledger holds the batch.
    Written,
    /// The ledger could not be written; the batch is pending again.
    Failed,
    /// The ledger refused the batch, which is dropped.
    Rejected,
}

/// The notifications to be written, and the signal for the dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Vec<OutboxEntry>,
    in_flight: Vec<OutboxEntry>,
    signal: watch::Sender<OutboxSignal>,
}

impl Outbox {
    /// Returns a receiver of the signal.
    pub(crate) fn subscribe(&self) -> watch::Receiver<OutboxSignal> {
        self.signal.subscribe()
    }

    /// Returns what wakes the dispatcher's workers.
    pub(crate) fn waker(&self) -> OutboxWaker {
        OutboxWaker(self.signal.clone())
    }

    /// Adds an entry to the next batch.
    pub(crate) fn enqueue(&mut self, entry: OutboxEntry) {
        self.pending.push(entry);
    }

    /// Sends a notification without writing it to the ledger.
    pub(crate) fn send_direct(&self, notification: Notification, channels: Vec<ChannelId>) {
        self.signal
            .send_modify(|signal| signal.direct.push((notification, channels)));
    }

    /// Drops the pending entries, since no channel is configured.
    pub(crate) fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// Returns the next batch; empty while another one is being written.
    pub(crate) fn take_batch(&mut self) -> Vec<OutboxEntry> {
        if self.in_flight.is_empty() {
            self.in_flight = std::mem::take(&mut self.pending);
            return self.in_flight.clone();
        }
        Vec::new()
    }

    /// Completes the batch that was taken last.
    pub(crate) fn finish_batch(&mut self, outcome: WriteOutcome) {
        let batch = std::mem::take(&mut self.in_flight);
        match outcome {
            WriteOutcome::Written => {
                let count = batch
                    .iter()
                    .filter(|entry| !entry.channels.is_empty())
                    .count();
                if count > 0 {
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.signal
                        .send_modify(|signal| signal.written = signal.written.wrapping_add(count));
                }
            }
            WriteOutcome::Failed => {
                let newer = std::mem::replace(&mut self.pending, batch);
                self.pending.extend(newer);
            }
            WriteOutcome::Rejected => {}
        }
    }
}
