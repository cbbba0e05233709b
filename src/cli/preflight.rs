//! What the host may repair: `check` prints it, and `run` starts, logs it and
//! tries again. Only without its ledger it does not start.

use std::sync::Arc;
use std::time::Duration;

use crate::alerting::channel::target::ClockFn;
use crate::cli::failure::{exit_code, ledger_exit_code};
use crate::config::settings::Settings;
use crate::config::{Problem, ProblemKind};
use crate::core::secret::ActiveCredential;
use crate::daemon::runtime;
use crate::ledger::{self, PendingMigration};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::{machine, run_blocking};

/// How long a look at the ledger may take.
const LEDGER_CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// How closely the sinks are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckLevel {
    /// As far as this host can see.
    Local,
    /// Also whether they can be reached; nothing is sent.
    Online,
}

/// What is wrong with whom people are told by.
pub(crate) async fn check_channels(settings: &Settings, look: CheckLevel) -> Vec<Problem> {
    let now: ClockFn = Arc::new(|| SystemClock.now());
    let mut problems = Vec::new();
    for (number, one) in settings.notify.iter().enumerate() {
        let notifier = one.build(&now);
        let local = notifier.check().await;
        let found = if look == CheckLevel::Online && local.is_empty() {
            notifier.check_reachable().await.err().into_iter().collect()
        } else {
            local
        };
        let at = format!("notify[{number}]");
        problems.extend(found.into_iter().map(|error| {
            let message = error.to_string();
            Problem::for_host(&settings.file, at.clone(), message)
        }));
    }
    problems
}

/// Checks whether a writing process could open the ledger. Returns the
/// migration that the next one makes.
pub(crate) async fn check_ledger(settings: &Settings) -> Result<Option<PendingMigration>, Problem> {
    let at = "ledger.path".to_owned();
    let (path, ours) = (settings.ledger.clone(), runtime::ledger_identity(settings));
    let looked = move || ledger::check_usable(&path, &ours, machine::id().as_deref());
    let describe = || format!("looking at {}", settings.ledger.display());
    let error = match run_blocking(describe, LEDGER_CHECK_TIMEOUT, looked).await {
        Ok(Ok(pending)) => return Ok(pending),
        Ok(Err(error)) => error,
        Err(error) => return Err(Problem::for_host(&settings.file, at, error.to_string())),
    };
    let mut problem = Problem::for_host(&settings.file, at, error.to_string());
    if ledger_exit_code(&error) == exit_code::CONFIGURATION {
        problem.kind = ProblemKind::Configuration;
    }
    Err(problem)
}

/// What is wrong with the sinks.
pub(crate) async fn check_sinks(settings: &Settings, look: CheckLevel) -> Vec<Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut problems = Vec::new();
    for key in &settings.keys {
        for (sink, _) in runtime::build_sinks(key, &clock, &ActiveCredential::new()) {
            let local = sink.inspect().await;
            let found: Vec<_> = if look == CheckLevel::Online && local.is_empty() {
                let error = sink.preflight().await.err();
                error.map(|error| error.to_string()).into_iter().collect()
            } else {
                local.into_iter().map(|problem| problem.message).collect()
            };
            let at = format!("key.{}.sink.{}", key.name, sink.id().name);
            let found = found.into_iter();
            problems.extend(
                found.map(|message| Problem::for_host(&settings.file, at.clone(), message)),
            );
        }
    }
    problems
}
