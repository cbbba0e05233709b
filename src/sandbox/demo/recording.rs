//! Records of a rehearsal's deliveries: a line of JSON each, without the
//! secret. The daemon posts the deliveries to the receiver of the rehearsal,
//! which records them with this module.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::settings::KeySettings;
use crate::core::ids::KeyName;
use crate::core::os_error;
use crate::sandbox::receiver::{ReceivedWebhook, Recorder};
use crate::sink::SINK_TYPES;
use crate::sink::recording::{DeliveryRecorder, RecordedDelivery};
use crate::sink::target::{RehearsalPaths, Substitute};

/// The folder of the substitutes for the files of file sinks.
pub(crate) const FILES_FOLDER: &str = "files";

/// The file with the notifications.
pub(crate) const NOTIFICATIONS_FILE: &str = "notices.jsonl";

/// The replacement of the secret if the provider shows no part of it.
const REDACTED: &str = "(not recorded)";

/// The reason why a delivery was not recorded.
#[derive(Debug, thiserror::Error)]
enum RecordingError {
    /// No recorded sink has the path.
    #[error("no sink is configured for {path}")]
    UnknownPath { path: String },
    /// The delivery cannot be described.
    #[error("cannot record in {} what {description}: {source}", record.display())]
    NotDescribed {
        record: PathBuf,
        description: String,
        source: serde_json::Error,
    },
    /// The record would contain the secret.
    #[error(
        "cannot record in {} what {description}: it contains the secret a second time",
        record.display()
    )]
    SecretRepeated {
        record: PathBuf,
        description: String,
    },
    /// The record cannot be written.
    #[error(
        "cannot record in {} what {description}: {}",
        record.display(),
        os_error::describe(source)
    )]
    NotWritten {
        record: PathBuf,
        description: String,
        source: io::Error,
    },
}

/// A sink whose deliveries are recorded.
struct RecordedSink {
    sink_name: String,
    recorder: DeliveryRecorder,
    record_file: PathBuf,
}

/// Lists the folders of all records.
pub(crate) fn record_folders() -> Vec<&'static str> {
    let types = SINK_TYPES.iter();
    types
        .filter_map(|sink_type| sink_type.record_folder)
        .collect()
}

/// Returns the receiver's path for a sink of the configuration. Names of keys
/// and sinks need no escaping.
pub(crate) fn receiver_path(key: &KeyName, sink: &str) -> String {
    format!("/{key}/{sink}")
}

/// Returns the path of a sink's record in the folder of the rehearsal. No name
/// contains a dot.
pub(crate) fn record_path(folder: &str, key: &KeyName, sink: &str) -> PathBuf {
    Path::new(folder).join(format!("{key}.{sink}.jsonl"))
}

/// Builds the recorder of the deliveries to the sinks of `keys` that a
/// rehearsal does not make. It writes below `folder`.
pub(crate) fn build_recorder(keys: &[KeySettings], folder: &Path) -> Recorder {
    let paths = RehearsalPaths {
        folder,
        files: FILES_FOLDER,
        credential_file: folder,
    };
    let mut sinks = BTreeMap::new();
    for key in keys {
        for sink in &key.sinks {
            let name = &sink.id.name;
            let recorder = match sink.target.rehearsal(&paths).substitute {
                Substitute::Record(recorder) => recorder,
                Substitute::Target { .. } => continue,
            };
            let recorded = RecordedSink {
                sink_name: name.clone(),
                record_file: folder.join(record_path(recorder.folder, &key.name, name)),
                recorder,
            };
            sinks.insert(receiver_path(&key.name, name), recorded);
        }
    }
    Box::new(move |received| match sinks.get(&received.path) {
        Some(sink) => Ok(append_record(sink, received)?),
        None => {
            let path = received.path.clone();
            Err(RecordingError::UnknownPath { path }.into())
        }
    })
}

fn append_record(sink: &RecordedSink, received: &ReceivedWebhook) -> Result<(), RecordingError> {
    let (record, description) = (&sink.record_file, &sink.recorder.description);
    let mut text = record_line(sink, received).map_err(|source| RecordingError::NotDescribed {
        record: record.clone(),
        description: description.clone(),
        source,
    })?;
    if text.contains(&received.value) {
        return Err(RecordingError::SecretRepeated {
            record: record.clone(),
            description: description.clone(),
        });
    }
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(record)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| RecordingError::NotWritten {
            record: record.clone(),
            description: description.clone(),
            source,
        })
}

fn record_line(
    sink: &RecordedSink,
    received: &ReceivedWebhook,
) -> Result<String, serde_json::Error> {
    (sink.recorder.line)(&RecordedDelivery {
        sink: &sink.sink_name,
        key: &received.key,
        sequence: received.sequence,
        webhook_id: &received.id,
        body: redacted_body(received)?,
    })
}

/// Returns the body with the provider's redacted value in place of the secret.
fn redacted_body(received: &ReceivedWebhook) -> Result<Value, serde_json::Error> {
    let mut body: Value = serde_json::from_slice(&received.body)?;
    let redacted_value = body
        .pointer("/data/credential/redacted_value")
        .and_then(Value::as_str)
        .unwrap_or(REDACTED)
        .to_owned();
    if let Some(value) = body.pointer_mut("/data/value") {
        *value = Value::String(redacted_value);
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
        std::fs::create_dir(dir.path().join("webhooks")).unwrap();
        let record = sample_recorder(dir.path());
        for _ in 0..2 {
            record(&sample_delivery("/billing/webhook", "sk-admin...ord")).unwrap();
        }
        let text =
            std::fs::read_to_string(dir.path().join("webhooks/billing.webhook.jsonl")).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["url"], "https://deploy.example.com/hook");
        assert_eq!(lines[0]["body"]["data"]["value"], "sk-admin...ord");
        assert!(!text.contains(SECRET));
    }

    #[test]
    fn recorded_command_holds_argv_environment_and_stdin() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("commands")).unwrap();
        let record = sample_recorder(dir.path());
        record(&sample_delivery("/billing/command", "sk-admin...ord")).unwrap();
        let text =
            std::fs::read_to_string(dir.path().join("commands/billing.command.jsonl")).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
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
        assert!(!text.contains(SECRET));
    }

    #[test]
    fn unrecordable_delivery_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let record = sample_recorder(dir.path());
        let webhook = sample_delivery("/billing/webhook", "sk-admin...ord");
        let missing = record(&webhook).unwrap_err().to_string();
        assert!(
            missing.contains("https://deploy.example.com/hook: "),
            "{missing}"
        );
        std::fs::create_dir(dir.path().join("webhooks")).unwrap();
        assert!(record(&sample_delivery("/billing/other", "")).is_err());
        // A provider may return the whole secret as its redacted value.
        let error = record(&sample_delivery("/billing/webhook", SECRET))
            .unwrap_err()
            .to_string();
        assert!(!error.contains(SECRET), "{error}");
        let record_count = std::fs::read_dir(dir.path().join("webhooks"))
            .unwrap()
            .count();
        assert_eq!(record_count, 0);
    }
}
