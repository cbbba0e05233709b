//! A file to which each notification is added as a line: the stand-in for every
//! channel in a rehearsal.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::alerting::channel::support::run_off_thread;
use crate::alerting::channel::target::{ChannelTarget, ClockFn};
use crate::alerting::channel::{Channel, ChannelError, message};
use crate::core::notification::{ChannelId, Notification};

/// The file that a rehearsal records notifications in. No configuration names
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChannelTarget {
    /// The file.
    pub path: PathBuf,
}

impl ChannelTarget for FileChannelTarget {
    fn type_name(&self) -> &'static str {
        "record"
    }

    fn identity(&self) -> String {
        self.path.display().to_string()
    }

    fn build(self: Arc<Self>, id: ChannelId, _: &ClockFn) -> Arc<dyn Channel> {
        Arc::new(FileChannel::new(id, self.path.clone()))
    }
}

/// A file to which each notification is added.
#[derive(Debug)]
pub struct FileChannel {
    id: ChannelId,
    path: PathBuf,
}

impl FileChannel {
    /// Adds to `path`, which is created with the first notification.
    #[must_use]
    pub const fn new(id: ChannelId, path: PathBuf) -> Self {
        Self { id, path }
    }
}

#[async_trait]
impl Channel for FileChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        Vec::new()
    }

    async fn send(&self, notice: &Notification, host: &str) -> Result<(), ChannelError> {
        let mut line = message::to_json(notice, host)?;
        line.push(b'\n');
        let path = self.path.clone();
        let shown = path.display().to_string();
        let written = run_off_thread(&shown, move || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| file.write_all(&line))
        });
        let written = written.await?;
        written.map_err(|error| ChannelError::host(format!("cannot record in {shown}: {error}")))
    }
}
