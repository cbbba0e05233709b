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

#[derive(Serialize)]
struct KeyRotatedEvent<'a> {
    r#type: &'static str,
    timestamp: String,
    data: KeyRotatedData<'a>,
}

#[derive(Serialize)]
struct KeyRotatedData<'a> {
    key: &'a str,
    rotation: &'a str,
    sequence: u64,
    value: &'a str,
    credential: NewCredentialData<'a>,
    previous: Option<PreviousCredentialData<'a>>,
}

#[derive(Serialize)]
struct NewCredentialData<'a> {
    id: &'a str,
    name: &'a str,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    redacted_value: Option<&'a str>,
}

#[derive(Serialize)]
struct PreviousCredentialData<'a> {
    id: &'a str,
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
