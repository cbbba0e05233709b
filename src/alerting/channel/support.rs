//! What several types of channel share.

use super::contract::TIMEOUT;
use super::error::ChannelError;
use crate::core::notification::ChannelId;
use crate::platform::process::{ExitKind, ProcessExit};
use crate::platform::run_blocking;

/// The result of a program that ended. Logs what the program wrote.
pub(super) fn exit_result(
    id: &ChannelId,
    program: &str,
    ended: &ProcessExit,
) -> Result<(), ChannelError> {
    for line in ended.stdout.display_lines() {
        tracing::info!(notifier = %id, "{program} says: {line}");
    }
    for line in ended.stderr.display_lines() {
        tracing::warn!(notifier = %id, "{program} complains: {line}");
    }
    match ended.kind {
        ExitKind::Code(0) => Ok(()),
        ExitKind::NotStarted(_)
        | ExitKind::Code(_)
        | ExitKind::Signal(_)
        | ExitKind::TimedOut
        | ExitKind::Failed(_) => {
            let message = ended.describe(program, TIMEOUT);
            Err(ChannelError::of_exit(ended, message))
        }
    }
}

/// Checks a file off the event loop's thread: file systems may hang.
pub(super) async fn run_off_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChannelError> {
    let describe = || format!("looking at {what}");
    Ok(run_blocking(describe, TIMEOUT, work).await?)
}

/// The problem that a check off the event loop's thread found, if any.
pub(super) async fn check_off_thread(
    what: &str,
    check: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<ChannelError> {
    match run_off_thread(what, check).await {
        Ok(problem) => problem.map(ChannelError::host),
        Err(error) => Some(error),
    }
}
