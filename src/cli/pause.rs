//! `rekeyd pause` and `resume`: whether anything is begun by schedule.

use jiff::Timestamp;

use crate::cli::request::have_done;
use crate::cli::{Cli, Failure};
use crate::daemon::control::wire::Request;

#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    which: Which,
    /// Until when, such as 2026-12-01T00:00:00Z; until `resume` if not given
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    which: Which,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The key
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Every key of the configuration
    #[arg(long)]
    all: bool,
}

impl Pause {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Pause {
            keys: self.which.keys(),
            all: self.which.all,
            until: self.until.map(|until| until.to_string()),
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}

impl Resume {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let request = Request::Resume {
            keys: self.which.keys(),
            all: self.which.all,
            reason: self.reason.clone(),
        };
        have_done(cli, request).await
    }
}

impl Which {
    fn keys(&self) -> Vec<String> {
        self.key.iter().cloned().collect()
    }
}
