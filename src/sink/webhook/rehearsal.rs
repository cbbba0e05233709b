//! Records webhooks instead of sending them.

use serde::Serialize;
use serde_json::Value;

use crate::sink::recording::DeliveryRecorder;

/// The folder of the records.
pub(super) const FOLDER: &str = "webhooks";

/// A line of a record.
#[derive(Serialize)]
struct WebhookRecord<'a> {
    sink: &'a str,
    url: &'a str,
    webhook_id: &'a str,
    body: &'a Value,
}

/// Returns the recorder of the webhooks to `url`, which has no query.
pub(super) fn recorder(url: String) -> DeliveryRecorder {
    DeliveryRecorder {
        folder: FOLDER,
        description: format!("would be posted to {url}"),
        line: Box::new(move |delivery| {
            serde_json::to_string(&WebhookRecord {
                sink: delivery.sink,
                url: &url,
                webhook_id: delivery.webhook_id,
                body: &delivery.body,
            })
        }),
    }
}
