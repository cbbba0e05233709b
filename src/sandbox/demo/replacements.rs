//! Turns a real configuration into one for a rehearsal: everything that reaches
//! out of this process is replaced by something below one folder. Pure: nothing
//! is read or created here.
//!
//! Every value is destructured by name, without `..`: an option that is added
//! later has to be considered here before it can reach out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::alerting::channel::file::FileChannelTarget;
use crate::alerting::channel::target::NotifySettings;
use crate::config::settings::{ControlSettings, KeySettings, Settings};
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::InitialRotation;
use crate::provider::settings::ProviderSettings;
use crate::sandbox::demo::recording;
use crate::sink::target::{RehearsalPlaces, SinkSettings, SinkTarget, Substitute, target_text};
use crate::sink::webhook::WebhookTarget;

/// What replaces the real targets.
pub(crate) struct RehearsalTargets<'a> {
    /// The folder below which everything stays.
    pub(crate) folder: &'a Path,
    /// The sandbox.
    pub(crate) provider_url: &'a Url,
    /// Its admin key.
    pub(crate) credential_file: &'a Path,
    /// The ledger.
    pub(crate) ledger: PathBuf,
    /// The receiver that records deliveries.
    pub(crate) receiver_url: &'a Url,
    /// The file with the secret that signs them.
    pub(crate) signing_secret_file: &'a Path,
}

impl RehearsalTargets<'_> {
    /// The places that the types of sinks know of.
    const fn places(&self) -> RehearsalPlaces<'_> {
        RehearsalPlaces {
            folder: self.folder,
            files: recording::FILES_FOLDER,
            credential_file: self.credential_file,
        }
    }
}

/// What the introduction shows of one sink.
pub(crate) struct ReplacedSink {
    /// Its key.
    pub(crate) key: KeyName,
    /// Its name.
    pub(crate) name: String,
    /// What the configuration says.
    pub(crate) original: String,
    /// What takes its place, in the folder of the rehearsal.
    pub(crate) replaced_by: String,
    /// The options that have no effect in a rehearsal.
    pub(crate) ignored_options: Vec<String>,
}

/// What a rehearsal works with.
pub(crate) struct RehearsalPlan {
    /// The settings.
    pub(crate) settings: Settings,
    /// The replacement of each sink.
    pub(crate) sinks: Vec<ReplacedSink>,
    /// The folders that the sinks need.
    pub(crate) folders: Vec<PathBuf>,
}

/// What takes the place of one sink.
struct SinkReplacement {
    settings: Arc<SinkSettings>,
    report: ReplacedSink,
    folder: Option<PathBuf>,
}

/// The settings to rehearse with.
pub(crate) fn replace_settings(real: Settings, instead: &RehearsalTargets<'_>) -> RehearsalPlan {
    let Settings {
        file,
        digest,
        provider,
        ledger: _,
        control: _,
        metrics: _,
        notify,
        keys,
    } = real;
    let (mut replaced, mut folders) = (Vec::new(), Vec::new());
    let keys = keys
        .into_iter()
        .map(|key| {
            let KeySettings {
                name,
                scope,
                mut policy,
                sinks,
            } = key;
            let sinks = sinks
                .into_iter()
                .map(|sink| {
                    let replacement = replace_sink(&name, &sink, instead);
                    replaced.push(replacement.report);
                    folders.extend(replacement.folder);
                    replacement.settings
                })
                .collect();
            // A rehearsal rotates at once. A policy that many keys share is
            // copied only where it says otherwise.
            if policy.initial_rotation != InitialRotation::Now {
                Arc::make_mut(&mut policy).initial_rotation = InitialRotation::Now;
            }
            KeySettings {
                name,
                scope,
                policy,
                sinks,
            }
        })
        .collect();
    let settings = Settings {
        file,
        digest,
        provider: replace_provider(provider, instead),
        ledger: instead.ledger.clone(),
        // A rehearsal serves no requests.
        control: ControlSettings {
            socket: None,
            admins: Vec::new(),
        },
        metrics: None,
        notify: notify
            .into_iter()
            .map(|one| record_notifications(one, instead))
            .collect(),
        keys,
    };
    RehearsalPlan {
        settings,
        sinks: replaced,
        folders,
    }
}

fn replace_provider(real: ProviderSettings, instead: &RehearsalTargets<'_>) -> ProviderSettings {
    let ProviderSettings {
        base_url: _,
        credential_file: _,
        organization: _,
        ca_file: _,
        request_timeout,
        max_in_flight,
        reconcile_every: sweep_every,
    } = real;
    ProviderSettings {
        base_url: instead.provider_url.clone(),
        credential_file: Some(instead.credential_file.to_owned()),
        organization: None,
        ca_file: None,
        request_timeout,
        max_in_flight,
        reconcile_every: sweep_every,
    }
}

/// Notifications are recorded instead of sent.
fn record_notifications(real: NotifySettings, instead: &RehearsalTargets<'_>) -> NotifySettings {
    let NotifySettings {
        subscription: listener,
        target: _,
    } = real;
    NotifySettings {
        subscription: listener,
        target: Arc::new(FileChannelTarget {
            path: instead.folder.join(recording::NOTIFICATIONS_FILE),
        }),
    }
}

fn replace_sink(
    key: &KeyName,
    sink: &SinkSettings,
    instead: &RehearsalTargets<'_>,
) -> SinkReplacement {
    let SinkSettings {
        id,
        required,
        timeout,
        target,
    } = sink;
    let name = &id.name;
    let rehearsal = target.rehearsal(&instead.places());
    let (target, replaced_by, folder): (Arc<dyn SinkTarget>, _, _) = match rehearsal.substitute {
        Substitute::Target {
            target,
            display,
            folder,
        } => (target, display.display().to_string(), folder),
        Substitute::Record(recorder) => {
            let record = recording::record_path(recorder.folder, key, name);
            let replaced_by = format!("recorded in {}", record.display());
            (receiver_target(key, name, instead), replaced_by, None)
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
                target: target_text(&*target),
            },
            required: *required,
            timeout: *timeout,
            target,
        }),
        folder,
    }
}

/// A webhook to the receiver of the rehearsal, which records the delivery.
fn receiver_target(
    key: &KeyName,
    sink: &str,
    instead: &RehearsalTargets<'_>,
) -> Arc<WebhookTarget> {
    let mut url = instead.receiver_url.clone();
    url.set_path(&recording::receiver_path(key, sink));
    Arc::new(WebhookTarget {
        url,
        signing_secret_file: instead.signing_secret_file.to_owned(),
        bearer_token_file: None,
        ca_file: None,
    })
}
