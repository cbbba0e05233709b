//! The reload of a running daemon's configuration.
//!
//! An invalid configuration changes nothing. Its problem is logged, and
//! recorded in the ledger for `status` until a configuration is applied.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Problem;
use crate::config::settings::Settings;
use crate::core::decide::key_names::Rename;
use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::core::time;
use crate::daemon::config_changes::describe_ending;
use crate::daemon::config_effects::{ConfigEffect, config_effects};
use crate::daemon::key_names::{self, UnfitNames};
use crate::daemon::runtime::{Runtime, hide_private_paths};
use crate::daemon::temp_cleanup::{self, CleanupDeadline};
use crate::engine::rename::RenameError;
use crate::ledger::LedgerError;
use crate::platform::log::filter;
use crate::platform::{BlockingError, run_blocking, zones};
use crate::provider::failover::{AdminCredentialSources, CredentialSource as _};

/// How long a reload waits for the names in the ledger.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of reading a configuration. The largest takes a second.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file did not come back in time, or reading it panicked.
    #[error(transparent)]
    NotRead(#[from] BlockingError),
    /// The configuration has problems.
    #[error("{}", join_lines(problems))]
    Invalid {
        /// All of them.
        problems: Vec<Problem>,
    },
    /// The configuration changes options of a running daemon that are fixed.
    #[error(
        "{}: {} cannot change while rekeyd runs; hint: {}",
        file.display(),
        options.join(" and "),
        restart_hint(options)
    )]
    RestartRequired {
        /// The configuration file.
        file: PathBuf,
        /// The options.
        options: Vec<&'static str>,
    },
    /// The configuration has names that do not fit the ledger.
    #[error(transparent)]
    UnfitNames(#[from] UnfitNames),
    /// The keys could not be renamed.
    #[error(transparent)]
    NotRenamed(#[from] RenameError),
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The configuration has no key, while keys are rotated: it was probably read while it
    /// was written, or was cut.
    #[error(
        "{} no longer has any key, but rekeyd rotates {}, so the file may be incomplete; hint: \
         restore its keys and reload; to rotate none of them, restart rekeyd with this file",
        file.display(),
        join_few(keys)
    )]
    NoKeys {
        /// The configuration file.
        file: PathBuf,
        /// The keys that would not be rotated any more.
        keys: Vec<KeyName>,
    },
}

fn join_lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A configuration that was read again.
pub(crate) struct ReadConfig {
    /// The configuration, or its problems.
    pub(crate) result: ConfigReadResult,
    /// Why none of its sources has an admin key, if that is so: the running process
    /// has one in memory, and its next start would have none.
    pub(crate) credential_problem: Option<String>,
    /// Why a reload does not see another admin key where it is kept, if that is so.
    pub(crate) unseen_credential: Option<String>,
}

/// Reads the configuration again.
pub type ConfigReader = Arc<dyn Fn() -> ConfigReadResult + Send + Sync>;

/// The settings and the sources of the admin key, or the problems of the
/// configuration.
pub type ConfigReadResult = Result<(Arc<Settings>, AdminCredentialSources), ReloadError>;

/// Reads the configuration on a blocking thread: a large one takes a while, and
/// its file system may hang.
pub(crate) async fn read_config(read: ConfigReader) -> ReadConfig {
    let describe = || "reading the configuration".to_owned();
    let reading = run_blocking(describe, READ_TIMEOUT, move || {
        zones::clear_cache();
        read()
    });
    let result = reading.await.unwrap_or_else(|error| Err(error.into()));
    let (credential_problem, unseen_credential) = match &result {
        Ok((_, sources)) => {
            let (credentials, problems) = sources.read_all().await;
            let unseen = credentials
                .first()
                .and_then(|(place, _)| place.unseen_change());
            let problem = credentials.is_empty().then(|| problems.join("; "));
            (problem, unseen)
        }
        Err(_) => (None, None),
    };
    ReadConfig {
        result,
        credential_problem,
        unseen_credential,
    }
}

