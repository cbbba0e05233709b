//! The report of how the process before ended: in the log, the ledger and a notification.

use std::path::Path;

use crate::core::crash::Crash;
use crate::core::os_error;
use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::platform::clock::Clock;
use crate::platform::crash::CrashFile;

/// A crash that is in the log and the ledger, and of which nobody was notified yet.
pub(super) struct RecordedCrash {
    crash: Crash,
    /// The record of the process; none if that left no trace.
    file: Option<CrashFile>,
}

/// Logs and records the crash that the file beside a ledger describes, if there is one, or
/// that the process before was killed. This comes before the keys are read, where the next
/// process may crash again.
pub(super) async fn record_last_crash(
    path: &Path,
    ledger: &Ledger,
    clock: &dyn Clock,
) -> Option<RecordedCrash> {
    let file = match CrashFile::read(path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{error}");
            return None;
        }
    };
    let found = match &file {
        Some(file) => Some(file.crash.clone()),
        // A ledger that cannot be read does not keep the process from starting.
        None => ledger.killed_run().await.ok().flatten(),
    };
    let found = found?;
    let crash = Crash {
        // The clock may have been set back.
        at: found.at.min(clock.now()),
        ..found
    };
    if let Err(error) = ledger.record_crash(crash.clone()).await {
        // The next start reports it again.
        tracing::error!("{crash}; this cannot be recorded: {error}");
        return None;
    }
    if crash.is_without_trace() {
        tracing::error!("{crash}; hint: `journalctl -k` shows whether the kernel killed it");
    } else {
        tracing::error!("{crash}; hint: report it with this line");
    }
    Some(RecordedCrash { crash, file })
}

impl RecordedCrash {
    /// Notifies people, and removes the file.
    pub(super) fn notify(self, engine: &mut Engine) {
        engine.notify_of_crash(&self.crash);
        if let Some(Err(error)) = self.file.map(|file| file.remove()) {
            let reason = os_error::describe(&error);
            tracing::warn!("cannot remove the record of the last crash: {reason}");
        }
    }
}
