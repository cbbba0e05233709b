//! `rekeyd revoke`, `hold`, `release` and `adopt`: what a person decides about
//! one credential.

use jiff::Timestamp;

use crate::cli::{Cli, Failure, output};
use crate::core::change::ByHand;
use crate::core::names::{CredentialId, KeyName};
use crate::daemon::{service, start};
use crate::engine::Course;
use crate::engine::order::Order;

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
        let credential = CredentialId::new(self.credential.clone());
        let order = Order::Revoke {
            credential: credential.clone(),
            force: self.force,
            by_hand: by_hand(self.reason.as_deref()),
        };
        obey(cli, "rekeyd revoke", &Whose::Credential(credential), order).await
    }
}

impl Hold {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let until = self.until.unwrap_or(Timestamp::MAX);
        let by_hand = by_hand(self.reason.as_deref());
        hold(cli, "rekeyd hold", &self.what, Some(until), by_hand).await
    }
}

impl Release {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let by_hand = by_hand(self.reason.as_deref());
        hold(cli, "rekeyd release", &self.what, None, by_hand).await
    }
}

impl Adopt {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let Ok(key) = KeyName::new(&self.key) else {
            return Err(Failure::Other(format!("{:?} is no key's name", self.key)));
        };
        let order = Order::Adopt {
            credential: CredentialId::new(self.credential.clone()),
            by_hand: by_hand(self.reason.as_deref()),
        };
        obey(cli, "rekeyd adopt", &Whose::Key(key), order).await
    }
}

/// Which key an order is for.
enum Whose {
    /// This one.
    Key(KeyName),
    /// The one that this credential belongs to.
    Credential(CredentialId),
}

async fn hold(
    cli: &Cli,
    command: &str,
    what: &str,
    until: Option<Timestamp>,
    by_hand: Option<ByHand>,
) -> Result<(), Failure> {
    // A credential's id has an underscore, and a key's name cannot.
    let (whose, credential) = match KeyName::new(what) {
        Ok(key) => (Whose::Key(key), None),
        Err(_) => {
            let credential = CredentialId::new(what.to_owned());
            (Whose::Credential(credential.clone()), Some(credential))
        }
    };
    let order = Order::Hold {
        credential,
        until,
        by_hand,
    };
    obey(cli, command, &whose, order).await
}

async fn obey(cli: &Cli, command: &str, whose: &Whose, order: Order) -> Result<(), Failure> {
    let settings = cli.settings()?;
    let sources = Cli::sources(&settings);
    let started = start::start(&settings, sources, command, Course::ByHand).await?;
    let key = match whose {
        Whose::Key(key) => key.clone(),
        Whose::Credential(credential) => {
            let found = started.engine.key_of(credential).await?;
            found.ok_or_else(|| {
                Failure::Other(format!(
                    "{credential} is not in this ledger; `rekeyd audit` shows what the provider has"
                ))
            })?
        }
    };
    match service::obey(started, &key, order).await? {
        Ok(done) => output::print(format!("{done}\n").as_bytes()),
        Err(problem) => Err(Failure::Other(problem)),
    }
}

/// Who asks, and why, as the journal keeps it.
pub(crate) fn by_hand(reason: Option<&str>) -> Option<ByHand> {
    Some(ByHand {
        reason: reason.map(str::to_owned),
        by: format!("uid {}", rustix::process::getuid().as_raw()),
    })
}
