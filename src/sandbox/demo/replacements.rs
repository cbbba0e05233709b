//! Converts a real configuration into one for a rehearsal: every target outside
//! this process is replaced by one below a single folder. Pure: no file is read
//! or created here.
//!
//! Every value is destructured by name, without `..`: an option that is added
//! later has to be considered here before it can reach out of the rehearsal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::alerting::channel::file::FileChannelTarget;
use crate::alerting::channel::target::NotifySettings;
use crate::config::settings::{ControlSettings, KeySettings, LogSettings, MetricsAccess, Settings};
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::InitialRotation;
use crate::provider::settings::ProviderSettings;
use crate::sandbox::demo::recording;
use crate::sink::target::{RehearsalPaths, SinkSettings, SinkTarget, Substitute, target_text};
use crate::sink::webhook::WebhookTarget;

/// The targets of a rehearsal.
pub(crate) struct RehearsalTargets<'a> {
    /// The folder that contains all of them.
    pub(crate) folder: &'a Path,
    /// The base URL of the sandbox.
    pub(crate) provider_url: &'a Url,
    /// The file with its admin key.
    pub(crate) credential_file: &'a Path,
    /// The ledger.
    pub(crate) ledger: PathBuf,
    /// The receiver that records deliveries.
    pub(crate) receiver_url: &'a Url,
    /// The file with the secret that signs deliveries.
    pub(crate) signing_secret_file: &'a Path,
}

impl RehearsalTargets<'_> {
    /// Returns the paths that the types of sinks may use.
    const fn sink_paths(&self) -> RehearsalPaths<'_> {
        RehearsalPaths {
            folder: self.folder,
            files: recording::FILES_FOLDER,
            credential_file: self.credential_file,
        }
    }
}

/// The entry of one sink in the introduction.
pub(crate) struct ReplacedSink {
    /// Its key.
    pub(crate) key: KeyName,
    /// Its name.
    pub(crate) name: String,
    /// Its configured target.
    pub(crate) original: String,
    /// The substitute for it, relative to the folder of the rehearsal.
    pub(crate) replaced_by: String,
    /// The options that have no effect in a rehearsal.
    pub(crate) ignored_options: Vec<String>,
}

/// The settings of a rehearsal, and the folders that they require.
pub(crate) struct RehearsalPlan {
    /// The settings.
    pub(crate) settings: Settings,
    /// The replacement of each sink.
    pub(crate) sinks: Vec<ReplacedSink>,
    /// The folders that the sinks need.
    pub(crate) folders: Vec<PathBuf>,
}

/// The substitute for one sink.
struct SinkReplacement {
    settings: Arc<SinkSettings>,
    report: ReplacedSink,
    folder: Option<PathBuf>,
}

/// Returns the settings of a rehearsal of `real`.
pub(crate) fn replace_settings(real: Settings, targets: &RehearsalTargets<'_>) -> RehearsalPlan {
    let Settings {
        file,
        digest,
        stamp: _,
        text,
        provider,
        ledger: _,
        is_ledger_named: _,
        snapshot: _,
        control: _,
        metrics: _,
        metrics_access: _,
        log: _,
        notify,
        keys,
        protected_files: _,
    } = real;
    let (mut replaced_sinks, mut folders) = (Vec::new(), Vec::new());
    let keys = keys
        .into_iter()
        .map(|key| {
            let KeySettings {
                name,
                was: _,
                scope,
                mut policy,
                sinks,
            } = key;
            let sinks = sinks
                .into_iter()
                .map(|sink| {
                    let replacement = replace_sink(&name, &sink, targets);
                    replaced_sinks.push(replacement.report);
                    folders.extend(replacement.folder);
                    replacement.settings
                })
                .collect();
            // A rehearsal rotates at once. A policy that many keys share is
            // copied only where it differs.
            if policy.initial_rotation != InitialRotation::Now {
                Arc::make_mut(&mut policy).initial_rotation = InitialRotation::Now;
            }
            KeySettings {
                name,
                // The rehearsal has a ledger of its own.
                was: None,
                scope,
                policy,
                sinks,
            }
        })
        .collect();
    let settings = Settings {
        file,
        digest,
        stamp: None,
        text,
        provider: replace_provider(provider, targets),
        ledger: targets.ledger.clone(),
        is_ledger_named: true,
        snapshot: None,
        // A rehearsal serves no requests.
        control: ControlSettings {
            socket: None,
            admins: Vec::new(),
            super_admins: None,
            reload_on_change: false,
            is_named: false,
        },
        metrics: None,
        metrics_access: MetricsAccess::default(),
        log: LogSettings::default(),
        notify: notify
            .into_iter()
            .map(|channel| record_notifications(channel, targets))
            .collect(),
        keys,
        // A rehearsal writes below its own folder.
        protected_files: Arc::default(),
    };
    RehearsalPlan {
        settings,
        sinks: replaced_sinks,
        folders,
    }
}

