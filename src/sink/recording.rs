//! Deliveries of a rehearsal (`rekeyd demo --rehearse`), recorded instead of
//! made.

use serde_json::Value;

/// Records deliveries instead of making them.
pub struct DeliveryRecorder {
    /// The folder of the records, that of the type.
    pub folder: &'static str,
    /// What does not happen: `was to be posted to https://…`.
    pub description: String,
    /// The line of one delivery.
    pub line: RecordLine,
}

/// Renders a delivery as one line of JSON without its newline.
pub type RecordLine =
    Box<dyn Fn(&RecordedDelivery<'_>) -> Result<String, serde_json::Error> + Send + Sync>;

/// A delivery as a record holds it.
pub struct RecordedDelivery<'r> {
    /// The name of the sink.
    pub sink: &'r str,
    /// The key.
    pub key: &'r str,
    /// The sequence of the rotation.
    pub sequence: u64,
    /// The id that a webhook's receiver knows the delivery by.
    pub webhook_id: &'r str,
    /// The body of the webhook, with the redacted value in the place of the
    /// secret.
    pub body: Value,
}
