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
    file: CrashFile,
}

/// Logs and records the crash that the file beside a ledger describes, if there is one. This
/// comes before the keys are read, where the next process may crash again.
pub(super) async fn record_last_crash(
    path: &Path,
    ledger: &Ledger,
    clock: &dyn Clock,
) -> Option<RecordedCrash> {
    let file = match CrashFile::read(path) {
        Ok(file) => file?,
        Err(error) => {
            tracing::warn!("{error}");
            return None;
        }
    };
    let crash = Crash {
        // The clock may have been set back.
        at: file.crash.at.min(clock.now()),
        ..file.crash.clone()
    };
    if let Err(error) = ledger.record_crash(crash.clone()).await {
        // The next start reports it again.
        tracing::error!("{crash}; this cannot be recorded: {error}");
        return None;
    }
    tracing::error!("{crash}; hint: report it with this line");
    Some(RecordedCrash { crash, file })
}

impl RecordedCrash {
    /// Notifies people, and removes the file.
    pub(super) fn notify(self, engine: &mut Engine) {
        engine.notify_of_crash(&self.crash);
        if let Err(error) = self.file.remove() {
            let reason = os_error::describe(&error);
            tracing::warn!("cannot remove the record of the last crash: {reason}");
        }
    }
}