fn replace_provider(real: ProviderSettings, targets: &RehearsalTargets<'_>) -> ProviderSettings {
    let ProviderSettings {
        base_url: _,
        credential_file: _,
        organization: _,
        ca_file: _,
        identity: _,
        request_timeout,
        max_in_flight,
        reconcile_every,
        trusted_paths,
    } = real;
    ProviderSettings {
        base_url: targets.provider_url.clone(),
        credential_file: Some(targets.credential_file.to_owned()),
        organization: None,
        ca_file: None,
        identity: None,
        request_timeout,
        max_in_flight,
        reconcile_every,
        trusted_paths,
    }
}

/// Replaces a channel by a file that records its notifications.
fn record_notifications(real: NotifySettings, targets: &RehearsalTargets<'_>) -> NotifySettings {
    let NotifySettings {
        name,
        subscription,
        target: _,
        trusted_paths,
    } = real;
    NotifySettings {
        name,
        subscription,
        target: Arc::new(FileChannelTarget {
            path: targets.folder.join(recording::NOTIFICATIONS_FILE),
        }),
        trusted_paths,
    }
}

fn replace_sink(
    key: &KeyName,
    sink: &SinkSettings,
    targets: &RehearsalTargets<'_>,
) -> SinkReplacement {
    let SinkSettings {
        id,
        required,
        timeout,
        target,
    } = sink;
    let name = &id.name;
    let rehearsal = target.rehearsal(&targets.sink_paths());
    type Replacement = (Arc<dyn SinkTarget>, String, String, Option<PathBuf>);
    let (target, target_text, replaced_by, folder): Replacement = match rehearsal.substitute {
        Substitute::Target {
            target,
            display,
            folder,
        } => {
            let text = target_text(&*target);
            (target, text, display.display().to_string(), folder)
        }
        Substitute::Record(recorder) => {
            let record = recording::record_path(recorder.folder, key, name);
            let record = record.display();
            // The receiver that writes it is no target of the configuration.
            let text = format!("record:{record}");
            let replaced_by = format!("recorded in {record}");
            (receiver_target(key, name, targets), text, replaced_by, None)
        }
    };
    SinkReplacement {
        report: ReplacedSink {
            key: key.clone(),
            name: name.clone(),
            original: rehearsal.original,
            replaced_by,
            ignored_options: rehearsal.ignored_options,
        },
        settings: Arc::new(SinkSettings {
            id: SinkId {
                name: name.clone(),
                target: target_text,
            },
            required: *required,
            timeout: *timeout,
            target,
        }),
        folder,
    }
}

/// Returns the receiver of the rehearsal as the target of a sink, whose
/// deliveries it records.
fn receiver_target(
    key: &KeyName,
    sink: &str,
    targets: &RehearsalTargets<'_>,
) -> Arc<WebhookTarget> {
    let mut url = targets.receiver_url.clone();
    url.set_path(&recording::receiver_path(key, sink));
    Arc::new(WebhookTarget {
        url,
        socket: None,
        // The receiver is this process.
        owner: Some(rustix::process::geteuid().as_raw().to_string()),
        unauthenticated_receiver: false,
        signing_secret_file: targets.signing_secret_file.to_owned(),
        bearer_token_file: None,
        ca_file: None,
        identity: None,
    })
}
