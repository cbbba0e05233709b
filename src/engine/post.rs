//! Notices on their way into the ledger: one commit after the other, as many
//! at once as there are, and again as they were when it could not be written.

use tokio::sync::watch;

use crate::core::notice::{Notice, NotifierId};
use crate::ledger::Telling;

/// What has been written for those who deliver notices.
#[derive(Debug, Clone, Default)]
pub struct Posted {
    /// Grows with each notice that stands in the ledger.
    pub written: u64,
    /// What cannot stand there, since it is the ledger that is wrong: at most
    /// a beginning and an end in a process.
    pub direct: Vec<(Notice, Vec<NotifierId>)>,
}

/// What became of notices that were to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// They stand in the ledger.
    Done,
    /// The ledger could not be written: later.
    Failed,
    /// The ledger does not take them.
    Refused,
}

/// What is to be recorded, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Post {
    unrecorded: Vec<Telling>,
    under_way: Vec<Telling>,
    posted: watch::Sender<Posted>,
}

impl Post {
    /// Where it is told that something was written.
    pub(crate) fn posted(&self) -> watch::Receiver<Posted> {
        self.posted.subscribe()
    }

    /// To be recorded.
    pub(crate) fn add(&mut self, telling: Telling) {
        self.unrecorded.push(telling);
    }

    /// To be told past the ledger.
    pub(crate) fn hand_over(&self, notice: Notice, to: Vec<NotifierId>) {
        self.posted
            .send_modify(|posted| posted.direct.push((notice, to)));
    }

    /// Nobody is to be told any more.
    pub(crate) fn forget(&mut self) {
        self.unrecorded.clear();
    }

    /// What is to be recorded now; nothing while something is being recorded.
    pub(crate) fn take_unrecorded(&mut self) -> Vec<Telling> {
        if self.under_way.is_empty() {
            self.under_way = std::mem::take(&mut self.unrecorded);
            return self.under_way.clone();
        }
        Vec::new()
    }

    /// What was to be recorded came to this.
    pub(crate) fn recorded(&mut self, outcome: Recorded) {
        let tellings = std::mem::take(&mut self.under_way);
        match outcome {
            Recorded::Done => {
                let count = tellings.iter().filter(|one| !one.to.is_empty()).count();
                if count > 0 {
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.posted
                        .send_modify(|posted| posted.written = posted.written.wrapping_add(count));
                }
            }
            Recorded::Failed => {
                let later = std::mem::replace(&mut self.unrecorded, tellings);
                self.unrecorded.extend(later);
            }
            Recorded::Refused => {}
        }
    }
}
