//! From a real configuration to one that can be rehearsed: everything that
//! reaches out of this process is replaced by something below one folder.
//! Nothing is read or made here.
//!
//! Every value is taken apart by name, without `..`: an option that is added
//! later has to be looked at here before it can reach out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::cli::demo::recording;
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::InitialRotation;
use crate::core::settings::{
    CommandTarget, ControlSettings, FileTarget, KeySettings, NotifySettings, NotifyTarget,
    ProviderSettings, Settings, SinkSettings, SinkTarget, WebhookTarget,
};

/// The folder of the files that stand for those of file sinks.
pub(super) const FILES_FOLDER: &str = "files";

/// What a rehearsal has to offer.
pub(super) struct RehearsalTargets<'a> {
    /// The folder below which everything stays.
    pub(super) folder: &'a Path,
    /// The sandbox.
    pub(super) provider_url: &'a Url,
    /// Its admin key.
    pub(super) credential_file: &'a Path,
    /// The ledger.
    pub(super) ledger: PathBuf,
    /// The receiver of what is recorded.
    pub(super) receiver_url: &'a Url,
    /// What they are signed with.
    pub(super) signing_secret_file: &'a Path,
}

/// What a person is told of one sink.
pub(super) struct ReplacedSink {
    /// Its key.
    pub(super) key: KeyName,
    /// Its name.
    pub(super) name: String,
    /// What the configuration says.
    pub(super) original: String,
    /// What takes its place, in the folder of the rehearsal.
    pub(super) replaced_by: String,
    /// What of its options does not count here.
    pub(super) ignored_options: Vec<String>,
}

