//! `rekeyd demo`: everything at work in one process, without an account: a
//! sandbox that plays the Admin API, a receiver of webhooks, and the real
//! daemon between them.

mod folder;
mod introduction;
mod record;
mod rehearse;
mod replace;
mod show;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Failure, log};
use crate::core::duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Where its files go; a new folder beside the system's temporary files if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long it goes on; until it is interrupted if not given
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    limit: Option<Duration>,
    /// Rehearses the keys and schedules of this configuration: with a ledger, an admin key and
    /// files of its own, and webhooks and commands recorded instead of called
    #[arg(long, value_name = "CONFIG")]
    rehearse: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn go(&self) -> Result<(), Failure> {
        log::start_story();
        let dir = self.dir.as_deref();
        super::block_on(async {
            match &self.rehearse {
                Some(file) => rehearse::rehearse(file, dir, self.limit).await,
                None => show::show(dir, self.limit).await,
            }
        })
    }
}
