//! What the host may repair: `check` prints it, and `run` starts, logs it and
//! tries again. Only without its ledger it does not start.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::{code, ledger_code};
use crate::config::{Kind, Problem};
use crate::core::secret::CredentialCell;
use crate::core::settings::Settings;
use crate::daemon::start;
use crate::engine::clock::{Clock, HostClock};
use crate::host::{aside, machine};
use crate::ledger;
use crate::notify::{self, Now};

/// How long a look at the ledger may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How closely the sinks are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// As far as this host can see.
    Local,
    /// Also whether they can be reached; nothing is sent.
    Online,
}

/// What is wrong with whom people are told by.
pub(crate) async fn notifiers(settings: &Settings, look: Look) -> Vec<Problem> {
    let now: Now = Arc::new(|| HostClock.now());
    let mut problems = Vec::new();
    for (number, one) in settings.notify.iter().enumerate() {
        let notifier = notify::of(one, &now);
        let local = notifier.inspect().await;
        let found = if look == Look::Online && local.is_empty() {
            notifier.reach().await.err().into_iter().collect()
        } else {
            local
        };
        let at = format!("notify[{number}]");
        let found = found.into_iter();
        problems.extend(found.map(|message| Problem::of_host(settings, at.clone(), message)));
    }
    problems
}

/// What would keep a writing process from its ledger.
pub(crate) async fn ledger(settings: &Settings) -> Option<Problem> {
    let at = "ledger.path".to_owned();
    let (path, ours) = (settings.ledger.clone(), start::identity(settings));
    let looked = move || ledger::inspect(&path, &ours, machine::id().as_deref());
    let shown = settings.ledger.display().to_string();
    let error = match aside(&shown, PATIENCE, looked).await {
        Ok(looked) => looked.err()?,
        Err(message) => return Some(Problem::of_host(settings, at, message)),
    };
    let mut problem = Problem::of_host(settings, at, error.to_string());
    if ledger_code(&error) == code::CONFIGURATION {
        problem.kind = Kind::Configuration;
    }
    Some(problem)
}

/// What is wrong with the sinks.
pub(crate) async fn sinks(settings: &Settings, look: Look) -> Vec<Problem> {
    let clock: Arc<dyn Clock> = Arc::new(HostClock);
    let mut problems = Vec::new();
    for key in &settings.keys {
        for (sink, _) in start::sinks(key, &clock, &CredentialCell::new()) {
            let local = sink.inspect().await;
            let found = if look == Look::Online && local.is_empty() {
                sink.preflight().await.err().into_iter().collect()
            } else {
                local
            };
            let at = format!("key.{}.sink.{}", key.name, sink.id().name);
            let found = found.into_iter();
            problems.extend(found.map(|message| Problem::of_host(settings, at.clone(), message)));
        }
    }
    problems
}
