//! `rekeyd pause` and `resume`: whether anything is begun by schedule.

use jiff::Timestamp;

use crate::cli::by_hand::by_hand;
use crate::cli::{Cli, Failure, named, output};
use crate::core::names::KeyName;
use crate::daemon::{service, start};
use crate::engine::Course;
use crate::engine::order::Order;

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
        let order = Order::Pause {
            until: self.until,
            by_hand: by_hand(self.reason.as_deref()),
        };
        self.which.have_obeyed(cli, "rekeyd pause", order).await
    }
}

impl Resume {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let order = Order::Resume {
            by_hand: by_hand(self.reason.as_deref()),
        };
        self.which.have_obeyed(cli, "rekeyd resume", order).await
    }
}

impl Which {
    async fn have_obeyed(&self, cli: &Cli, command: &str, order: Order) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let keys: Vec<KeyName> = match &self.key {
            None => settings.keys.iter().map(|key| key.name.clone()).collect(),
            Some(wanted) => vec![named(&settings, wanted)?.name.clone()],
        };
        let sources = Cli::sources(&settings);
        let started = start::start(&settings, sources, command, Course::ByHand).await?;
        let mut failed = false;
        for outcome in service::obey_all(started, &keys, &order).await? {
            match outcome {
                Ok(told) => output::print(format!("{told}\n").as_bytes())?,
                Err(problem) => {
                    failed = true;
                    output::complain(&problem);
                }
            }
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    }
}
