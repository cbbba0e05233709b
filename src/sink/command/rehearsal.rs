//! Records the input of a program instead of running it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::core::command::{CommandLine, delivery_environment};
use crate::sink::recording::{DeliveryRecorder, RecordedDelivery};

/// The folder of the records.
pub(super) const FOLDER: &str = "commands";

/// A line of a record.
#[derive(Serialize)]
struct CommandRecord<'a> {
    sink: &'a str,
    argv: Vec<&'a str>,
    environment: BTreeMap<&'static str, String>,
    /// The program's input without the newline.
    stdin: &'a Value,
}

/// Returns the recorder of the runs of `command`.
pub(super) fn recorder(command: CommandLine) -> DeliveryRecorder {
    DeliveryRecorder {
        folder: FOLDER,
        description: format!("would go to {command}"),
        line: Box::new(move |delivery| record_line(&command, delivery)),
    }
}

fn record_line(
    command: &CommandLine,
    delivery: &RecordedDelivery<'_>,
) -> Result<String, serde_json::Error> {
    let body = &delivery.body;
    let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
    let environment = delivery_environment(
        delivery.key,
        text("/data/rotation").unwrap_or_default(),
        delivery.sequence,
        delivery.sink,
        text("/data/credential/id").unwrap_or_default(),
    );
    serde_json::to_string(&CommandRecord {
        sink: delivery.sink,
        argv: command.argv().collect(),
        environment: environment.into_iter().collect(),
        stdin: &body["data"]["value"],
    })
}
