//! `rekeyd rotate`: a rotation by hand.

use crate::cli::by_hand::by_hand;
use crate::cli::{Cli, Failure, named, output};
use crate::core::names::KeyName;
use crate::core::settings::Settings;
use crate::daemon::{service, start};
use crate::engine::{Course, Wish};

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The keys to rotate
    #[arg(value_name = "KEY", required_unless_present = "all")]
    keys: Vec<String>,
    /// Every key of the configuration
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Revoke every older credential as soon as the new one is current, overlap or not
    #[arg(long)]
    revoke_previous_now: bool,
}

impl Rotate {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let keys = self.wanted(&settings)?;
        let patience = settings.keys.iter().filter(|key| keys.contains(&key.name));
        let limit = patience
            .map(|key| key.policy.deliver_for)
            .max()
            .unwrap_or_default();
        let wish = Wish {
            by_hand: by_hand(self.reason.as_deref()),
            revoke_previous: self.revoke_previous_now,
        };
        let sources = Cli::sources(&settings);
        let mut started = start::start(&settings, sources, "rekeyd rotate", Course::ByHand).await?;
        if self.all {
            // That also says that the organization is the right one.
            started.engine.wish_all(&wish);
        }
        let outcomes = service::rotate(started, &keys, &wish, limit).await?;
        let mut failed = false;
        for (key, outcome) in outcomes {
            match outcome {
                Ok(()) => output::print(format!("{key}: rotated\n").as_bytes())?,
                Err(problem) => {
                    failed = true;
                    output::complain(&format!("{key} was not rotated: {problem}"));
                }
            }
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    }

    fn wanted(&self, settings: &Settings) -> Result<Vec<KeyName>, Failure> {
        if self.all {
            return Ok(settings.keys.iter().map(|key| key.name.clone()).collect());
        }
        let mut wanted = Vec::new();
        for name in &self.keys {
            let key = named(settings, name)?.name.clone();
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        Ok(wanted)
    }
}
