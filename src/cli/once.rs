//! `rekeyd once`: what is due, and then the end.

use std::time::Duration;

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::failure::Failure;
use crate::core::duration;
use crate::core::health::last_error;
use crate::daemon::event_loop::{self, ExitReason};
use crate::daemon::runtime;
use crate::engine::RunMode;

#[derive(Debug, clap::Args)]
pub(crate) struct OnceCommand {
    /// How long it may take; what is not delivered by then is given up
    #[arg(long = "for", value_name = "DURATION", default_value = "20m", value_parser = duration::parse)]
    limit: Duration,
}

impl OnceCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = options.load_settings()?;
        let sources = credential_sources(&settings);
        let started = runtime::start(&settings, sources, "rekeyd once", RunMode::Once).await?;
        let (engine, ended) = event_loop::run_once(started, self.limit).await?;
        let at_rest = self.check_completed(ended);
        let mut is_well = at_rest;
        for (key, state) in event_loop::failing_keys(&engine) {
            is_well = false;
            let problem = state.and_then(last_error);
            let problem = problem.unwrap_or_else(|| "its rotation did not end".to_owned());
            tracing::error!(%key, "{key} is failing: {problem}");
        }
        if is_well {
            Ok(())
        } else {
            Err(Failure::Reported)
        }
    }

    /// Whether it came to the moment with nothing due and nothing open; says
    /// so if not. A timer's mail is read by people who do not know the limit.
    fn check_completed(&self, ended: ExitReason) -> bool {
        match ended {
            ExitReason::Done => true,
            ExitReason::Signaled => {
                tracing::error!(
                    "a signal ended this run before everything due was done; \
                    what is open is given up, the next run goes on"
                );
                false
            }
            ExitReason::TimedOut => {
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
