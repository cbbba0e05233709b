//! From a real configuration to one that can be rehearsed: everything that
//! reaches out of this process is replaced by something below one folder.
//! Nothing is read or made here.
//!
//! Every value is taken apart by name, without `..`: an option that is added
//! later has to be looked at here before it can reach out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::cli::demo::record;
use crate::core::names::{KeyName, SinkId};
use crate::core::policy::First;
use crate::core::settings::{
    CommandTarget, ControlSettings, FileTarget, KeySettings, NotifySettings, NotifyTarget,
    ProviderSettings, Settings, SinkSettings, SinkTarget, WebhookTarget,
};

/// The folder of the files that stand for those of file sinks.
pub(super) const FOLDER: &str = "files";

/// What a rehearsal has to offer.
pub(super) struct Instead<'a> {
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
    pub(super) real: String,
    /// What takes its place, in the folder of the rehearsal.
    pub(super) instead: String,
    /// What of its options does not count here.
    pub(super) ignored: Vec<String>,
}

/// The settings to rehearse with, and what became of each sink.
pub(super) fn replace(real: Settings, instead: &Instead<'_>) -> (Settings, Vec<ReplacedSink>) {
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
            if policy.first != First::Now {
                Arc::make_mut(&mut policy).first = First::Now;
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
            .map(|one| record_notices(one, instead))
            .collect(),
        keys,
    };
    (settings, told)
}

fn replace_provider(real: ProviderSettings, instead: &Instead<'_>) -> ProviderSettings {
    let ProviderSettings {
        base_url: _,
        credential_file: _,
        organization: _,
        ca_file: _,
        request_timeout,
        max_in_flight,
        sweep_every,
    } = real;
    ProviderSettings {
        base_url: instead.provider_url.clone(),
        credential_file: Some(instead.credential_file.to_owned()),
        organization: None,
        ca_file: None,
        request_timeout,
        max_in_flight,
        sweep_every,
    }
}

/// Nobody is told: what would be is recorded.
fn record_notices(real: NotifySettings, instead: &Instead<'_>) -> NotifySettings {
    let NotifySettings {
        listener,
        target: _,
    } = real;
    NotifySettings {
        listener,
        target: NotifyTarget::Record(instead.folder.join(record::NOTICES)),
    }
}

/// What takes the place of a sink's target.
struct Replacement {
    target: SinkTarget,
    /// The target as the ledger knows it.
    id: String,
    real: String,
    instead: String,
    ignored: Vec<String>,
}

fn replace_sink(
    key: &KeyName,
    sink: SinkSettings,
    instead: &Instead<'_>,
) -> (SinkSettings, ReplacedSink) {
    let SinkSettings {
        id,
        required,
        timeout,
        target,
    } = sink;
    let name = id.name;
    let replacement = match target {
        SinkTarget::File(file) => file_below(Arc::unwrap_or_clone(file), instead),
        SinkTarget::Own(file) => own_file(Arc::unwrap_or_clone(file), instead),
        SinkTarget::Webhook(webhook) => {
            recorded_webhook(key, &name, Arc::unwrap_or_clone(webhook), instead)
        }
        SinkTarget::Command(command) => {
            recorded_command(key, &name, Arc::unwrap_or_clone(command), instead)
        }
    };
    let told = ReplacedSink {
        key: key.clone(),
        name: name.clone(),
        real: replacement.real,
        instead: replacement.instead,
        ignored: replacement.ignored,
    };
    let sink = SinkSettings {
        id: SinkId {
            name,
            target: replacement.id,
        },
        required,
        timeout,
        target: replacement.target,
    };
    (sink, told)
}

/// The same path below the folder of the rehearsal.
fn file_below(real: FileTarget, instead: &Instead<'_>) -> Replacement {
    let FileTarget {
        path,
        format,
        mode,
        owner,
        group,
        after,
    } = real;
    let below = Path::new(FOLDER).join(path.strip_prefix("/").unwrap_or(&path));
    let ignored = [("owner", owner), ("group", group)]
        .into_iter()
        .filter_map(|(option, name)| Some(format!("{option} = {:?}", name?)))
        .chain(after.map(|after| format!("after ({})", after.argv)))
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
        after: None,
    };
    Replacement {
        id: format!("file:{}", target.path.display()),
        target: SinkTarget::File(Arc::new(target)),
        real: path.display().to_string(),
        instead: below.display().to_string(),
        ignored,
    }
}

/// The file with the sandbox's admin key.
fn own_file(real: FileTarget, instead: &Instead<'_>) -> Replacement {
    let path = instead.credential_file.to_owned();
    let FileTarget {
        path: shown,
        format,
        mode,
        owner: _,
        group: _,
        after: _,
    } = real;
    let below = path.strip_prefix(instead.folder).unwrap_or(&path);
    Replacement {
        id: format!("self:{}", path.display()),
        real: shown.display().to_string(),
        instead: below.display().to_string(),
        ignored: Vec::new(),
        target: SinkTarget::Own(Arc::new(FileTarget {
            path,
            format,
            mode,
            owner: None,
            group: None,
            after: None,
        })),
    }
}

/// A path at the receiver that stands for this webhook.
fn recorded_webhook(
    key: &KeyName,
    sink: &str,
    real: WebhookTarget,
    instead: &Instead<'_>,
) -> Replacement {
    let WebhookTarget {
        url: mut shown,
        signing_secret_file: _,
        bearer_token_file,
        ca_file: _,
    } = real;
    // A query may hold a token.
    shown.set_query(None);
    let (id, target) = at_receiver(key, sink, instead);
    let record = record::record_of(record::WEBHOOKS, key, sink);
    Replacement {
        id,
        target,
        real: shown.into(),
        instead: format!("recorded in {}", record.display()),
        ignored: bearer_token_file
            .map(|_| "bearer-token-file".to_owned())
            .into_iter()
            .collect(),
    }
}

/// The same for a command: nothing is run.
fn recorded_command(
    key: &KeyName,
    sink: &str,
    real: CommandTarget,
    instead: &Instead<'_>,
) -> Replacement {
    let CommandTarget { argv } = real;
    let (id, target) = at_receiver(key, sink, instead);
    let record = record::record_of(record::COMMANDS, key, sink);
    Replacement {
        id,
        target,
        real: argv.to_string(),
        instead: format!("recorded in {}", record.display()),
        ignored: Vec::new(),
    }
}

/// A webhook to the receiver of the rehearsal, and what the ledger knows it by.
fn at_receiver(key: &KeyName, sink: &str, instead: &Instead<'_>) -> (String, SinkTarget) {
    let mut url = instead.receiver_url.clone();
    url.set_path(&record::path_at_receiver(key, sink));
    let id = format!("webhook:{url}");
    let target = WebhookTarget {
        url,
        signing_secret_file: instead.signing_secret_file.to_owned(),
        bearer_token_file: None,
        ca_file: None,
    };
    (id, SinkTarget::Webhook(Arc::new(target)))
}
