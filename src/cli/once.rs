//! `rekeyd once`: rotates the keys that are due, and exits.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::context::credential_sources;
use crate::cli::failure::Failure;
use crate::cli::service_view;
use crate::cli::wait_notes::WaitNotes;
use crate::config::settings::Settings;
use crate::core::duration;
use crate::core::health::{most_urgent_error, next_attempt};
use crate::core::time;
use crate::daemon::control::protocol::Wait;
use crate::daemon::error::ServiceError;
use crate::daemon::event_loop::{self, ExitReason};
use crate::daemon::runtime;
use crate::engine::{Engine, RunMode};
use crate::ledger::LedgerError;

#[derive(Debug, clap::Args)]
pub(crate) struct OnceCommand {
    /// Time limit, after which unfinished rotations are abandoned
    #[arg(long = "for", value_name = "DURATION", default_value = "20m", value_parser = duration::parse)]
    limit: Duration,
}

impl OnceCommand {
    pub(crate) async fn run(&self, settings: Arc<Settings>) -> Result<(), Failure> {
        if let Some(note) = service_view::note_onlooker(&settings) {
            tracing::warn!("{note}");
        }
        let sources = credential_sources(&settings);
        let runtime = runtime::start(&settings, sources, "rekeyd once", RunMode::Once).await;
        let runtime = runtime.map_err(name_other_writer)?;
        let mut notes = WaitNotes::start();
        let log_waits = Box::new(move |waits: Vec<Wait>| {
            if let Some(text) = notes.next(&waits, "") {
                tracing::info!("{text}");
            }
        });
        let (engine, exit_reason) = event_loop::run_once(runtime, self.limit, log_waits).await?;
        let is_complete = self.check_completed(exit_reason, &engine);
        let mut is_successful = is_complete;
        for (key, state) in event_loop::failing_keys(&engine) {
            is_successful = false;
            let problem = state.and_then(most_urgent_error);
            let problem = problem.unwrap_or_else(|| "its rotation did not finish".to_owned());
            let next = state.and_then(next_attempt);
            let next = next.filter(|at| *at > engine.now());
            let next = next.map(|at| format!("; the next attempt is at {}", time::to_text(at)));
            let next = next.unwrap_or_default();
            tracing::error!(%key, "{key} is failing: {problem}{next}");
        }
        if is_successful {
            Ok(())
        } else {
            Err(Failure::Reported)
        }
    }

    /// Whether nothing is due and nothing open. Logs the reason if not, since
    /// the readers of a timer's mail do not know the limit.
    fn check_completed(&self, exit_reason: ExitReason, engine: &Engine) -> bool {
        for active in engine.active_conditions() {
            tracing::error!(
                condition = active.condition.as_str(),
                "{}: {}",
                active.condition.blocked_work().blocked_text(),
                active.problem
            );
        }
        match exit_reason {
            ExitReason::Done => true,
            ExitReason::Signaled => {
                tracing::error!(
                    "a signal stopped this run before everything due was done; the next run \
                     continues"
                );
                false
            }
            ExitReason::Blocked => {
                tracing::error!(
                    "nothing can be done until this is resolved; then the next run continues"
                );
                false
            }
            ExitReason::TimedOut => {
                // More time changes neither a condition nor what fails.
                let is_slow = engine.active_conditions().is_empty() && !retries_delivery(engine);
                let hint = if is_slow {
                    "; hint: allow more time with --for"
                } else {
                    ""
                };
                tracing::error!(
                    "not everything due was done within {}; the next run continues{hint}",
                    duration::to_text(self.limit)
                );
                false
            }
        }
    }
}

/// Whether a delivery has failed and is tried again.
fn retries_delivery(engine: &Engine) -> bool {
    let states = engine.configured_states();
    let open = states.filter_map(|(_, state)| state?.open_rotation());
    let mut deliveries = open.flat_map(|rotation| &rotation.deliveries);
    deliveries.any(|delivery| delivery.is_outstanding() && delivery.error.is_some())
}

/// Returns the failure of a start, which names what a person can do beside a running daemon.
// All other errors are those of any start.
#[allow(clippy::wildcard_enum_match_arm)]
fn name_other_writer(error: ServiceError) -> Failure {
    match error {
        ServiceError::Ledger(locked @ LedgerError::Locked { .. }) => Failure::OtherWriter(locked),
        other => Failure::from(other),
    }
}
