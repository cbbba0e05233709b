//! The engine in this process, with the ledger and the sinks of a daemon, and a
//! provider whose clock skips idle time.

use std::path::Path;
use std::sync::Arc;

use rekeyd::config::settings::Settings;
use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::daemon::runtime::build_sinks;
use rekeyd::engine::{Engine, ManagedKey};
use rekeyd::platform::clock::Clock;

use crate::instant::InstantProvider;
use crate::{keys, many};

/// Returns a runtime like the daemon's: one thread, besides those for files and
/// the ledger.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Returns the settings of `count` keys in `dir`, each with `options` and a
/// file.
pub(crate) fn settings(
    count: usize,
    dir: &Path,
    options: &str,
    clock: &InstantProvider,
) -> Settings {
    let text = keys::text(count, dir, "https://api.openai.com/v1", options);
    many::settings(&text, clock.now())
}

/// Returns the keys with their real sinks.
pub(crate) fn managed_keys(settings: &Settings, clock: &Arc<InstantProvider>) -> Vec<ManagedKey> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let keys = settings.keys.iter().map(|key| ManagedKey {
        name: key.name.clone(),
        scope: key.scope.clone(),
        policy: key.policy.clone(),
        sinks: build_sinks(
            key,
            &clock,
            &ActiveCredential::new(),
            &settings.protected_files,
        ),
    });
    keys.collect()
}

/// Runs the engine until nothing is due.
pub(crate) async fn run_until_idle(engine: &mut Engine) {
    loop {
        engine.start_due();
        if engine.active_tasks() == 0 {
            return;
        }
        engine.process_completions().await;
    }
}
