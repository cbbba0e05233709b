//! The engine in this process, with the ledger and the sinks of a daemon and a
//! provider of ours, whose clock skips what nobody works in.

use std::path::Path;
use std::sync::Arc;

use rekeyd::core::secret::CredentialCell;
use rekeyd::core::settings::Settings;
use rekeyd::daemon::start::sinks;
use rekeyd::engine::clock::Clock;
use rekeyd::engine::{Engine, ManagedKey};

use crate::instant::Instantly;
use crate::{keys, many};

/// As in the daemon: one thread, and others for files and the ledger.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// So many keys in `dir`, each with `options` and a file.
pub(crate) fn settings(count: usize, dir: &Path, options: &str, clock: &Instantly) -> Settings {
    let text = keys::text(count, dir, "https://api.openai.com/v1", options);
    many::settings(&text, clock.now())
}

/// The keys with their real sinks.
pub(crate) fn managed(settings: &Settings, clock: &Arc<Instantly>) -> Vec<ManagedKey> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let keys = settings.keys.iter().map(|key| ManagedKey {
        name: key.name.clone(),
        policy: key.policy.clone(),
        sinks: sinks(key, &clock, &CredentialCell::new()),
    });
    keys.collect()
}

/// Works until there is nothing to do before a later time.
pub(crate) async fn rest(engine: &mut Engine) {
    loop {
        engine.start_due();
        if engine.at_work() == 0 {
            return;
        }
        engine.finish_some().await;
    }
}
