//! How people are told what is wrong: by a webhook, a command, a mail.
//!
//! All three are given the same JSON ([`message`]). Deliberately not here: what
//! is told to whom, and when it is tried again.

pub mod command;
pub mod file;
pub mod message;
pub mod registry;
pub mod sendmail;
pub mod target;
pub mod webhook;

use std::time::Duration;

use async_trait::async_trait;

use crate::core::duration;
use crate::core::notification::{ChannelId, Notification};
use crate::platform::process::{ExitKind, ProcessExit};
use crate::platform::run_blocking;

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
    async fn check(&self) -> Vec<String>;

    /// Whether it could be reached now; nothing is sent.
    ///
    /// # Errors
    /// Why not, in words.
    async fn check_reachable(&self) -> Result<(), String> {
        Ok(())
    }

    /// Tells once, within [`TIMEOUT`]. `host` is who tells.
    ///
    /// # Errors
    /// Why nobody may have heard it, in words, masked.
    async fn send(&self, notice: &Notification, host: &str) -> Result<(), String>;
}

/// What the end of a program says; what it wrote goes to the log.
fn exit_result(id: &ChannelId, program: &str, ended: &ProcessExit) -> Result<(), String> {
    for line in ended.stdout.display_lines() {
        tracing::info!(notifier = %id, "{program} says: {line}");
    }
    for line in ended.stderr.display_lines() {
        tracing::warn!(notifier = %id, "{program} complains: {line}");
    }
    let quoted = ended.error_suffix();
    Err(match &ended.kind {
        ExitKind::Code(0) => return Ok(()),
        ExitKind::NotStarted(why) => why.clone(),
        ExitKind::Code(code) => format!("{program} ended with exit code {code}{quoted}"),
        ExitKind::Signal(signal) => format!("{program} was ended by signal {signal}{quoted}"),
        ExitKind::TimedOut => format!(
            "{program} did not end within {} and was killed{quoted}",
            duration::to_text(TIMEOUT)
        ),
        ExitKind::Failed(why) => {
            format!("{program} was started, and then the system failed: {why}")
        }
    })
}

/// Asks off the loop's thread: file systems may hang.
async fn run_off_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    run_blocking(what, TIMEOUT, work).await
}
