//! `rekeyd once`: what is due, and then the end.

use std::time::Duration;

use crate::cli::{Cli, Failure};
use crate::core::duration;
use crate::daemon::{service, start};
use crate::engine::Course;

#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// How long it may take; what is not delivered by then is given up
    #[arg(long = "for", value_name = "DURATION", default_value = "20m", value_parser = duration::parse)]
    limit: Duration,
}

impl Once {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let started = start::start(
            &settings,
            Cli::sources(&settings),
            "rekeyd once",
            Course::Once,
        )
        .await?;
        let engine = service::once(started, self.limit).await?;
        let failing: Vec<_> = settings
            .keys
            .iter()
            .filter(|key| service::is_failing(&engine, &key.name))
            .collect();
        for key in &failing {
            let problem = engine
                .state(&key.name)
                .and_then(|state| state.problem.clone());
            tracing::error!(key = %key.name, "{} is failing: {}", key.name,
                problem.unwrap_or_else(|| "its rotation did not end".to_owned()));
        }
        if failing.is_empty() {
            Ok(())
        } else {
            Err(Failure::Told)
        }
    }
}
