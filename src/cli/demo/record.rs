//! Webhooks and commands of a rehearsal, recorded instead of called: a line of
//! JSON each, without the secret. Both are posted to the receiver of the
//! rehearsal, which has this module as its witness.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::core::command::{CommandLine, delivery_variables};
use crate::core::names::KeyName;
use crate::core::settings::{KeySettings, SinkTarget};
use crate::receiver::{Received, Witness};

/// The folder of the webhooks' records.
pub(super) const WEBHOOKS: &str = "webhooks";

/// The folder of the commands' records.
pub(super) const COMMANDS: &str = "commands";

/// The file of what people would be told.
pub(super) const NOTICES: &str = "notices.jsonl";

/// Both.
pub(super) const FOLDERS: [&str; 2] = [WEBHOOKS, COMMANDS];

/// What stands where the secret stood, if the provider shows no part of it.
const NOT_SHOWN: &str = "(not recorded)";

/// One webhook or command of the configuration.
struct Recorded {
    sink: String,
    real: Real,
    record: PathBuf,
}

/// What is not called.
enum Real {
    /// The URL, without its query.
    Webhook(String),
    Command(CommandLine),
}

/// A line of a webhook's record.
#[derive(Serialize)]
struct Posted<'a> {
    sink: &'a str,
    url: &'a str,
    webhook_id: &'a str,
    body: Value,
}

/// A line of a command's record.
#[derive(Serialize)]
struct Run<'a> {
    sink: &'a str,
    argv: Vec<&'a str>,
    environment: BTreeMap<&'static str, String>,
    /// What it would read, but for the newline.
    stdin: &'a Value,
}

/// The path at the receiver that stands for a sink of the configuration.
/// Names of keys and sinks need no escaping.
pub(super) fn path_at_receiver(key: &KeyName, sink: &str) -> String {
    format!("/{key}/{sink}")
}

/// The record of a sink, in the folder of the rehearsal. No name has a dot.
pub(super) fn record_of(folder: &str, key: &KeyName, sink: &str) -> PathBuf {
    Path::new(folder).join(format!("{key}.{sink}.jsonl"))
}

/// Records every webhook and command of `keys` below `folder`.
pub(super) fn witness(keys: &[KeySettings], folder: &Path) -> Witness {
    let mut sinks = BTreeMap::new();
    for key in keys {
        for sink in &key.sinks {
            let (records, real) = match &sink.target {
                SinkTarget::Webhook(target) => {
                    let mut url = target.url.clone();
                    url.set_query(None);
                    (WEBHOOKS, Real::Webhook(url.into()))
                }
                SinkTarget::Command(target) => (COMMANDS, Real::Command(target.argv.clone())),
                SinkTarget::File(_) | SinkTarget::Own(_) => continue,
            };
            let recorded = Recorded {
                sink: sink.id.name.clone(),
                real,
                record: folder.join(record_of(records, &key.name, &sink.id.name)),
            };
            sinks.insert(path_at_receiver(&key.name, &sink.id.name), recorded);
        }
    }
    Box::new(move |received| match sinks.get(&received.path) {
        Some(sink) => append(sink, received),
        None => Err(format!("no sink is configured for {}", received.path)),
    })
}

fn append(sink: &Recorded, received: &Received) -> Result<(), String> {
    let cannot = |why: &dyn std::fmt::Display| {
        let what = match &sink.real {
            Real::Webhook(url) => format!("was to be posted to {url}"),
            Real::Command(line) => format!("{line} was to be given"),
        };
        let record = sink.record.display();
        format!("cannot record in {record} what {what}: {why}")
    };
    let mut text = line(sink, received).map_err(|error| cannot(&error))?;
    if text.contains(&received.value) {
        return Err(cannot(&"the secret stands in it a second time"));
    }
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&sink.record)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot(&error))
}

fn line(sink: &Recorded, received: &Received) -> Result<String, serde_json::Error> {
    let body = without_secret(received)?;
    match &sink.real {
        Real::Webhook(url) => serde_json::to_string(&Posted {
            sink: &sink.sink,
            url,
            webhook_id: &received.id,
            body,
        }),
        Real::Command(line) => {
            let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
            let environment = delivery_variables(
                &received.key,
                text("/data/rotation").unwrap_or_default(),
                received.sequence,
                &sink.sink,
                text("/data/credential/id").unwrap_or_default(),
            );
            serde_json::to_string(&Run {
                sink: &sink.sink,
                argv: line.argv().collect(),
                environment: environment.into_iter().collect(),
                stdin: &body["data"]["value"],
            })
        }
    }
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
                    signing-secret-file = \"/none\"\n[[key.billing.sink]]\ntype = \"command\"\n\
                    argv = [\"/bin/put\", \"a b\"]\n";
        let settings = config::parse(
            Path::new("/c.toml"),
            text,
            &Environment::empty(jiff::Timestamp::UNIX_EPOCH),
        );
        witness(&settings.unwrap().keys, folder)
    }

    fn received(path: &str, redacted: &str) -> Received {
        let body = serde_json::json!({"type": "key.rotated", "data": {
            "key": "billing", "rotation": "07", "sequence": 1, "value": SECRET,
            "credential": {"id": "key_abc", "redacted_value": redacted},
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
        std::fs::create_dir(dir.path().join(WEBHOOKS)).unwrap();
        let record = recorder(dir.path());
        for _ in 0..2 {
            record(&received("/billing/webhook", "sk-admin...ord")).unwrap();
        }
        let written =
            std::fs::read_to_string(dir.path().join("webhooks/billing.webhook.jsonl")).unwrap();
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
    fn a_command_is_recorded_with_what_it_would_be_given() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(COMMANDS)).unwrap();
        let record = recorder(dir.path());
        record(&received("/billing/command", "sk-admin...ord")).unwrap();
        let written =
            std::fs::read_to_string(dir.path().join("commands/billing.command.jsonl")).unwrap();
        let line: Value = serde_json::from_str(&written).unwrap();
        let expected = serde_json::json!({
            "sink": "command",
            "argv": ["/bin/put", "a b"],
            "environment": {
                "REKEYD_KEY": "billing",
                "REKEYD_ROTATION": "07",
                "REKEYD_SEQUENCE": "1",
                "REKEYD_SINK": "command",
                "REKEYD_CREDENTIAL_ID": "key_abc",
            },
            "stdin": "sk-admin...ord",
        });
        assert_eq!(line, expected);
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
        std::fs::create_dir(dir.path().join(WEBHOOKS)).unwrap();
        assert!(record(&received("/billing/other", "")).is_err());
        // A provider that shows the whole secret as its redacted value.
        let whole = record(&received("/billing/webhook", SECRET)).unwrap_err();
        assert!(!whole.contains(SECRET), "{whole}");
        let written = std::fs::read_dir(dir.path().join(WEBHOOKS))
            .unwrap()
            .count();
        assert_eq!(written, 0);
    }
}
