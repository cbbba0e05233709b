//! The JSON form of a notification, the same on every channel and in every
//! attempt, without a secret.

use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::alerting::channel::{ChannelError, ChannelErrorKind};
use crate::core::hex;
#[cfg(test)]
use crate::core::notification::{AlertKind, EventKind, NotificationState};
use crate::core::notification::{ChannelId, Notification};
use crate::core::time;

/// The bytes of the digest that distinguishes the channels.
const CHANNEL_DIGEST_BYTES: usize = 8;

/// A notification, the same on every channel.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NotificationEvent<'a> {
    /// The type of this JSON.
    #[cfg_attr(test, schemars(extend("const" = "rekeyd.notice")))]
    r#type: &'static str,
    /// When rekeyd created the notification.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    timestamp: String,
    /// The content of the notification.
    data: NotificationData<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NotificationData<'a> {
    /// The same in every attempt: use it to recognize repeats.
    id: &'a str,
    /// The event, as the option `on` names it.
    #[cfg_attr(test, schemars(with = "EventKind"))]
    event: &'static str,
    /// Whether a problem began or is over, or the event has no end.
    #[cfg_attr(test, schemars(with = "NotificationState"))]
    state: &'static str,
    /// The key, or null for rekeyd as a whole.
    key: Option<&'a str>,
    /// The cause, the same at the beginning and at the end.
    #[cfg_attr(test, schemars(with = "AlertKind"))]
    cause: &'static str,
    /// The id of the credential that it is about, if any.
    credential: Option<&'a str>,
    /// The time since which the problem exists.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    since: String,
    /// The problem and its remedy, for people.
    text: &'a str,
    /// The host on which rekeyd runs.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::json_schema;

    #[test]
    fn json_schema_is_that_of_the_message() {
        json_schema::check_file::<NotificationEvent<'_>>("notification");
    }
}
