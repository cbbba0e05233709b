//! Another configuration for a running daemon.
//!
//! One that cannot be read changes nothing; what is wrong with it stands in
//! the log, and in the ledger for `status`, until one is taken.

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::daemon::runtime::Runtime;
use crate::daemon::temp_cleanup;
use crate::platform::{run_blocking, zones};
use crate::provider::failover::AdminCredentialSources;

/// How long a configuration may take to read. The largest takes a second.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the configuration anew, with where the admin credential may come
/// from; otherwise, what is wrong with it.
pub type ConfigReader = Arc<dyn Fn() -> ConfigReadResult + Send + Sync>;

/// What was read, or what is wrong with it.
pub type ConfigReadResult = Result<(Arc<Settings>, AdminCredentialSources), String>;

/// Reads the configuration on a thread of its own: a large one takes a while,
/// and its disk may hang.
pub(crate) async fn read_config(read: ConfigReader) -> ConfigReadResult {
    let describe = || "reading the configuration".to_owned();
    let reading = run_blocking(describe, READ_TIMEOUT, move || {
        zones::clear_cache();
        read()
    });
    reading.await.unwrap_or_else(|error| Err(error.to_string()))
}

impl Runtime {
    /// Goes on with what was read, if it can be taken.
    ///
    /// # Errors
    /// It is wrong, or changes what only a restart can change; in words.
    pub(crate) async fn apply_reload(&mut self, read: ConfigReadResult) -> Result<(), String> {
        let taken = match read {
            Ok((settings, sources)) => match restart_reason(&self.settings, &settings) {
                None => {
                    self.switch_to(settings, sources).await;
                    Ok(())
                }
                Some(problem) => Err(problem),
            },
            Err(problem) => Err(problem),
        };
        match &taken {
            Ok(()) => {
                self.engine.record_configuration_problem(None);
                tracing::info!(
                    keys = self.settings.keys.len(),
                    "took the configuration of {}",
                    self.settings.file.display()
                );
            }
            Err(problem) => {
                let problem = format!(
                    "the configuration was not taken, and the one of before goes on: {problem}"
                );
                tracing::error!("{problem}");
                self.engine.record_configuration_problem(Some(problem));
            }
        }
        taken
    }

    async fn switch_to(&mut self, settings: Arc<Settings>, sources: AdminCredentialSources) {
        temp_cleanup::remove_stale_temps(&settings, Some(&self.settings)).await;
        let (parts, provider) = self.context.build_services(&settings, sources);
        self.engine
            .reconfigure(parts, self.context.managed_keys(&settings));
        self.dispatcher.set_channels(&settings.notify);
        self.settings = settings;
        // A person may have put another admin credential in its place.
        drop(tokio::spawn(async move { provider.reselect().await }));
    }
}

/// What was changed that holds for as long as the process lives.
fn restart_reason(before: &Settings, now: &Settings) -> Option<String> {
    let changed = [
        ("[ledger] path", before.ledger != now.ledger),
        (
            "[provider] base-url",
            before.provider.base_url != now.provider.base_url,
        ),
        (
            "[provider] organization",
            before.provider.organization != now.provider.organization,
        ),
    ];
    let changed: Vec<_> = changed
        .into_iter()
        .filter_map(|(option, changed)| changed.then_some(option))
        .collect();
    if changed.is_empty() {
        return None;
    }
    Some(format!(
        "{}: {} cannot change while rekeyd runs; restart it for that",
        now.file.display(),
        changed.join(" and ")
    ))
}
