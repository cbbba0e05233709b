//! The JSON that everybody is told: the same in every try, without a secret.

use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::core::notice::{Notice, NotifierId};
use crate::core::time;

/// So many bytes of the digest tell those who are told apart.
const NOTIFIER_BYTES: usize = 8;

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    event: &'static str,
    state: &'static str,
    key: Option<&'a str>,
    cause: &'static str,
    credential: Option<&'a str>,
    since: String,
    text: &'a str,
    host: &'a str,
}

/// The notice as JSON.
///
/// # Errors
/// None that is known of: it is made of text alone.
pub fn body(notice: &Notice, host: &str) -> Result<Vec<u8>, String> {
    let event = Event {
        r#type: "rekeyd.notice",
        timestamp: time::to_text(notice.at),
        data: Data {
            id: notice.id.as_str(),
            event: notice.occasion().as_str(),
            state: notice.state.as_str(),
            key: notice.cause.key.as_ref().map(|key| key.as_str()),
            cause: notice.cause.matter.as_str(),
            credential: notice.cause.credential.as_ref().map(|id| id.as_str()),
            since: time::to_text(notice.since),
            text: &notice.text,
            host,
        },
    };
    serde_json::to_vec(&event).map_err(|error| format!("cannot put the notice together: {error}"))
}

/// The `webhook-id` of a notice to one receiver.
#[must_use]
pub fn webhook_id(notice: &Notice, notifier: &NotifierId) -> String {
    let mut id = format!("msg_{}_", notice.id);
    let hash = digest(&SHA256, notifier.as_str().as_bytes());
    for byte in &hash.as_ref()[..NOTIFIER_BYTES] {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}
