//! Webhooks of a rehearsal, recorded instead of called: a line of JSON each,
//! without the secret.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::core::names::KeyName;
use crate::core::settings::{KeySettings, SinkTarget};
use crate::receiver::{Received, Witness};

/// The folder of the records.
pub(super) const FOLDER: &str = "webhooks";

/// What stands where the secret stood, if the provider shows no part of it.
const NOT_SHOWN: &str = "(not recorded)";

/// One webhook of the configuration.
struct Hook {
    sink: String,
    /// The real URL, without its query.
    url: String,
    record: PathBuf,
}

/// A line of a record.
#[derive(Serialize)]
struct Line<'a> {
    sink: &'a str,
    url: &'a str,
    webhook_id: &'a str,
    body: Value,
}

/// The path at the receiver that stands for a webhook of the configuration.
/// Names of keys and sinks need no escaping.
pub(super) fn path_at_receiver(key: &KeyName, sink: &str) -> String {
    format!("/{key}/{sink}")
}

/// The record of a webhook, in the folder of the rehearsal.
pub(super) fn record_of(key: &KeyName, sink: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{key}-{sink}.jsonl"))
}

/// Records every webhook of `keys` below `folder`.
pub(super) fn witness(keys: &[KeySettings], folder: &Path) -> Witness {
    let mut hooks = BTreeMap::new();
    for key in keys {
        for sink in &key.sinks {
            match &sink.target {
                SinkTarget::Webhook(target) => {
                    let mut url = target.url.clone();
                    url.set_query(None);
                    let hook = Hook {
                        sink: sink.id.name.clone(),
                        url: url.into(),
                        record: folder.join(record_of(&key.name, &sink.id.name)),
                    };
                    hooks.insert(path_at_receiver(&key.name, &sink.id.name), hook);
                }
                SinkTarget::File(_) | SinkTarget::Own(_) => {}
            }
        }
    }
    Box::new(move |received| match hooks.get(&received.path) {
        Some(hook) => append(hook, received),
        None => Err(format!("no webhook is configured for {}", received.path)),
    })
}

fn append(hook: &Hook, received: &Received) -> Result<(), String> {
    let cannot = |why: &dyn std::fmt::Display| {
        format!(
            "cannot record in {} what was to be posted to {}: {why}",
            hook.record.display(),
            hook.url
        )
    };
    let line = Line {
        sink: &hook.sink,
        url: &hook.url,
        webhook_id: &received.id,
        body: without_secret(received).map_err(|error| cannot(&error))?,
    };
    let mut text = serde_json::to_string(&line).map_err(|error| cannot(&error))?;
    if text.contains(&received.value) {
        return Err(cannot(&"the secret stands in it a second time"));
    }
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&hook.record)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot(&error))
}

/// The body with the part of the secret that the provider shows to everybody.
fn without_secret(received: &Received) -> Result<Value, serde_json::Error> {
    let mut body: Value = serde_json::from_slice(&received.body)?;
    let shown = body
        .pointer("/data/credential/redacted_value")
        .and_then(Value::as_str)
        .unwrap_or(NOT_SHOWN)
        .to_owned();
    if let Some(value) = body.pointer_mut("/data/value") {
        *value = Value::String(shown);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    const SECRET: &str = "sk-admin-of-the-record";

    fn recorder(folder: &Path) -> Witness {
        let text = "[key.billing]\nschedule = \"@daily\"\n[[key.billing.sink]]\ntype = \"webhook\"\n\
                    url = \"https://deploy.example.com/hook?token=hidden\"\n\
                    signing-secret-file = \"/none\"\n";
        let settings = config::parse(
            Path::new("/c.toml"),
            text,
            &Environment::empty(jiff::Timestamp::UNIX_EPOCH),
        );
        witness(&settings.unwrap().keys, folder)
    }

    fn received(path: &str, redacted: &str) -> Received {
        let body = serde_json::json!({"type": "key.rotated", "data": {
            "key": "billing", "sequence": 1, "value": SECRET,
            "credential": {"redacted_value": redacted},
        }});
        Received {
            path: path.to_owned(),
            id: "msg_1".to_owned(),
            key: "billing".to_owned(),
            sequence: 1,
            value: SECRET.to_owned(),
            body: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn the_redacted_value_stands_where_the_secret_stood() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let record = recorder(dir.path());
        for _ in 0..2 {
            record(&received("/billing/webhook", "sk-admin...ord")).unwrap();
        }
        let written =
            std::fs::read_to_string(dir.path().join("webhooks/billing-webhook.jsonl")).unwrap();
        let lines: Vec<Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["url"], "https://deploy.example.com/hook");
        assert_eq!(lines[0]["body"]["data"]["value"], "sk-admin...ord");
        assert!(!written.contains(SECRET));
    }

    #[test]
    fn what_cannot_be_recorded_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let record = recorder(dir.path());
        let webhook = received("/billing/webhook", "sk-admin...ord");
        let missing = record(&webhook).unwrap_err();
        assert!(
            missing.contains("https://deploy.example.com/hook: "),
            "{missing}"
        );
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        assert!(record(&received("/billing/other", "")).is_err());
        // A provider that shows the whole secret as its redacted value.
        let whole = record(&received("/billing/webhook", SECRET)).unwrap_err();
        assert!(!whole.contains(SECRET), "{whole}");
        let written = std::fs::read_dir(dir.path().join(FOLDER)).unwrap().count();
        assert_eq!(written, 0);
    }
}
