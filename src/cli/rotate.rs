//! `rekeyd rotate`: a rotation on an operator's request.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{execute, report_results, send, send_within};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::question::confirm;
use crate::core::duration;
use crate::core::first_few::join_few;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "rekeyd rotate [OPTIONS] <KEY>...\n       rekeyd rotate [OPTIONS] --all",
    group = clap::ArgGroup::new("revocation").args(["revoke_previous_now", "revoke_previous_within"])
)]
pub(crate) struct RotateCommand {
    /// Keys to rotate
    #[arg(value_name = "KEY", required_unless_present = "all")]
    keys: Vec<String>,
    /// Rotate all configured keys
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Revoke all older credentials as soon as the new one is current, without an overlap
    #[arg(long)]
    revoke_previous_now: bool,
    /// After a leak: revoke all older credentials once this time has passed (such as 30s), even
    /// if they are still in use
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = parse_duration,
        conflicts_with = "revoke_previous_now"
    )]
    revoke_previous_within: Option<Duration>,
    /// With --revoke-previous-within: also revoke credentials that rekeyd may use itself, that
    /// are on hold, or that the provider shows under another name
    #[arg(long, requires = "revoke_previous_within")]
    force: bool,
    /// With --revoke-previous-within: also rotate other keys that share a credential, without
    /// asking; with --all --revoke-previous-now: do not ask
    #[arg(long, requires = "revocation")]
    yes: bool,
    /// Overwrite the key in a sink's target even if rekeyd neither wrote nor adopted it
    #[arg(long)]
    replace: bool,
    /// Do not wait for the running daemon to finish the rotation
    #[arg(long)]
    no_wait: bool,
    /// Maximum time to wait, such as 5m; a running daemon then goes on with the rotation, and
    /// without one it is abandoned [default: the `delivery-deadline` of each key]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse_positive,
        conflicts_with_all = ["no_wait", "revoke_previous_within"]
    )]
    timeout: Option<Duration>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl RotateCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        self.confirm_revocation()?;
        let request = self.request(Vec::new());
        if self.revoke_previous_within.is_none() {
            let response = send_within(options, &self.daemon, request, self.timeout).await?;
            return report_results(&response);
        }
        let response = send(options, &self.daemon, request).await?;
        let shared = response.outcomes.iter().flat_map(|one| &one.shared_with);
        let also: BTreeSet<String> = shared.cloned().collect();
        if also.is_empty() {
            return report_results(&response);
        }
        if !self.yes && !std::io::stdin().is_terminal() {
            return report_results(&response);
        }
        for outcome in &response.outcomes {
            let key = &outcome.about;
            for consequence in &outcome.consequences {
                output::report_warning(&format!("{key}: {consequence}"));
            }
        }
        if !self.yes && !confirm(&format!("Also rotate {}?", join_few(&also)))? {
            return Err(Failure::Other("cancelled; nothing was rotated".to_owned()));
        }
        let request = self.request(also.into_iter().collect());
        execute(options, &self.daemon, request).await
    }

    /// Asks the person at the terminal whether every key is to lose its older credentials at
    /// once. A script is not asked.
    fn confirm_revocation(&self) -> Result<(), Failure> {
        let is_drastic = self.all && self.revoke_previous_now;
        if !is_drastic || self.yes || !std::io::stdin().is_terminal() {
            return Ok(());
        }
        let question = "Rotate all keys, and revoke every older credential without an overlap? \
                        Consumers that still use one then have a dead key.";
        match confirm(question)? {
            true => Ok(()),
            false => Err(Failure::Other("cancelled; nothing was rotated".to_owned())),
        }
    }

    fn request(&self, also: Vec<String>) -> ControlRequest {
        ControlRequest::Rotate {
            keys: self.keys.clone(),
            all: self.all,
            revoke_previous_now: self.revoke_previous_now,
            revoke_previous_within: self.revoke_previous_within.map(duration::to_text),
            force: self.force,
            also,
            replace: self.replace,
            no_wait: self.no_wait,
            reason: self.reason.clone(),
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}
