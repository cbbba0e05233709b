//! `rekeyd once`: what is due, and then the end.

use std::time::Duration;

use crate::cli::{Cli, Failure};
use crate::core::duration;
use crate::core::problem::problem_of;
use crate::daemon::service::{self, Ended};
use crate::daemon::start;
use crate::engine::Course;

#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// How long it may take; what is not delivered by then is given up
    #[arg(long = "for", value_name = "DURATION", default_value = "20m", value_parser = duration::parse)]
    limit: Duration,
}

impl Once {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let (settings, ahead) = cli.settings_and_ledger()?;
        let sources = Cli::sources(&settings);
        let started = start::start(&settings, sources, "rekeyd once", Course::Once, ahead).await?;
        let (engine, ended) = service::once(started, self.limit).await?;
        let at_rest = self.is_at_rest(ended);
        let mut is_well = at_rest;
        for (key, state) in service::failing(&engine) {
            is_well = false;
            let problem = state.and_then(problem_of);
            let problem = problem.unwrap_or_else(|| "its rotation did not end".to_owned());
            tracing::error!(%key, "{key} is failing: {problem}");
        }
        engine.leave();
        // As with what the engine knows of the keys.
        std::mem::forget(settings);
        if is_well { Ok(()) } else { Err(Failure::Told) }
    }

    /// Whether it came to the moment with nothing due and nothing open; says
    /// so if not. A timer's mail is read by people who do not know the limit.
    fn is_at_rest(&self, ended: Ended) -> bool {
        match ended {
            Ended::Done => true,
            Ended::Stopped => {
                tracing::error!(
                    "a signal ended this run before everything due was done; \
                    what is open is given up, the next run goes on"
                );
                false
            }
            Ended::TimeOver => {
                tracing::error!(
                    "after {} not everything due was done: what is open is given up, the next \
                    run goes on; give it longer with --for",
                    duration::to_text(self.limit)
                );
                false
            }
        }
    }
}
