//! `rekeyd revoke`, `hold`, `release` and `adopt`: what a person decides about
//! one credential.

use jiff::Timestamp;

use crate::cli::request::have_done;
use crate::cli::{Cli, Failure};
use crate::daemon::control::wire::Request;

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The credential, such as key_abc
    #[arg(value_name = "CREDENTIAL_ID")]
    credential: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Also when a sink may hold it: its consumers are left with a dead key
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    /// The credential, or a key for all of its live ones
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    what: String,
    /// Until when, such as 2026-12-01T00:00:00Z; until `release` if not given
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    /// The credential, or a key for all of its live ones
    #[arg(value_name = "CREDENTIAL_ID|KEY")]
    what: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Adopt {
    /// The key that takes it over
    #[arg(value_name = "KEY")]
    key: String,
    /// The credential, made by hand
    #[arg(value_name = "CREDENTIAL_ID")]
    credential: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Revoke {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Revoke {
            credential_id: self.credential.clone(),
            force: self.force,
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}

impl Hold {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Hold {
            what: self.what.clone(),
            until: self.until.map(|until| until.to_string()),
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}

impl Release {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Release {
            what: self.what.clone(),
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}

impl Adopt {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Adopt {
            key: self.key.clone(),
            credential_id: self.credential.clone(),
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}
