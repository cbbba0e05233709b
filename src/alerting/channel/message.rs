//! The JSON form of a notification, the same on every channel and in every
//! attempt, without a secret.

use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::alerting::channel::{ChannelError, ChannelErrorKind};
use crate::core::hex;
use crate::core::notification::{ChannelId, Notification};
use crate::core::time;

/// The bytes of the digest that distinguishes the channels.
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

/// Renders a notification as JSON.
///
/// # Errors
/// Never in practice: a structure of texts always has a JSON form.
pub fn to_json(notification: &Notification, host: &str) -> Result<Vec<u8>, ChannelError> {
    let event = NotificationEvent {
        r#type: "rekeyd.notice",
        timestamp: time::to_text(notification.created_at),
        data: NotificationData {
            id: notification.id.as_str(),
            event: notification.event_kind().as_str(),
            state: notification.state.as_str(),
            key: notification.alert.key.as_ref().map(|key| key.as_str()),
            cause: notification.alert.kind.as_str(),
            credential: notification.alert.credential.as_ref().map(|id| id.as_str()),
            since: time::to_text(notification.since),
            text: &notification.text,
            host,
        },
    };
    serde_json::to_vec(&event).map_err(|error| {
        let message = format!("cannot encode the notification: {error}");
        ChannelError::new(ChannelErrorKind::Internal, message)
    })
}

/// Returns the `webhook-id` of a notification to one receiver.
#[must_use]
pub fn webhook_id(notification: &Notification, channel: &ChannelId) -> String {
    let hash = digest(&SHA256, channel.as_str().as_bytes());
    let digest = hex::encode(&hash.as_ref()[..CHANNEL_DIGEST_BYTES]);
    format!("msg_{}_{digest}", notification.id)
}
