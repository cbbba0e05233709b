//! A file that collects notifications, one a line: the substitute for every
//! channel in a rehearsal.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::alerting::channel::support::run_off_thread;
use crate::alerting::channel::target::{ChannelServices, ChannelTarget};
use crate::alerting::channel::{Channel, ChannelError, message};
use crate::core::notification::{ChannelId, Notification};
use crate::core::os_error;

/// The file that collects the notifications of a rehearsal. No configuration
/// names one.
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

    fn build(self: Arc<Self>, id: ChannelId, _: &ChannelServices) -> Arc<dyn Channel> {
        Arc::new(FileChannel::new(id, self.path.clone()))
    }
}

/// A channel that appends each notification to a file.
#[derive(Debug)]
pub struct FileChannel {
    id: ChannelId,
    path: PathBuf,
}

impl FileChannel {
    /// Returns a channel that appends to `path` and creates it when needed.
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

    async fn send(&self, notification: &Notification, host: &str) -> Result<(), ChannelError> {
        let mut line = message::to_json(notification, host)?;
        line.push(b'\n');
        let path = self.path.clone();
        let path_text = path.display().to_string();
        let append = run_off_thread(&path_text, move || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| file.write_all(&line))
        });
        let result = append.await?;
        result.map_err(|error| {
            let reason = os_error::describe(&error);
            ChannelError::host(format!("cannot append to {path_text}: {reason}"))
        })
    }
}
