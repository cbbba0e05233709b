//! The Admin API's answers, taken leniently.
//!
//! Only a credential's `id` is required. Any other field that is missing, null
//! or of a type that was not expected counts as absent: the official
//! descriptions and examples contradict each other, and a rotation must not
//! fail for it. Fields that are not known are ignored. The shapes are those of
//! `AdminApiKey` in the official OpenAPI document.

use jiff::Timestamp;
use secrecy::zeroize::Zeroize as _;
use serde_json::Value;

use crate::core::names::CredentialId;
use crate::core::outside::shown;
use crate::core::record::CredentialFacts;
use crate::core::secret::Secret;
use crate::provider::{Credential, NewCredential};

/// The longest id that is taken for one.
const LONGEST_ID: usize = 200;

/// One page of a list.
pub(super) struct Page {
    pub(super) credentials: Vec<Credential>,
    /// Whether there are more; none if the answer does not say.
    pub(super) has_more: Option<bool>,
}

/// The provider's error envelope, `{"error": {…}}`: proof that it was the
/// provider who answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

/// Reads the answer to a create, with its secret if it has one.
pub(super) fn new_credential(body: &[u8]) -> Result<NewCredential, String> {
    let mut object = object(body)?;
    // The secret comes first: from then on it is masked in everything else.
    let secret = match object.get_mut("value").map(Value::take) {
        Some(Value::String(mut value)) if !value.is_empty() => {
            // A copy of the exact size: taking `value` itself could move it,
            // and leave what it was in unwiped memory.
            let secret = Secret::new(value.clone());
            value.zeroize();
            Some(secret)
        }
        Some(_) | None => None,
    };
    let facts = facts(&object)?;
    Ok(NewCredential { facts, secret })
}

/// Reads the answer to a retrieve.
pub(super) fn credential(body: &[u8]) -> Result<Credential, String> {
    credential_in(&object(body)?)
}

/// Reads one page of a list. An item without an id spoils the page: to leave
/// it out would say that a credential does not exist.
pub(super) fn page(body: &[u8]) -> Result<Page, String> {
    let object = object(body)?;
    let Some(items) = object.get("data").and_then(Value::as_array) else {
        return Err("it has no list \"data\"".to_owned());
    };
    Ok(Page {
        credentials: items
            .iter()
            .map(credential_in)
            .collect::<Result<Vec<_>, _>>()?,
        has_more: object.get("has_more").and_then(Value::as_bool),
    })
}

/// Reads the answer to a delete of `id`.
pub(super) fn deleted(body: &[u8], id: &CredentialId) -> Result<(), String> {
    let object = object(body)?;
    if object.get("deleted").and_then(Value::as_bool) != Some(true) {
        return Err("it does not say \"deleted\": true".to_owned());
    }
    match object.get("id").and_then(Value::as_str) {
        Some(other) if other != id.as_str() => {
            Err(format!("it is about another credential, {}", shown(other)))
        }
        Some(_) | None => Ok(()),
    }
}

/// The error envelope in a body, if there is one. `{"error": "text"}` is what
/// others say, and so is an object without words, or with a number for a code.
pub(super) fn envelope(body: &[u8]) -> Option<Envelope> {
    let object = object(body).ok()?;
    let error = object.get("error").filter(|error| error.is_object())?;
    let envelope = Envelope {
        kind: text(error, "type"),
        code: text(error, "code"),
        message: text(error, "message"),
    };
    let has_words = envelope.kind.is_some() || envelope.message.is_some();
    let is_number = error.get("code").is_some_and(Value::is_number);
    (has_words && !is_number).then_some(envelope)
}

fn object(body: &[u8]) -> Result<Value, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        // Position only: a parser's own words could quote the secret.
        Err(error) => Err(format!(
            "it is not readable as JSON from line {}, column {} on",
            error.line(),
            error.column()
        )),
    }
}

fn credential_in(object: &Value) -> Result<Credential, String> {
    Ok(Credential {
        facts: facts(object)?,
        name: object.get("name").and_then(Value::as_str).map(name),
        last_used_at: time(object, "last_used_at"),
        owner: object.get("owner").and_then(owner),
    })
}

fn facts(object: &Value) -> Result<CredentialFacts, String> {
    let id = object
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| is_id(id))
        .ok_or("it has a credential without a usable \"id\"")?;
    Ok(CredentialFacts {
        id: CredentialId::new(id.to_owned()),
        // What is shown of a secret is shortened; anything else could be one.
        redacted_value: text(object, "redacted_value").filter(|shown| shown.contains("...")),
        created_at: time(object, "created_at"),
        expires_at: time(object, "expires_at"),
    })
}

