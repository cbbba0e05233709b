//! `rekeyd pause` and `resume`: whether the schedule starts rotations.

use jiff::Timestamp;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::execute;
use crate::cli::failure::Failure;
use crate::cli::time_argument;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("selection").args(["key", "all"]).required(true))]
pub(crate) struct PauseCommand {
    /// Key to pause
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// All configured keys
    #[arg(long)]
    all: bool,
    /// End of the pause: a time (2026-12-01T00:00:00Z), a date or a duration (7d) [default: until
    /// `rekeyd resume`]
    #[arg(long, value_name = "TIME", value_parser = time_argument::parse_future)]
    until: Option<Timestamp>,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("selection").args(["key", "all"]).required(true))]
pub(crate) struct ResumeCommand {
    /// Key to resume
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// All configured keys
    #[arg(long)]
    all: bool,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl PauseCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Pause {
            keys: self.key.iter().cloned().collect(),
            all: self.all,
            until: self.until.map(|until| until.to_string()),
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}

impl ResumeCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Resume {
            keys: self.key.iter().cloned().collect(),
            all: self.all,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}