impl Runtime {
    /// Applies the result of a read. Returns the keys that are no longer configured.
    ///
    /// # Errors
    /// If the configuration is invalid, has no key any more, or changes an option
    /// that requires a restart.
    pub(crate) async fn apply_reload(
        &mut self,
        read: ConfigReadResult,
    ) -> Result<Vec<KeyName>, ReloadError> {
        let outcome = match read {
            Ok((settings, sources)) => match check_change(&self.settings, &settings) {
                Ok(removed) => match self.rename_keys(&settings).await {
                    Ok(renames) => {
                        self.switch_to(settings, sources).await;
                        let is_renamed =
                            |key: &KeyName| renames.iter().any(|rename| rename.from == *key);
                        let removed = removed.into_iter().filter(|key| !is_renamed(key));
                        Ok(removed.collect::<Vec<_>>())
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.observe_reload(outcome.is_ok());
        match &outcome {
            Ok(removed) => {
                self.engine.record_configuration_problem(None).await;
                tracing::info!(
                    keys = self.settings.keys.len(),
                    "reloaded {}",
                    self.settings.file.display()
                );
                if !removed.is_empty() {
                    tracing::warn!(
                        "no longer configured, so no longer rotated: {}",
                        join_few(removed)
                    );
                }
            }
            Err(error) => {
                let problem = format!(
                    "reload rejected, still running with the previous configuration: {error}"
                );
                tracing::error!("{problem}");
                self.engine
                    .record_configuration_problem(Some(problem))
                    .await;
            }
        }
        outcome
    }

    /// Lets a changed configuration wait for a person, because of the changes in `ending`.
    pub(crate) async fn let_configuration_wait(
        &mut self,
        settings: &Settings,
        ending: &[ConfigEffect],
    ) {
        let changes = describe_ending(ending, &self.config_effects(settings).await);
        let text = format!(
            "{} has changed since {}, and was not taken by itself, but waits for `rekeyd reload`, \
             because it ends something: {}",
            self.settings.file.display(),
            time::to_text(self.loaded_at),
            join_few(changes)
        );
        tracing::warn!("{text}");
        self.observe_reload(false);
        self.engine.record_configuration_problem(Some(text)).await;
    }

    /// Records that the file is again the one that was loaded.
    pub(crate) async fn forget_configuration_problem(&mut self) {
        if self.engine.configuration_problem().is_some() {
            self.observe_reload(true);
            self.engine.record_configuration_problem(None).await;
            tracing::info!("{} is in use again", self.settings.file.display());
        }
    }

    /// Returns what a configuration changes by the ledger; nothing if that does not answer.
    async fn config_effects(&self, settings: &Settings) -> Vec<ConfigEffect> {
        let ledger = self.context.ledger();
        let reading = async {
            let names = ledger.recorded_names().await.ok()?;
            let states = ledger.all_key_states().await.ok()?;
            Some((names, states))
        };
        let read = tokio::time::timeout(LEDGER_TIMEOUT, reading).await;
        let Ok(Some((names, states))) = read else {
            return Vec::new();
        };
        // `rekeyd reload` refuses names that do not fit.
        let renames = key_names::renames(settings, &names).unwrap_or_default();
        let states = states.into_iter().map(|state| (state.key.clone(), state));
        config_effects(settings, states.collect(), &renames)
    }

    fn observe_reload(&self, is_accepted: bool) {
        if let Some(metrics) = &self.context.metrics {
            metrics.observe_reload(is_accepted, self.clock.now());
        }
    }

    /// Shows in the metrics whether the file is another one than the loaded one.
    pub(crate) fn observe_config_file(&self, is_changed: bool) {
        if let Some(metrics) = &self.context.metrics {
            metrics.observe_config_file(is_changed);
        }
    }

    /// Renames the keys that the settings name differently.
    async fn rename_keys(&mut self, settings: &Settings) -> Result<Vec<Rename>, ReloadError> {
        let ledger = self.context.ledger();
        let recorded = tokio::time::timeout(LEDGER_TIMEOUT, ledger.recorded_names()).await;
        let renames_nothing = settings.keys.iter().all(|key| key.was.is_none());
        let recorded = match recorded {
            Ok(Ok(recorded)) => recorded,
            // A ledger that fails or hangs keeps no reload from being applied.
            Ok(Err(_)) | Err(_) if renames_nothing => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let keys = settings.keys.iter().filter(|key| key.was.is_some());
                let keys = keys.map(|key| key.name.clone()).collect();
                return Err(RenameError::Busy { keys }.into());
            }
        };
        let renames = key_names::renames(settings, &recorded)?;
        self.engine.rename_keys(&renames).await?;
        Ok(renames)
    }

    async fn switch_to(&mut self, settings: Arc<Settings>, sources: AdminCredentialSources) {
        let deadline = CleanupDeadline::starting_now();
        temp_cleanup::remove_stale_temps(&settings, Some(&self.settings), deadline).await;
        let (services, provider) = self.context.build_services(&settings, sources);
        self.context.add_counters(&settings);
        self.engine
            .reconfigure(services, self.context.managed_keys(&settings));
        self.dispatcher.set_channels(&settings.notify);
        hide_private_paths(&settings);
        filter::set_configured(settings.log.level.clone());
        self.settings = settings;
        self.loaded_at = self.clock.now();
        self.provider = Arc::clone(&provider);
        if self.engine.can_send_requests() {
            // The source of the admin key may hold another one now.
            drop(tokio::spawn(async move { provider.reselect().await }));
        }
    }
}

/// Returns the keys that a reload removes.
///
/// # Errors
/// If it must not be applied.
fn check_change(old: &Settings, new: &Settings) -> Result<Vec<KeyName>, ReloadError> {
    let kept: BTreeSet<_> = new.keys.iter().map(|key| &key.name).collect();
    let names = old.keys.iter().map(|key| &key.name);
    let removed: Vec<_> = names.filter(|name| !kept.contains(name)).cloned().collect();
    // First: a cut file seems to change other options as well, and a restart with it
    // would rotate nothing.
    if kept.is_empty() && !removed.is_empty() {
        return Err(ReloadError::NoKeys {
            file: new.file.clone(),
            keys: removed,
        });
    }
    check_fixed_options(old, new)?;
    Ok(removed)
}

/// Returns what applies a change of options. A ledger that has a rotation belongs to one
/// organization for good.
fn restart_hint(options: &[&str]) -> &'static str {
    if options == [LEDGER_PATH] {
        "restart rekeyd to apply it"
    } else {
        "set it back, or give the other provider or organization a ledger of its own and restart \
         rekeyd"
    }
}

const LEDGER_PATH: &str = "[ledger] path";

/// Checks that no option changes that requires a restart.
fn check_fixed_options(old: &Settings, new: &Settings) -> Result<(), ReloadError> {
    let options = [
        (LEDGER_PATH, old.ledger != new.ledger),
        ("[ledger] snapshot", old.snapshot != new.snapshot),
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
        return Ok(());
    }
    Err(ReloadError::RestartRequired {
        file: new.file.clone(),
        options: changed,
    })
}
