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

use crate::core::command::{CommandLine, delivery_environment};
use crate::core::ids::KeyName;
use crate::core::settings::{KeySettings, SinkTarget};
use crate::receiver::{ReceivedWebhook, Recorder};

/// The folder of the webhooks' records.
pub(super) const WEBHOOKS_FOLDER: &str = "webhooks";

/// The folder of the commands' records.
pub(super) const COMMANDS_FOLDER: &str = "commands";

/// The file of what people would be told.
pub(super) const NOTIFICATIONS_FILE: &str = "notices.jsonl";

/// Both.
pub(super) const RECORD_FOLDERS: [&str; 2] = [WEBHOOKS_FOLDER, COMMANDS_FOLDER];

/// What stands where the secret stood, if the provider shows no part of it.
const REDACTED: &str = "(not recorded)";

/// One webhook or command of the configuration.
struct RecordedSink {
    sink_name: String,
    original: OriginalTarget,
    record_file: PathBuf,
}

/// What is not called.
enum OriginalTarget {
    /// The URL, without its query.
    Webhook(String),
    Command(CommandLine),
}

/// A line of a webhook's record.
#[derive(Serialize)]
struct WebhookRecord<'a> {
    sink: &'a str,
    url: &'a str,
    webhook_id: &'a str,
    body: Value,
}

/// A line of a command's record.
#[derive(Serialize)]
struct CommandRecord<'a> {
    sink: &'a str,
    argv: Vec<&'a str>,
    environment: BTreeMap<&'static str, String>,
    /// What it would read, but for the newline.
    stdin: &'a Value,
}

/// The path at the receiver that stands for a sink of the configuration.
/// Names of keys and sinks need no escaping.
pub(super) fn receiver_path(key: &KeyName, sink: &str) -> String {
    format!("/{key}/{sink}")
}

/// The record of a sink, in the folder of the rehearsal. No name has a dot.
pub(super) fn record_path(folder: &str, key: &KeyName, sink: &str) -> PathBuf {
    Path::new(folder).join(format!("{key}.{sink}.jsonl"))
}

/// Records every webhook and command of `keys` below `folder`.
pub(super) fn build_recorder(keys: &[KeySettings], folder: &Path) -> Recorder {
    let mut sinks = BTreeMap::new();
    for key in keys {
        for sink in &key.sinks {
            let (records, real) = match &sink.target {
                SinkTarget::Webhook(target) => {
                    let mut url = target.url.clone();
                    url.set_query(None);
                    (WEBHOOKS_FOLDER, OriginalTarget::Webhook(url.into()))
                }
                SinkTarget::Command(target) => (
                    COMMANDS_FOLDER,
                    OriginalTarget::Command(target.argv.clone()),
                ),
                SinkTarget::File(_) | SinkTarget::SelfCredential(_) => continue,
            };
            let recorded = RecordedSink {
                sink_name: sink.id.name.clone(),
                original: real,
                record_file: folder.join(record_path(records, &key.name, &sink.id.name)),
            };
            sinks.insert(receiver_path(&key.name, &sink.id.name), recorded);
        }
    }
    Box::new(move |received| match sinks.get(&received.path) {
        Some(sink) => append_record(sink, received),
        None => Err(format!("no sink is configured for {}", received.path)),
    })
}

fn append_record(sink: &RecordedSink, received: &ReceivedWebhook) -> Result<(), String> {
    let cannot = |why: &dyn std::fmt::Display| {
        let what = match &sink.original {
            OriginalTarget::Webhook(url) => format!("was to be posted to {url}"),
            OriginalTarget::Command(line) => format!("{line} was to be given"),
        };
        let record = sink.record_file.display();
        format!("cannot record in {record} what {what}: {why}")
    };
    let mut text = record_line(sink, received).map_err(|error| cannot(&error))?;
    if text.contains(&received.value) {
        return Err(cannot(&"the secret stands in it a second time"));
    }
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&sink.record_file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot(&error))
}

