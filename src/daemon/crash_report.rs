//! The report of how the process before ended: in the log, the ledger and a notification.

use std::path::Path;

use crate::core::crash::Crash;
use crate::core::os_error;
use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::platform::clock::Clock;
use crate::platform::crash::CrashFile;

/// Reports the crash that the record beside a ledger tells of, if there is one.
pub(super) async fn report_last_crash(
    path: &Path,
    ledger: &Ledger,
    engine: &mut Engine,
    clock: &dyn Clock,
) {
    let file = match CrashFile::read(path) {
        Ok(Some(file)) => file,
        Ok(None) => return,
        Err(error) => return tracing::warn!("{error}"),
    };
    let crash = Crash {
        // The clock may have been set back.
        at: file.crash.at.min(clock.now()),
        ..file.crash.clone()
    };
    if let Err(error) = ledger.record_crash(crash.clone()).await {
        // The next start reports it again.
        return tracing::error!("{crash}; this cannot be recorded: {error}");
    }
    tracing::error!("{crash}; hint: report it with this line");
    engine.notify_of_crash(&crash);
    if let Err(error) = file.remove() {
        let reason = os_error::describe(&error);
        tracing::warn!("cannot remove the record of the last crash: {reason}");
    }
}
