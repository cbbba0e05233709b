//! Files that must not be written by a sink: another sink's, the ledger's, the
//! configuration and the secrets that rekeyd reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::reader::Report;
use crate::core::settings::{Settings, SinkTarget};

/// Notes every file sink whose path is taken.
pub(crate) fn check(settings: &Settings, report: &Report) {
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    taken.insert(settings.file.clone(), "the configuration".to_owned());
    for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
        let mut path = settings.ledger.clone().into_os_string();
        path.push(suffix);
        taken.insert(path.into(), "the ledger".to_owned());
    }
    let mut secret = |path: &Option<PathBuf>, what: &str| {
        if let Some(path) = path {
            taken.insert(path.clone(), what.to_owned());
        }
    };
    secret(
        &settings.provider.credential_file,
        "provider.credential-file",
    );
    secret(&settings.provider.ca_file, "provider.ca-file");
    for sink in settings.keys.iter().flat_map(|key| &key.sinks) {
        if let SinkTarget::Webhook(target) = &sink.target {
            secret(
                &Some(target.signing_secret_file.clone()),
                "a webhook's signing-secret-file",
            );
            secret(&target.bearer_token_file, "a webhook's bearer-token-file");
            secret(&target.ca_file, "a webhook's ca-file");
        }
    }
    for key in &settings.keys {
        for sink in &key.sinks {
            let SinkTarget::File(target) = &sink.target else {
                continue;
            };
            let at = format!("key.{}: sink {}", key.name, sink.id.name);
            let written = [target.path.clone(), temporary(&target.path)];
            if let Some((path, by)) = written.iter().find_map(|path| taken.get_key_value(path)) {
                let message = format!(
                    "would write {}, which belongs to {by}; give it a path of its own",
                    path.display()
                );
                report.note(None, &at, message);
            }
            taken
                .entry(target.path.clone())
                .or_insert_with(|| at.clone());
            taken.entry(temporary(&target.path)).or_insert(at);
        }
    }
}

/// The file beside the target that is written first.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.rekeyd"))
}
