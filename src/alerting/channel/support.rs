//! Helpers that several types of channel share.

use super::contract::TIMEOUT;
use super::error::ChannelError;
use crate::core::notification::ChannelId;
use crate::platform::process::{ExitKind, ProcessExit};
use crate::platform::run_blocking;

/// Converts the exit of a channel's program into a result, and logs its output.
pub(super) fn exit_result(
    id: &ChannelId,
    program: &str,
    exit: &ProcessExit,
) -> Result<(), ChannelError> {
    for line in exit.stdout.display_lines() {
        tracing::info!(notifier = %id, "{program}: {line}");
    }
    for line in exit.stderr.display_lines() {
        tracing::warn!(notifier = %id, "{program}: {line}");
    }
    match exit.kind {
        ExitKind::Code(0) => Ok(()),
        ExitKind::NotStarted(_)
        | ExitKind::Code(_)
        | ExitKind::Signal(_)
        | ExitKind::TimedOut
        | ExitKind::Failed(_) => {
            let message = exit.describe(program, TIMEOUT);
            Err(ChannelError::from_exit(exit, message))
        }
    }
}

/// Runs file work on a blocking thread, since file systems may hang. `subject`
/// names the file in an error.
pub(super) async fn run_off_thread<T: Send + 'static>(
    subject: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChannelError> {
    let describe = || format!("checking {subject}");
    Ok(run_blocking(describe, TIMEOUT, work).await?)
}

/// Runs a check as [`run_off_thread`] does. Returns the problem it found, if
/// any.
pub(super) async fn check_off_thread(
    subject: &str,
    check: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<ChannelError> {
    match run_off_thread(subject, check).await {
        Ok(problem) => problem.map(ChannelError::host),
        Err(error) => Some(error),
    }
}
