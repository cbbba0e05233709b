//! `rekeyd revoke`, `hold`, `release` and `adopt`: an operator's decisions
//! about one credential.

use jiff::Timestamp;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::execute;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::time_argument;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeCommand {
    /// The credential, such as key_abc
    #[arg(value_name = "CREDENTIAL_ID")]
    credential: String,
    /// Why, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Also when a sink may hold it: its consumers are left with a dead key
    #[arg(long)]
    force: bool,
    /// With --force, as root: also when the provider shows the credential under this
    /// name instead of the recorded one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HoldCommand {
    /// The credential, or a key for all of its live ones
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    target: String,
    /// Until when: a time (2026-12-01T00:00:00Z), a date, or a duration (7d); until `release` if
    /// not given
    #[arg(long, value_name = "TIME", value_parser = time_argument::parse_future)]
    until: Option<Timestamp>,
    /// Why, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseCommand {
    /// The credential, or a key for all of its live ones
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    target: String,
    /// Why, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AdoptCommand {
    /// The key that takes it over
    #[arg(value_name = "KEY", required_unless_present = "from_sinks")]
    key: Option<String>,
    /// The credential, made by hand
    #[arg(value_name = "CREDENTIAL_ID", required_unless_present = "from_sinks")]
    credential: Option<String>,
    /// Show, for every key, the credential whose secret its sinks hold
    #[arg(long, conflicts_with_all = ["key", "credential", "force"])]
    from_sinks: bool,
    /// Adopt what --from-sinks shows
    #[arg(long, requires = "from_sinks")]
    yes: bool,
    /// Also when a sink holds another key
    #[arg(long)]
    force: bool,
    /// Why, for the event log
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
        let request = ControlRequest::Adopt {
            key: key.clone(),
            credential_id: credential.clone(),
            force: self.force,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await
    }

    async fn adopt_from_sinks(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let request = ControlRequest::AdoptFromSinks {
            apply: self.yes,
            reason: self.reason.clone(),
        };
        execute(options, &self.daemon, request).await?;
        if !self.yes {
            let hint =
                "nothing was adopted; with --yes rekeyd does what it shows as \"would adopt\"\n";
            output::print(hint.as_bytes())?;
        }
        Ok(())
    }
}
