//! Deliveries of a rehearsal (`rekeyd demo --rehearse`), written to files
//! instead of sent.

use serde_json::Value;

/// Records deliveries instead of sending them.
pub struct DeliveryRecorder {
    /// The folder of the records; one for each type of sink.
    pub folder: &'static str,
    /// The delivery that is skipped: `would be posted to https://…`.
    pub description: String,
    /// Renders the line of one delivery.
    pub line: RecordLine,
}

/// Renders a delivery as one line of JSON without its newline.
pub type RecordLine =
    Box<dyn Fn(&RecordedDelivery<'_>) -> Result<String, serde_json::Error> + Send + Sync>;

/// The fields of a delivery that a record may hold.
pub struct RecordedDelivery<'r> {
    /// The name of the sink.
    pub sink: &'r str,
    /// The key.
    pub key: &'r str,
    /// The sequence of the rotation.
    pub sequence: u64,
    /// The `webhook-id` that a receiver drops repeats by.
    pub webhook_id: &'r str,
    /// The body of the webhook, with the redacted value in place of the secret.
    pub body: Value,
}
