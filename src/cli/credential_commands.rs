//! `rekeyd revoke`, `hold`, `release` and `adopt`: an operator's decisions
//! about one credential.

use std::io::IsTerminal as _;

use jiff::Timestamp;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{execute, report_results, send};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::question::ask;
use crate::cli::time_argument;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeCommand {
    /// Id of the credential, such as key_abc
    #[arg(value_name = "CREDENTIAL_ID")]
    credential: String,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Revoke the credential even if a sink may still hold it; the consumers of that sink then have
    /// a dead key
    #[arg(long)]
    force: bool,
    /// With --force, as root: the name that the provider shows, if it is not the recorded one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HoldCommand {
    /// Id of the credential, or a key to hold all of its live credentials
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    target: String,
    /// End of the hold: a time (2026-12-01T00:00:00Z), a date or a duration (7d) [default: until
    /// `rekeyd release`]
    #[arg(long, value_name = "TIME", value_parser = time_argument::parse_future)]
    until: Option<Timestamp>,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseCommand {
    /// Id of the credential, or a key to release all of its credentials
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    target: String,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "rekeyd adopt [OPTIONS] <KEY> <CREDENTIAL_ID>\n       rekeyd adopt [OPTIONS] --from-sinks"
)]
pub(crate) struct AdoptCommand {
    /// Key that takes over the credential
    #[arg(value_name = "KEY", required_unless_present = "from_sinks")]
    key: Option<String>,
    /// Id of the credential
    #[arg(value_name = "CREDENTIAL_ID", required_unless_present = "from_sinks")]
    credential: Option<String>,
    /// Find out for every key which credential its sinks hold, and show what would be adopted
    #[arg(long, conflicts_with_all = ["key", "credential", "force"])]
    from_sinks: bool,
    /// Name that the provider shows of a credential that nothing shows to be the key's
    #[arg(long, value_name = "NAME", conflicts_with = "from_sinks")]
    name: Option<String>,
    /// Adopt what --from-sinks finds, or the credential with --name, without a question
    #[arg(long)]
    yes: bool,
    /// Adopt the credential even if a sink holds another secret
    #[arg(long)]
    force: bool,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl RevokeCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Revoke {
            credential_id: self.credential.clone(),
            force: self.force,
            name: self.name.clone(),
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}

impl HoldCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Hold {
            what: self.target.clone(),
            until: self.until.map(|until| until.to_string()),
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}

impl ReleaseCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::Release {
            what: self.target.clone(),
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}

impl AdoptCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let (Some(key), Some(credential)) = (&self.key, &self.credential) else {
            return self.adopt_from_sinks(options).await;
        };
        let request = |name| ControlRequest::Adopt {
            key: key.clone(),
            credential_id: credential.clone(),
            name,
            force: self.force,
            reason: self.reason.clone(),
        };
        let given = self.name.clone().filter(|_| self.yes);
        let response = send(options, &self.daemon, request(given)).await?;
        let mut outcomes = response.outcomes.iter();
        let Some((message, name)) =
            outcomes.find_map(|outcome| Some((&outcome.message, outcome.name.as_ref()?)))
        else {
            return report_results(&response);
        };
        if self.yes || !std::io::stdin().is_terminal() {
            return report_results(&response);
        }
        output::report_warning(message);
        // An empty line must not confirm a credential without a name.
        let (what, expected) = if name.is_empty() {
            ("id", credential)
        } else {
            ("name", name)
        };
        let answer = ask(&format!("To adopt it, type its {what}, {expected:?}:"))?;
        if answer != *expected {
            return Err(Failure::Other("cancelled; nothing was adopted".to_owned()));
        }
        execute(options, &self.daemon, request(Some(name.clone()))).await
    }

    async fn adopt_from_sinks(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::AdoptFromSinks {
            apply: self.yes,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }
}
