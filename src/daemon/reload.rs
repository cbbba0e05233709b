//! The reload of a running daemon's configuration.
//!
//! An invalid configuration changes nothing. Its problem is logged, and
//! recorded in the ledger for `status` until a configuration is applied.

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::daemon::runtime::Runtime;
use crate::daemon::temp_cleanup;
use crate::platform::{run_blocking, zones};
use crate::provider::failover::AdminCredentialSources;

/// The time limit of reading a configuration. The largest takes a second.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the configuration again.
pub type ConfigReader = Arc<dyn Fn() -> ConfigReadResult + Send + Sync>;

/// The settings and the sources of the admin credential, or the problem of the
/// configuration.
pub type ConfigReadResult = Result<(Arc<Settings>, AdminCredentialSources), String>;

/// Reads the configuration on a blocking thread: a large one takes a while, and
/// its file system may hang.
pub(crate) async fn read_config(read: ConfigReader) -> ConfigReadResult {
    let describe = || "reading the configuration".to_owned();
    let reading = run_blocking(describe, READ_TIMEOUT, move || {
        zones::clear_cache();
        read()
    });
    reading.await.unwrap_or_else(|error| Err(error.to_string()))
}

impl Runtime {
    /// Applies the result of a read.
    ///
    /// # Errors
    /// If the configuration is invalid, or changes an option that requires a
    /// restart.
    pub(crate) async fn apply_reload(&mut self, read: ConfigReadResult) -> Result<(), String> {
        let outcome = match read {
            Ok((settings, sources)) => match restart_reason(&self.settings, &settings) {
                None => {
                    self.switch_to(settings, sources).await;
                    Ok(())
                }
                Some(problem) => Err(problem),
            },
            Err(problem) => Err(problem),
        };
        match &outcome {
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
        outcome
    }

    async fn switch_to(&mut self, settings: Arc<Settings>, sources: AdminCredentialSources) {
        temp_cleanup::remove_stale_temps(&settings, Some(&self.settings)).await;
        let (services, provider) = self.context.build_services(&settings, sources);
        self.engine
            .reconfigure(services, self.context.managed_keys(&settings));
        self.dispatcher.set_channels(&settings.notify);
        self.settings = settings;
        // The source of the admin credential may hold another one now.
        drop(tokio::spawn(async move { provider.reselect().await }));
    }
}

/// Returns the reason why this change requires a restart, if it does.
fn restart_reason(old: &Settings, new: &Settings) -> Option<String> {
    let options = [
        ("[ledger] path", old.ledger != new.ledger),
        (
            "[provider] base-url",
            old.provider.base_url != new.provider.base_url,
        ),
        (
            "[provider] organization",
            old.provider.organization != new.provider.organization,
        ),
    ];
    let changed: Vec<_> = options
        .into_iter()
        .filter_map(|(option, is_changed)| is_changed.then_some(option))
        .collect();
    if changed.is_empty() {
        return None;
    }
    Some(format!(
        "{}: {} cannot change while rekeyd runs; restart it for that",
        new.file.display(),
        changed.join(" and ")
    ))
}
