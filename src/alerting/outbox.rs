//! Notices on their way into the ledger: one commit after the other, as many
//! at once as there are, and again as they were when it could not be written.

use tokio::sync::watch;

use crate::core::notification::{ChannelId, Notification};
use crate::ledger::OutboxEntry;

/// What has been written for those who deliver notices.
#[derive(Debug, Clone, Default)]
pub struct OutboxSignal {
    /// Grows with each notice that stands in the ledger.
    pub written: u64,
    /// What cannot stand there, since it is the ledger that is wrong: at most
    /// a beginning and an end in a process.
    pub direct: Vec<(Notification, Vec<ChannelId>)>,
}

/// What became of notices that were to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// They stand in the ledger.
    Written,
    /// The ledger could not be written: later.
    Failed,
    /// The ledger does not take them.
    Rejected,
}

/// What is to be recorded, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Vec<OutboxEntry>,
    in_flight: Vec<OutboxEntry>,
    signal: watch::Sender<OutboxSignal>,
}

impl Outbox {
    /// Where it is told that something was written.
    pub(crate) fn subscribe(&self) -> watch::Receiver<OutboxSignal> {
        self.signal.subscribe()
    }

    /// To be recorded.
    pub(crate) fn enqueue(&mut self, telling: OutboxEntry) {
        self.pending.push(telling);
    }

    /// To be told past the ledger.
    pub(crate) fn send_direct(&self, notice: Notification, to: Vec<ChannelId>) {
        self.signal
            .send_modify(|posted| posted.direct.push((notice, to)));
    }

    /// Nobody is to be told any more.
    pub(crate) fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// What is to be recorded now; nothing while something is being recorded.
    pub(crate) fn take_batch(&mut self) -> Vec<OutboxEntry> {
        if self.in_flight.is_empty() {
            self.in_flight = std::mem::take(&mut self.pending);
            return self.in_flight.clone();
        }
        Vec::new()
    }

    /// What was to be recorded came to this.
    pub(crate) fn finish_batch(&mut self, outcome: WriteOutcome) {
        let tellings = std::mem::take(&mut self.in_flight);
        match outcome {
            WriteOutcome::Written => {
                let count = tellings
                    .iter()
                    .filter(|one| !one.channels.is_empty())
                    .count();
                if count > 0 {
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.signal
                        .send_modify(|posted| posted.written = posted.written.wrapping_add(count));
                }
            }
            WriteOutcome::Failed => {
                let later = std::mem::replace(&mut self.pending, tellings);
                self.pending.extend(later);
            }
            WriteOutcome::Rejected => {}
        }
    }
}
