//! A look at files off the loop's thread: file systems may hang.

use std::time::Duration;

use crate::core::duration;

/// Has `work` look at `what` on a thread aside, and waits no longer than
/// `limit` for it.
///
/// # Errors
/// It did not come back or panicked, in words.
pub(crate) async fn run_blocking<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let work = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(format!(
            "looking at {what} ended unexpectedly; this is a mistake in rekeyd, please report it"
        )),
        Err(_) => Err(format!(
            "looking at {what} did not come back within {}; see whether its file system hangs",
            duration::to_text(limit)
        )),
    }
}
