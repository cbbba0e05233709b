//! `rekeyd demo`: the whole program in one process, without an account: a
//! sandbox of the Admin API, a receiver of webhooks, and the real daemon
//! between them.

mod follow_up;
mod narration;
mod rehearsal;
mod rehearsal_intro;
mod standalone;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::context::block_on;
use crate::cli::demo::narration::Narration;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::core::duration;
use crate::sandbox::demo::error::DemoError;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoCommand {
    /// Folder for its files [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long to run; the demo then finishes an open rotation first [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    limit: Option<Duration>,
    /// Rehearse the keys and schedules of this configuration: with its own ledger, admin key and
    /// files, and with webhooks and commands recorded instead of called
    #[arg(long, value_name = "CONFIG")]
    rehearse: Option<PathBuf>,
}

impl DemoCommand {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let narration = Narration::start();
        logging::init_demo_output(narration.clone());
        let dir = self.dir.as_deref();
        block_on(async {
            match &self.rehearse {
                Some(file) => rehearsal::rehearse(file, dir, self.limit, &narration).await,
                None => standalone::run_standalone(dir, self.limit, &narration).await,
            }
        })
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Service(error) => Self::Service(error),
            error @ (DemoError::Sandbox(_)
            | DemoError::Receiver(_)
            | DemoError::Io(_)
            | DemoError::Other(_)) => Self::Other(error.to_string()),
        }
    }
}
