//! `rekeyd status`: the state of each key, from the configuration and the
//! ledger.

mod json;
mod key_status;
mod probe;
mod process_status;
mod recorded_status;
mod report;
mod summary;

use std::time::Duration;

use self::json::{ChannelJson, StatusJson};
pub(super) use self::json::{KeyJson, to_json};
pub(super) use self::key_status::{KeyStatus, SinkStatus};
use self::probe::Probe;
pub(super) use self::report::{ReportSource, StatusReport};
pub(super) use self::summary::{next_rotation_text, note_lines, revocation_text, state_cell};
use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{ShownSettings, shown_settings};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::screen::Screen;
use crate::cli::terminal_text::CLEAR_SCREEN;
use crate::core::time;
use crate::platform::clock::{Clock as _, SystemClock};

/// The interval at which `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct StatusCommand {
    /// Only this key
    key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Read only the ledger, and do not check whether rekeyd is running
    #[arg(long)]
    offline: bool,
    /// Refresh every two seconds until Ctrl-C, on a terminal
    #[arg(long, short, conflicts_with = "json")]
    watch: bool,
    /// Show every column, and exact times beside the relative ones
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    /// Only ask whether the running daemon is alive, for a liveness probe
    #[arg(
        long,
        conflicts_with_all = ["key", "json", "offline", "watch", "verbose", "ready"]
    )]
    live: bool,
    /// Only ask whether the running daemon can rotate keys, for a readiness probe
    #[arg(long, conflicts_with_all = ["key", "json", "offline", "watch", "verbose"])]
    ready: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl StatusCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        if let Some(probe) = self.probe() {
            return probe.run(options, &self.daemon).await;
        }
        if !self.watch {
            return self.print(options, "").await;
        }
        if Screen::of_output(self.verbose).width.is_none() {
            let text = "--watch needs a terminal; hint: without one, repeat `rekeyd status`";
            return Err(Failure::Other(text.to_owned()));
        }
        loop {
            if let Err(failure) = self.print(options, CLEAR_SCREEN).await {
                let text = failure.to_string();
                if !text.is_empty() {
                    output::print(CLEAR_SCREEN.as_bytes())?;
                    output::report_error(&text);
                }
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    /// Returns what is asked of the daemon alone, if it is.
    const fn probe(&self) -> Option<Probe> {
        match (self.live, self.ready) {
            (true, _) => Some(Probe::Live),
            (false, true) => Some(Probe::Ready),
            (false, false) => None,
        }
    }

    /// Prints the status once, behind these characters.
    async fn print(&self, options: &GlobalOptions, start: &str) -> Result<(), Failure> {
        let (settings, mistakes) = self.daemon.settings_and_mistakes(options).await?;
        let ShownSettings {
            settings,
            is_loaded: configuration_loaded,
        } = if self.offline {
            ShownSettings {
                settings,
                is_loaded: None,
            }
        } else {
            shown_settings(&self.daemon, settings).await
        };
        let now = SystemClock.now();
        let source = ReportSource {
            daemon: &self.daemon,
            is_offline: self.offline,
            is_json: self.json,
        };
        let report = StatusReport::read(&settings, source, self.key.as_deref(), now).await?;
        if let Some(mistakes) = mistakes {
            mistakes.report_unless_in(report.shown_problems(self.json));
        }
        if !start.is_empty() {
            output::print(start.as_bytes())?;
        }
        if self.json {
            let keys = report.keys.iter().map(|status| to_json(status, now));
            output::print_json(&StatusJson {
                problem: report.problems.first(),
                running: report.process.is_running(),
                configuration_loaded,
                not_running_since: report.process.not_running_since().map(time::to_text),
                restarts: report
                    .crashes
                    .as_ref()
                    .map_or(0, |crashes| crashes.restarts),
                last_crash: report
                    .crashes
                    .as_ref()
                    .map(|crashes| (&crashes.last).into()),
                keys: keys.collect(),
                notifications: report.channels.iter().map(ChannelJson::from).collect(),
            })?;
        } else {
            let screen = Screen::of_output(self.verbose);
            let table = summary::summary(&report.keys, screen, now);
            let text = format!("{}{table}", report.head(&screen, now));
            output::print(text.as_bytes())?;
        }
        if report.has_problem() {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