fn record_line(
    sink: &RecordedSink,
    received: &ReceivedWebhook,
) -> Result<String, serde_json::Error> {
    let body = redacted_body(received)?;
    match &sink.original {
        OriginalTarget::Webhook(url) => serde_json::to_string(&WebhookRecord {
            sink: &sink.sink_name,
            url,
            webhook_id: &received.id,
            body,
        }),
        OriginalTarget::Command(line) => {
            let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
            let environment = delivery_environment(
                &received.key,
                text("/data/rotation").unwrap_or_default(),
                received.sequence,
                &sink.sink_name,
                text("/data/credential/id").unwrap_or_default(),
            );
            serde_json::to_string(&CommandRecord {
                sink: &sink.sink_name,
                argv: line.argv().collect(),
                environment: environment.into_iter().collect(),
                stdin: &body["data"]["value"],
            })
        }
    }
}

/// The body with the part of the secret that the provider shows to everybody.
fn redacted_body(received: &ReceivedWebhook) -> Result<Value, serde_json::Error> {
    let mut body: Value = serde_json::from_slice(&received.body)?;
    let shown = body
        .pointer("/data/credential/redacted_value")
        .and_then(Value::as_str)
        .unwrap_or(REDACTED)
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

    fn sample_recorder(folder: &Path) -> Recorder {
        let text = "[key.billing]\nschedule = \"@daily\"\n[[key.billing.sink]]\ntype = \"webhook\"\n\
                    url = \"https://deploy.example.com/hook?token=hidden\"\n\
                    signing-secret-file = \"/none\"\n[[key.billing.sink]]\ntype = \"command\"\n\
                    argv = [\"/bin/put\", \"a b\"]\n";
        let settings = config::parse(
            Path::new("/c.toml"),
            text,
            &Environment::empty(jiff::Timestamp::UNIX_EPOCH),
        );
        build_recorder(&settings.unwrap().keys, folder)
    }

    fn sample_delivery(path: &str, redacted: &str) -> ReceivedWebhook {
        let body = serde_json::json!({"type": "key.rotated", "data": {
            "key": "billing", "rotation": "07", "sequence": 1, "value": SECRET,
            "credential": {"id": "key_abc", "redacted_value": redacted},
        }});
        ReceivedWebhook {
            path: path.to_owned(),
            id: "msg_1".to_owned(),
            key: "billing".to_owned(),
            sequence: 1,
            value: SECRET.to_owned(),
            body: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn recorded_webhook_holds_the_redacted_value_instead_of_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(WEBHOOKS_FOLDER)).unwrap();
        let record = sample_recorder(dir.path());
        for _ in 0..2 {
            record(&sample_delivery("/billing/webhook", "sk-admin...ord")).unwrap();
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
    fn recorded_command_holds_argv_environment_and_stdin() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(COMMANDS_FOLDER)).unwrap();
        let record = sample_recorder(dir.path());
        record(&sample_delivery("/billing/command", "sk-admin...ord")).unwrap();
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
    fn unrecordable_delivery_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let record = sample_recorder(dir.path());
        let webhook = sample_delivery("/billing/webhook", "sk-admin...ord");
        let missing = record(&webhook).unwrap_err();
        assert!(
            missing.contains("https://deploy.example.com/hook: "),
            "{missing}"
        );
        std::fs::create_dir(dir.path().join(WEBHOOKS_FOLDER)).unwrap();
        assert!(record(&sample_delivery("/billing/other", "")).is_err());
        // A provider that shows the whole secret as its redacted value.
        let whole = record(&sample_delivery("/billing/webhook", SECRET)).unwrap_err();
        assert!(!whole.contains(SECRET), "{whole}");
        let written = std::fs::read_dir(dir.path().join(WEBHOOKS_FOLDER))
            .unwrap()
            .count();
        assert_eq!(written, 0);
    }
}
