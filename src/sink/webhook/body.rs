//! The body and the id of a webhook: the same bytes in every attempt, so that a
//! receiver can drop repeats.

use ring::digest;
use secrecy::zeroize::Zeroizing;
use serde::Serialize;

use crate::core::hex;
use crate::core::ids::{RotationId, SinkId};
use crate::core::time;
use crate::sink::Payload;

/// The capacity for the body without the secret. With it the buffer never
/// reallocates, which would leave copies of the secret unwiped.
const BODY_OVERHEAD_BYTES: usize = 2048;

/// The longest JSON escape of one byte of a secret: `\u0000`.
const MAX_ESCAPE_BYTES: usize = 6;

/// The bytes of the digest that distinguishes a rotation's few sinks.
const SINK_DIGEST_BYTES: usize = 8;

/// The body of a webhook sink's request: a key was rotated.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeyRotatedEvent<'a> {
    /// What happened.
    #[cfg_attr(test, schemars(extend("const" = "key.rotated")))]
    r#type: &'static str,
    /// The time at which the secret was verified.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    timestamp: String,
    /// The key and its new secret.
    data: KeyRotatedData<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeyRotatedData<'a> {
    /// The key's name in the configuration.
    key: &'a str,
    /// The id of the rotation.
    rotation: &'a str,
    /// A number that grows with each rotation of the key.
    sequence: u64,
    /// The secret.
    value: &'a str,
    /// The new credential.
    credential: NewCredentialData<'a>,
    /// The credential that this one replaces, if any.
    previous: Option<PreviousCredentialData<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NewCredentialData<'a> {
    /// Its id at the provider.
    id: &'a str,
    /// Its name at the provider.
    name: &'a str,
    /// When the provider created it, in Unix seconds.
    created_at: Option<i64>,
    /// When it expires, in Unix seconds, if it does.
    expires_at: Option<i64>,
    /// The redacted secret, as the provider shows it.
    redacted_value: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PreviousCredentialData<'a> {
    /// Its id at the provider.
    id: &'a str,
    /// The time before which the schedule does not revoke it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    not_before: String,
}

/// Returns the body for a payload, which does not depend on the time of the
/// attempt.
pub(super) fn render_body(payload: &Payload) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let credential = &payload.credential;
    let event = KeyRotatedEvent {
        r#type: "key.rotated",
        timestamp: time::to_text(payload.verified_at),
        data: KeyRotatedData {
            key: payload.key.as_str(),
            rotation: payload.rotation.as_str(),
            sequence: payload.sequence,
            value: payload.secret.expose(),
            credential: NewCredentialData {
                id: credential.id.as_str(),
                name: payload.label.as_str(),
                created_at: credential.created_at.map(|at| at.as_second()),
                expires_at: credential.expires_at.map(|at| at.as_second()),
                redacted_value: credential.redacted_value.as_deref(),
            },
            previous: payload
                .previous
                .as_ref()
                .map(|previous| PreviousCredentialData {
                    id: previous.id.as_str(),
                    not_before: time::to_text(previous.not_before),
                }),
        },
    };
    let capacity = BODY_OVERHEAD_BYTES + MAX_ESCAPE_BYTES * payload.secret.expose().len();
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    serde_json::to_writer(&mut *body, &event)?;
    Ok(body)
}

/// Returns the `webhook-id` of one rotation to one sink.
pub(super) fn message_id(rotation: &RotationId, sink: &SinkId) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(sink.name.as_bytes());
    // A separator that occurs in no name, so that no two sinks have one text.
    context.update(&[0]);
    context.update(sink.target.as_bytes());
    let digest = hex::encode(&context.finish().as_ref()[..SINK_DIGEST_BYTES]);
    format!("msg_{rotation}_{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::json_schema;

    #[test]
    fn json_schema_is_that_of_the_body() {
        json_schema::check_file::<KeyRotatedEvent<'_>>("webhook");
    }

    #[test]
    fn message_id_depends_on_rotation_and_sink() {
        let sink = |name: &str, target: &str| SinkId {
            name: name.to_owned(),
            target: target.to_owned(),
        };
        let rotation = RotationId::new([1; 8]);
        let id = message_id(&rotation, &sink("a", "webhook:https://x"));
        assert_eq!(id, message_id(&rotation, &sink("a", "webhook:https://x")));
        assert!(id.starts_with("msg_0101010101010101_"), "{id}");
        for other in [
            message_id(&RotationId::new([2; 8]), &sink("a", "webhook:https://x")),
            message_id(&rotation, &sink("b", "webhook:https://x")),
            message_id(&rotation, &sink("a", "webhook:https://y")),
        ] {
            assert_ne!(id, other);
        }
    }
}
