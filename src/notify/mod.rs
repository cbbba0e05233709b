//! How people are told what is wrong: by a webhook, a command, a mail.
//!
//! All three are given the same JSON ([`message`]). Deliberately not here: what
//! is told to whom, and when it is tried again.

pub mod command;
pub mod message;
pub mod record;
pub mod sendmail;
pub mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::core::duration;
use crate::core::notice::{Notice, NotifierId};
use crate::core::settings::{NotifySettings, NotifyTarget};
use crate::host::aside;
use crate::host::program::{Ended, How};

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Tells the time of a try.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Somebody who can be told.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its type and target.
    fn id(&self) -> &NotifierId;

    /// What is wrong with it as far as this host can see without telling
    /// anybody. Every problem at once, each in words that say what would be
    /// right.
    async fn inspect(&self) -> Vec<String>;

    /// Whether it could be reached now; nothing is sent.
    ///
    /// # Errors
    /// Why not, in words.
    async fn reach(&self) -> Result<(), String> {
        Ok(())
    }

    /// Tells once, within [`TIMEOUT`]. `host` is who tells.
    ///
    /// # Errors
    /// Why nobody may have heard it, in words, masked.
    async fn tell(&self, notice: &Notice, host: &str) -> Result<(), String>;
}

/// A notifier that is ready to tell.
#[must_use]
pub fn of(settings: &NotifySettings, now: &Now) -> Arc<dyn Notifier> {
    let id = settings.listener.id.clone();
    match &settings.target {
        NotifyTarget::Webhook(target) => {
            Arc::new(webhook::Webhook::new(id, target, Arc::clone(now)))
        }
        NotifyTarget::Command(target) => Arc::new(command::Command::new(id, target.argv.clone())),
        NotifyTarget::Sendmail(mail) => {
            let program = PathBuf::from(sendmail::SENDMAIL);
            Arc::new(sendmail::Sendmail::new(id, mail, program))
        }
        NotifyTarget::Record(path) => Arc::new(record::Record::new(id, path.clone())),
    }
}

/// What the end of a program says; what it wrote goes to the log.
fn judge(id: &NotifierId, program: &str, ended: &Ended) -> Result<(), String> {
    for line in ended.out.shown() {
        tracing::info!(notifier = %id, "{program} says: {line}");
    }
    for line in ended.err.shown() {
        tracing::warn!(notifier = %id, "{program} complains: {line}");
    }
    let quoted = ended.quoted();
    Err(match &ended.how {
        How::Code(0) => return Ok(()),
        How::NotStarted(why) => why.clone(),
        How::Code(code) => format!("{program} ended with exit code {code}{quoted}"),
        How::Signal(signal) => format!("{program} was ended by signal {signal}{quoted}"),
        How::TimedOut => format!(
            "{program} did not end within {} and was killed{quoted}",
            duration::to_text(TIMEOUT)
        ),
        How::Failed(why) => format!("{program} was started, and then the system failed: {why}"),
    })
}

/// Asks off the loop's thread: file systems may hang.
async fn off_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    aside(what, TIMEOUT, work).await
}
