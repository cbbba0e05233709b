//! The JSON that every channel gets: the same in every try, without a secret.

use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::alerting::channel::{ChannelError, ChannelErrorKind};
use crate::core::hex;
use crate::core::notification::{ChannelId, Notification};
use crate::core::time;

/// The bytes of the digest that distinguish the channels.
const CHANNEL_DIGEST_BYTES: usize = 8;

#[derive(Serialize)]
struct NotificationEvent<'a> {
    r#type: &'static str,
    timestamp: String,
    data: NotificationData<'a>,
}

#[derive(Serialize)]
struct NotificationData<'a> {
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

/// The notification as JSON.
///
/// # Errors
/// None that is known of: it is made of text alone.
pub fn to_json(notice: &Notification, host: &str) -> Result<Vec<u8>, ChannelError> {
    let event = NotificationEvent {
        r#type: "rekeyd.notice",
        timestamp: time::to_text(notice.created_at),
        data: NotificationData {
            id: notice.id.as_str(),
            event: notice.event_kind().as_str(),
            state: notice.state.as_str(),
            key: notice.alert.key.as_ref().map(|key| key.as_str()),
            cause: notice.alert.kind.as_str(),
            credential: notice.alert.credential.as_ref().map(|id| id.as_str()),
            since: time::to_text(notice.since),
            text: &notice.text,
            host,
        },
    };
    serde_json::to_vec(&event).map_err(|error| {
        let message = format!("cannot put the notice together: {error}");
        ChannelError::new(ChannelErrorKind::Internal, message)
    })
}

/// The `webhook-id` of a notification to one receiver.
#[must_use]
pub fn webhook_id(notice: &Notification, notifier: &ChannelId) -> String {
    let hash = digest(&SHA256, notifier.as_str().as_bytes());
    let digest = hex::encode(&hash.as_ref()[..CHANNEL_DIGEST_BYTES]);
    format!("msg_{}_{digest}", notice.id)
}
