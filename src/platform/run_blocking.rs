//! Work on files off the event loop's thread: file systems may hang.

use std::time::Duration;

use crate::core::duration;

/// Why blocking work gave no result. The first field says what was done, such
/// as `looking at /etc/key`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// It did not end in time.
    #[error(
        "{work} did not come back within {}; see whether its file system hangs",
        duration::to_text(*limit)
    )]
    TimedOut {
        /// What was done.
        work: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It panicked.
    #[error("{work} ended unexpectedly; this is a mistake in rekeyd, please report it")]
    Panicked {
        /// What was done.
        work: String,
    },
}

/// Runs `work` on a blocking thread and waits for at most `limit`. `describe`
/// names the work for an error.
///
/// # Errors
/// It did not end in time, or panicked.
pub(crate) async fn run_blocking<T: Send + 'static>(
    describe: impl FnOnce() -> String,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    let task = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(BlockingError::Panicked { work: describe() }),
        Err(_) => Err(BlockingError::TimedOut {
            work: describe(),
            limit,
        }),
    }
}