/// The settings to rehearse with, and what became of each sink.
pub(super) fn replace_settings(
    real: Settings,
    instead: &RehearsalTargets<'_>,
) -> (Settings, Vec<ReplacedSink>) {
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
    let mut told = Vec::new();
    let keys = keys
        .into_iter()
        .map(|key| {
            let KeySettings {
                name,
                mut policy,
                sinks,
            } = key;
            let sinks = sinks
                .into_iter()
                .map(|sink| {
                    let (sink, replaced) = replace_sink(&name, Arc::unwrap_or_clone(sink), instead);
                    told.push(replaced);
                    Arc::new(sink)
                })
                .collect();
            // Whoever watches does not wait for the first firing. What many keys
            // share is copied only where it says otherwise.
            if policy.initial_rotation != InitialRotation::Now {
                Arc::make_mut(&mut policy).initial_rotation = InitialRotation::Now;
            }
            KeySettings {
                name,
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
        // Nobody asks a rehearsal for anything.
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
    (settings, told)
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

/// Nobody is told: what would be is recorded.
fn record_notifications(real: NotifySettings, instead: &RehearsalTargets<'_>) -> NotifySettings {
    let NotifySettings {
        subscription: listener,
        target: _,
    } = real;
    NotifySettings {
        subscription: listener,
        target: NotifyTarget::File(instead.folder.join(recording::NOTIFICATIONS_FILE)),
    }
}

/// What takes the place of a sink's target.
struct SinkReplacement {
    target: SinkTarget,
    /// The target as the ledger knows it.
    ledger_target: String,
    original: String,
    replaced_by: String,
    ignored_options: Vec<String>,
}

fn replace_sink(
    key: &KeyName,
    sink: SinkSettings,
    instead: &RehearsalTargets<'_>,
) -> (SinkSettings, ReplacedSink) {
    let SinkSettings {
        id,
        required,
        timeout,
        target,
    } = sink;
    let name = id.name;
    let replacement = match target {
        SinkTarget::File(file) => replace_file_target(Arc::unwrap_or_clone(file), instead),
        SinkTarget::SelfCredential(file) => {
            replace_self_credential(Arc::unwrap_or_clone(file), instead)
        }
        SinkTarget::Webhook(webhook) => {
            replace_webhook(key, &name, Arc::unwrap_or_clone(webhook), instead)
        }
        SinkTarget::Command(command) => {
            replace_command(key, &name, Arc::unwrap_or_clone(command), instead)
        }
    };
    let told = ReplacedSink {
        key: key.clone(),
        name: name.clone(),
        original: replacement.original,
        replaced_by: replacement.replaced_by,
        ignored_options: replacement.ignored_options,
    };
    let sink = SinkSettings {
        id: SinkId {
            name,
            target: replacement.ledger_target,
        },
        required,
        timeout,
        target: replacement.target,
    };
    (sink, told)
}

/// The same path below the folder of the rehearsal.
fn replace_file_target(real: FileTarget, instead: &RehearsalTargets<'_>) -> SinkReplacement {
    let FileTarget {
        path,
        format,
        mode,
        owner,
        group,
        on_change: after,
    } = real;
    let below = Path::new(FILES_FOLDER).join(path.strip_prefix("/").unwrap_or(&path));
    let ignored = [("owner", owner), ("group", group)]
        .into_iter()
        .filter_map(|(option, name)| Some(format!("{option} = {:?}", name?)))
        .chain(after.map(|after| format!("on-change ({})", after.argv)))
        .collect();
    let target = FileTarget {
        path: instead.folder.join(&below),
        format,
        mode,
        // Who is to have the real file need not be known on this host.
        owner: None,
        group: None,
        // Nothing is run: consumers of the real file would be told of a new
        // key that is none.
        on_change: None,
    };
    SinkReplacement {
        ledger_target: format!("file:{}", target.path.display()),
        target: SinkTarget::File(Arc::new(target)),
        original: path.display().to_string(),
        replaced_by: below.display().to_string(),
        ignored_options: ignored,
    }
}

/// The file with the sandbox's admin key.
fn replace_self_credential(real: FileTarget, instead: &RehearsalTargets<'_>) -> SinkReplacement {
    let path = instead.credential_file.to_owned();
    let FileTarget {
        path: shown,
        format,
        mode,
        owner: _,
        group: _,
        on_change: _,
    } = real;
    let below = path.strip_prefix(instead.folder).unwrap_or(&path);
    SinkReplacement {
        ledger_target: format!("self:{}", path.display()),
        original: shown.display().to_string(),
        replaced_by: below.display().to_string(),
        ignored_options: Vec::new(),
        target: SinkTarget::SelfCredential(Arc::new(FileTarget {
            path,
            format,
            mode,
            owner: None,
            group: None,
            on_change: None,
        })),
    }
}

/// A path at the receiver that stands for this webhook.
fn replace_webhook(
    key: &KeyName,
    sink: &str,
    real: WebhookTarget,
    instead: &RehearsalTargets<'_>,
) -> SinkReplacement {
    let WebhookTarget {
        url: mut shown,
        signing_secret_file: _,
        bearer_token_file,
        ca_file: _,
    } = real;
    // A query may hold a token.
    shown.set_query(None);
    let (id, target) = receiver_target(key, sink, instead);
    let record = recording::record_path(recording::WEBHOOKS_FOLDER, key, sink);
    SinkReplacement {
        ledger_target: id,
        target,
        original: shown.into(),
        replaced_by: format!("recorded in {}", record.display()),
        ignored_options: bearer_token_file
            .map(|_| "bearer-token-file".to_owned())
            .into_iter()
            .collect(),
    }
}

/// The same for a command: nothing is run.
fn replace_command(
    key: &KeyName,
    sink: &str,
    real: CommandTarget,
    instead: &RehearsalTargets<'_>,
) -> SinkReplacement {
    let CommandTarget { argv } = real;
    let (id, target) = receiver_target(key, sink, instead);
    let record = recording::record_path(recording::COMMANDS_FOLDER, key, sink);
    SinkReplacement {
        ledger_target: id,
        target,
        original: argv.to_string(),
        replaced_by: format!("recorded in {}", record.display()),
        ignored_options: Vec::new(),
    }
}

/// A webhook to the receiver of the rehearsal, and what the ledger knows it by.
fn receiver_target(
    key: &KeyName,
    sink: &str,
    instead: &RehearsalTargets<'_>,
) -> (String, SinkTarget) {
    let mut url = instead.receiver_url.clone();
    url.set_path(&recording::receiver_path(key, sink));
    let id = format!("webhook:{url}");
    let target = WebhookTarget {
        url,
        signing_secret_file: instead.signing_secret_file.to_owned(),
        bearer_token_file: None,
        ca_file: None,
    };
    (id, SinkTarget::Webhook(Arc::new(target)))
}
