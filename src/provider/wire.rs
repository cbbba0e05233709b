//! The Admin API's JSON, read leniently: only what cannot be done without is
//! required, and a field of another type counts as absent.
//!
//! Shapes: the official OpenAPI document's `AdminApiKey` and its examples,
//! which differ from each other and over the years.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::core::names::CredentialId;
use crate::core::record::CredentialFacts;
use crate::provider::Credential;

/// A field that may be missing, null or of any type.
fn lenient<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// One admin key.
#[derive(Deserialize)]
pub(crate) struct Key {
    id: String,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    redacted_value: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    created_at: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    expires_at: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    last_used_at: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    owner: Option<Owner>,
    /// The secret: in the answer to create, and nowhere else.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) value: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    id: Option<String>,
}

impl Key {
    pub(crate) fn facts(&self) -> CredentialFacts {
        let at = |seconds: Option<i64>| seconds.and_then(|at| Timestamp::from_second(at).ok());
        CredentialFacts {
            id: CredentialId::new(self.id.clone()),
            // What is shown of a secret is short; anything else could be one.
            redacted_value: self
                .redacted_value
                .clone()
                .filter(|shown| shown.contains("...")),
            created_at: at(self.created_at),
            expires_at: at(self.expires_at),
        }
    }

    pub(crate) fn into_credential(self) -> Credential {
        Credential {
            facts: self.facts(),
            last_used_at: self
                .last_used_at
                .and_then(|at| Timestamp::from_second(at).ok()),
            owner: self.owner.and_then(|owner| owner.name.or(owner.id)),
            name: self.name,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// One page of the list.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) data: Vec<Key>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) has_more: Option<bool>,
}

/// The answer to delete.
#[derive(Deserialize)]
pub(crate) struct Deleted {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) deleted: Option<bool>,
}

/// The provider's envelope around an error: the proof that it was the provider
/// who answered.
#[derive(Deserialize)]
pub(crate) struct Envelope {
    pub(crate) error: ErrorBody,
}

#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) code: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    pub(crate) kind: Option<String>,
}

impl Envelope {
    /// The envelope in `body`, if it is one: an object `error` with a message
    /// or a type.
    pub(crate) fn read(body: &[u8]) -> Option<ErrorBody> {
        let envelope: Self = serde_json::from_slice(body).ok()?;
        let error = envelope.error;
        (error.message.is_some() || error.kind.is_some()).then_some(error)
    }
}
