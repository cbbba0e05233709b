//! How people are told what is wrong: by a webhook, a command, a mail.
//!
//! All three are given the same JSON ([`message`]). Deliberately not here: what
//! is told to whom, and when it is tried again.

pub mod command;
pub mod error;
pub mod file;
pub mod message;
pub mod registry;
pub mod sendmail;
pub mod target;
pub mod webhook;

use std::time::Duration;

use async_trait::async_trait;

use crate::core::notification::{ChannelId, Notification};
use crate::platform::process::{ExitKind, ProcessExit};
use crate::platform::run_blocking;

pub use self::error::{ChannelError, ChannelErrorKind};

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody who can be told.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Its type and target.
    fn id(&self) -> &ChannelId;

    /// What is wrong with it as far as this host can see without telling
    /// anybody. Every problem at once, each in words that say what would be
    /// right.
    async fn check(&self) -> Vec<ChannelError>;

    /// Whether it could be reached now; nothing is sent.
    ///
    /// # Errors
    /// Why not, in words.
    async fn check_reachable(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    /// Tells once, within [`TIMEOUT`]. `host` is who tells.
    ///
    /// # Errors
    /// Why nobody may have heard it, in words, masked.
    async fn send(&self, notice: &Notification, host: &str) -> Result<(), ChannelError>;
}

/// What the end of a program says; what it wrote goes to the log.
fn exit_result(id: &ChannelId, program: &str, ended: &ProcessExit) -> Result<(), ChannelError> {
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
async fn run_off_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChannelError> {
    let describe = || format!("looking at {what}");
    Ok(run_blocking(describe, TIMEOUT, work).await?)
}

/// The problem that a check off the event loop's thread found, if any.
async fn problem_of(
    what: &str,
    check: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<ChannelError> {
    match run_off_thread(what, check).await {
        Ok(problem) => problem.map(ChannelError::host),
        Err(error) => Some(error),
    }
}
