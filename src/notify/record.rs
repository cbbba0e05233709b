//! A file to which each notice is added as a line: of a rehearsal, where
//! nobody is told.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::core::notice::{Notice, NotifierId};
use crate::notify::{Notifier, message, off_thread};

/// A file that is told.
#[derive(Debug)]
pub struct Record {
    id: NotifierId,
    path: PathBuf,
}

impl Record {
    /// Adds to `path`, which is made when there is something to tell.
    #[must_use]
    pub const fn new(id: NotifierId, path: PathBuf) -> Self {
        Self { id, path }
    }
}

#[async_trait]
impl Notifier for Record {
    fn id(&self) -> &NotifierId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        Vec::new()
    }

    async fn tell(&self, notice: &Notice, host: &str) -> Result<(), String> {
        let mut line = message::body(notice, host)?;
        line.push(b'\n');
        let path = self.path.clone();
        let shown = path.display().to_string();
        let written = off_thread(&shown, move || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| file.write_all(&line))
        });
        let written = written.await?;
        written.map_err(|error| format!("cannot record in {shown}: {error}"))
    }
}
