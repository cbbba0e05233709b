//! `rekeyd retire`: the end of a key, and its undoing.

use std::io::IsTerminal as _;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::execute;
use crate::cli::failure::Failure;
use crate::cli::question::confirm;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct RetireCommand {
    /// Key to retire, whether it is still configured or not
    #[arg(value_name = "KEY")]
    key: String,
    /// Revoke its credentials now, without an overlap, even if they are on hold or in use
    #[arg(long)]
    now: bool,
    /// Rotate a retired key again
    #[arg(long, conflicts_with = "now")]
    undo: bool,
    /// With --now: do not ask
    #[arg(long, requires = "now")]
    yes: bool,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl RetireCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        if self.now && !self.yes && std::io::stdin().is_terminal() {
            let question = format!(
                "Revoke every credential of {} now? Its consumers then have a dead key.",
                self.key
            );
            if !confirm(&question)? {
                return Err(Failure::Other("cancelled; nothing was retired".to_owned()));
            }
        }
        let request = ControlRequest::Retire {
            keys: vec![self.key.clone()],
            now: self.now,
            undo: self.undo,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}