/// Opaque, but it is to stand in a path, a log line and a table.
fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= LONGEST_ID
        && !matches!(id, "." | "..")
        && !id.contains(char::is_control)
}

/// A name is compared with labels, so it must be exact; one that cannot be
/// shown as it is gets a mark, so that cleaning never makes it equal to one.
fn name(text: &str) -> String {
    let clean = shown(text);
    if clean == text {
        clean
    } else {
        format!("{clean} (not shown exactly)")
    }
}

fn owner(owner: &Value) -> Option<String> {
    match (text(owner, "name"), text(owner, "id")) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

fn text(object: &Value, field: &str) -> Option<String> {
    object.get(field)?.as_str().map(shown)
}

fn time(object: &Value, field: &str) -> Option<Timestamp> {
    let seconds = object.get(field)?.as_i64()?;
    // Zero stands for "never" in more than one API.
    if seconds <= 0 {
        return None;
    }
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_type_counts_as_absent() {
        let body = br#"{"id":"key_a","name":7,"created_at":"soon","expires_at":[],
            "last_used_at":0,"owner":"me","redacted_value":{},"value":null,"more":1}"#;
        let new = new_credential(body).unwrap();
        assert!(new.secret.is_none());
        assert_eq!(new.facts.created_at, None);
        let seen = credential(body).unwrap();
        assert_eq!(
            (seen.name, seen.owner, seen.last_used_at),
            (None, None, None)
        );
    }

    #[test]
    fn a_redacted_value_that_is_not_redacted_is_not_kept() {
        let body =
            br#"{"id":"key_a","value":"plain-and-long-1","redacted_value":"plain-and-long-1"}"#;
        let new = new_credential(body).unwrap();
        assert_eq!(new.facts.redacted_value, None);
        let seen = br#"{"id":"key_a","redacted_value":"plain-and-long-2 ..."}"#;
        let own = Secret::new("plain-and-long-2".to_owned());
        let redacted = credential(seen).unwrap().facts.redacted_value;
        assert_eq!(redacted.as_deref(), Some("[secret] ..."));
        drop(own);
    }

    #[test]
    fn cleaning_makes_no_name_equal_to_a_label() {
        assert_eq!(
            name("a-20261123T030000Z-5f3a9c"),
            "a-20261123T030000Z-5f3a9c"
        );
        assert_ne!(
            name(" a-20261123T030000Z-5f3a9c"),
            "a-20261123T030000Z-5f3a9c"
        );
    }

    #[test]
    fn only_the_providers_envelope_is_one() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":"no"}"#,
            r#"{"error":{}}"#,
            r#"{"error":{"reason":"x"}}"#,
            r#"{"error":{"code":"x"}}"#,
            r#"{"error":{"code":404,"message":"m","status":"NOT_FOUND"}}"#,
            r#"{"error":{"message":"#,
        ] {
            assert_eq!(envelope(body.as_bytes()), None, "{body}");
        }
        let body = br#"{"error":{"type":"t","message":"m","param":null,"code":null}}"#;
        assert_eq!(envelope(body).unwrap().message.as_deref(), Some("m"));
    }

    #[test]
    fn a_page_with_an_item_that_has_no_id_is_no_page() {
        assert!(page(br#"{"data":[{"name":"x"}]}"#).is_err());
        assert!(page(br#"{"data":{}}"#).is_err());
        let page = page(br#"{"data":[{"id":"key_a"}],"has_more":"yes"}"#).unwrap();
        assert_eq!((page.credentials.len(), page.has_more), (1, None));
    }

    #[test]
    fn what_does_not_say_that_it_was_deleted_says_nothing() {
        let id = CredentialId::new("key_a".to_owned());
        for (body, is_ok) in [
            (r#"{"id":"key_a","deleted":true}"#, true),
            (r#"{"deleted":true}"#, true),
            (r#"{"id":"key_a","deleted":false}"#, false),
            (r#"{"id":"key_a"}"#, false),
            (r#"{"id":"key_b","deleted":true}"#, false),
            ("{}", false),
        ] {
            assert_eq!(deleted(body.as_bytes(), &id).is_ok(), is_ok, "{body}");
        }
    }
}
