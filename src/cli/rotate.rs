//! `rekeyd rotate`: a rotation on an operator's request.

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::execute;
use crate::cli::failure::Failure;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct RotateCommand {
    /// The keys to rotate
    #[arg(value_name = "KEY", required_unless_present = "all")]
    keys: Vec<String>,
    /// Every key of the configuration
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Why, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Revoke every older credential as soon as the new one is current, overlap or not
    #[arg(long)]
    revoke_previous_now: bool,
    /// Also over a key in a sink that the ledger neither wrote nor adopted
    #[arg(long)]
    replace: bool,
    /// End at once, and let the running daemon go on
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl RotateCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Rotate {
            keys: self.keys.clone(),
            all: self.all,
            revoke_previous_now: self.revoke_previous_now,
            replace: self.replace,
            no_wait: self.no_wait,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}
