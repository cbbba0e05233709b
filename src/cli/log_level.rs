//! `rekeyd log-level`: what a running daemon logs.

use std::time::Duration;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::{CommandTarget, DaemonOptions};
use crate::cli::dispatch::{find_daemon, report_results};
use crate::cli::failure::Failure;
use crate::core::duration;
use crate::daemon::control::protocol::ControlRequest;
use crate::platform::log::filter::{self, DEFAULT_WORD};

#[derive(Debug, clap::Args)]
pub(crate) struct LogLevelCommand {
    /// Log level, also for single modules, as in info,engine=debug; `default` for that of the start
    #[arg(value_name = "FILTER", value_parser = parse_filter)]
    filter: String,
    /// Time after which the level of the start counts again [default: until rekeyd restarts]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse_positive)]
    span: Option<Duration>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl LogLevelCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let daemon = match self.daemon.target(options).await? {
            CommandTarget::Daemon(daemon) => Some(*daemon),
            CommandTarget::File(settings) => find_daemon(&self.daemon, &settings).await?,
        };
        let Some(daemon) = daemon else {
            return Err(Failure::Other(
                "no rekeyd is running, so there is no log level to set; hint: `rekeyd run` and \
                 `rekeyd once` take --log-level, REKEYD_LOG and [log] level"
                    .to_owned(),
            ));
        };
        let request = ControlRequest::LogLevel {
            level: self.filter.clone(),
            span: self.span.map(duration::to_text),
        };
        report_results(&daemon.send(&request).await?)
    }
}

/// Checks a filter before it is sent.
fn parse_filter(text: &str) -> Result<String, String> {
    if text != DEFAULT_WORD {
        filter::parse(text)?;
    }
    Ok(text.to_owned())
}
