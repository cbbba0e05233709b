//! The Admin API's responses, parsed leniently.
//!
//! Only a credential's `id` is required. Any other field that is missing, null
//! or of an unexpected type counts as absent, but for times (see `time_field`) and
//! `has_more`: the official descriptions and examples contradict each other, and a
//! rotation must not fail for that. A field that is there twice makes the body unreadable.
//! Unknown fields are ignored. The source is `AdminApiKey` in the official
//! OpenAPI document.

use secrecy::zeroize::Zeroize as _;
use serde_json::Value;

use crate::core::ids::CredentialId;
use crate::core::json;
use crate::core::redact::{sanitize_name, sanitize_reply};
use crate::core::reported_time::ReportedTime;
use crate::core::secret::{Secret, is_redacted};
use crate::core::state::CredentialMetadata;
use crate::provider::openai::time_field::read_time;
use crate::provider::{CreatedCredential, ListedCredential};

/// One page of a list.
pub(super) struct CredentialPage {
    pub(super) credentials: Vec<ListedCredential>,
    /// Whether there are more pages, if the response says so.
    pub(super) has_more: Option<bool>,
}

/// The provider's error envelope, `{"error": {…}}`, which proves that the
/// provider itself sent the response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorEnvelope {
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

/// Parses the response to a create, with its secret if it has one.
pub(super) fn parse_new_credential(body: &[u8]) -> Result<CreatedCredential, String> {
    let mut object = parse_object(body)?;
    // First, so that the secret is masked from then on.
    let secret = match object.get_mut("value").map(Value::take) {
        Some(Value::String(mut value)) if !value.is_empty() => {
            // A copy of the exact size: using `value` itself could move it, and
            // leave its former memory unwiped.
            let secret = Secret::new(value.clone());
            value.zeroize();
            Some(secret)
        }
        Some(_) | None => None,
    };
    let metadata = metadata_from_json(&object)?;
    Ok(CreatedCredential {
        metadata,
        name: name_field(&object),
        secret,
        unreadable_times: unreadable_times(&object),
    })
}

/// Parses the response to a retrieve.
pub(super) fn parse_credential(body: &[u8]) -> Result<ListedCredential, String> {
    credential_from_json(&parse_object(body)?)
}

/// Parses one page of a list. An item without an id makes the page invalid:
/// leaving it out would mean that a credential does not exist.
pub(super) fn parse_page(body: &[u8]) -> Result<CredentialPage, String> {
    let object = parse_object(body)?;
    let Some(items) = object.get("data").and_then(Value::as_array) else {
        return Err("it has no list \"data\"".to_owned());
    };
    // Taken for absent, anything else could end the list too early.
    let has_more = match object.get("has_more") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(has_more)) => Some(*has_more),
        Some(_) => return Err("its \"has_more\" is neither true nor false".to_owned()),
    };
    Ok(CredentialPage {
        credentials: items
            .iter()
            .map(credential_from_json)
            .collect::<Result<Vec<_>, _>>()?,
        has_more,
    })
}

/// Parses the response to a delete of `id`.
pub(super) fn parse_deletion(body: &[u8], id: &CredentialId) -> Result<(), String> {
    let object = parse_object(body)?;
    if object.get("deleted").and_then(Value::as_bool) != Some(true) {
        return Err("it does not say \"deleted\": true".to_owned());
    }
    match object.get("id").and_then(Value::as_str) {
        Some(other) if other != id.as_str() => Err(format!(
            "it is about another credential, {}",
            sanitize_name(other)
        )),
        Some(_) | None => Ok(()),
    }
}

/// Parses the error envelope in a body, if there is one. Intermediaries send
/// `{"error": "text"}`, an object without texts, or one with a number as its
/// code. The texts may quote the values that were `sent`.
pub(super) fn parse_error_envelope(body: &[u8], sent: &[&str]) -> Option<ErrorEnvelope> {
    let object = parse_object(body).ok()?;
    let error = object.get("error").filter(|error| error.is_object())?;
    let text_field = |field| {
        let text = error.get(field).and_then(Value::as_str);
        text.map(|text| sanitize_reply(text, sent))
    };
    let envelope = ErrorEnvelope {
        kind: text_field("type"),
        code: text_field("code"),
        message: text_field("message"),
    };
    let has_text = envelope.kind.is_some() || envelope.message.is_some();
    let is_number = error.get("code").is_some_and(Value::is_number);
    (has_text && !is_number).then_some(envelope)
}

fn parse_object(body: &[u8]) -> Result<Value, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    match json::parse(body) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        // The position alone, since the parser's message could quote the
        // secret.
        Err(error) => Err(format!(
            "it is not readable as JSON from line {}, column {} on",
            error.line(),
            error.column()
        )),
    }
}

fn credential_from_json(object: &Value) -> Result<ListedCredential, String> {
    Ok(ListedCredential {
        metadata: metadata_from_json(object)?,
        name: name_field(object),
        last_used: read_time(object.get("last_used_at")),
        unreadable_times: unreadable_times(object),
        owner: object.get("owner").and_then(describe_owner),
    })
}

fn metadata_from_json(object: &Value) -> Result<CredentialMetadata, String> {
    let id = object
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| CredentialId::is_valid(id))
        .ok_or("it has a credential without a usable \"id\"")?;
    Ok(CredentialMetadata {
        id: CredentialId::new(id.to_owned()),
        // Any other text could be the secret itself.
        redacted_value: object
            .get("redacted_value")
            .and_then(Value::as_str)
            .filter(|value| is_redacted(value))
            .map(sanitize_name),
        created_at: read_time(object.get("created_at")).readable(),
        expires_at: read_time(object.get("expires_at")).readable(),
    })
}

fn name_field(object: &Value) -> Option<String> {
    object.get("name")?.as_str().map(recorded_name)
}

/// Sanitizes a name. Names are compared with labels, so one that changes gets a
/// mark, lest it equal a label.
fn recorded_name(text: &str) -> String {
    let sanitized = sanitize_name(text);
    if sanitized == text {
        sanitized
    } else {
        format!("{sanitized} (not shown exactly)")
    }
}

fn describe_owner(owner: &Value) -> Option<String> {
    match (text_field(owner, "name"), text_field(owner, "id")) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

fn text_field(object: &Value, field: &str) -> Option<String> {
    object.get(field)?.as_str().map(sanitize_name)
}

/// Returns the names of the fields whose times cannot be read.
fn unreadable_times(object: &Value) -> Vec<&'static str> {
    let fields = ["created_at", "expires_at", "last_used_at"].into_iter();
    let unreadable = |field: &&str| read_time(object.get(*field)) == ReportedTime::Unreadable;
    fields.filter(unreadable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_unexpected_type_is_absent() {
        let body = br#"{"id":"key_a","name":7,"created_at":"soon","expires_at":[],
            "last_used_at":0,"owner":"me","redacted_value":{},"value":null,"more":1}"#;
        let created = parse_new_credential(body).unwrap();
        assert!(created.secret.is_none());
        assert_eq!(created.metadata.created_at, None);
        assert_eq!(created.unreadable_times, ["created_at", "expires_at"]);
        let listed = parse_credential(body).unwrap();
        assert_eq!(
            (listed.name, listed.owner, listed.last_used),
            (None, None, ReportedTime::None)
        );
    }

    #[test]
    fn an_unredacted_redacted_value_is_discarded() {
        let body =
            br#"{"id":"key_a","value":"plain-and-long-1","redacted_value":"plain-and-long-1"}"#;
        let created = parse_new_credential(body).unwrap();
        assert_eq!(created.metadata.redacted_value, None);
        let listed_body = br#"{"id":"key_a","redacted_value":"plain-and-long-2 ..."}"#;
        let own = Secret::new("plain-and-long-2".to_owned());
        let redacted = parse_credential(listed_body)
            .unwrap()
            .metadata
            .redacted_value;
        assert_eq!(redacted.as_deref(), Some("[secret] ..."));
        drop(own);
    }

    #[test]
    fn a_sanitized_name_never_equals_a_label() {
        assert_eq!(
            recorded_name("a-20261123T030000Z-5f3a9c"),
            "a-20261123T030000Z-5f3a9c"
        );
        assert_ne!(
            recorded_name(" a-20261123T030000Z-5f3a9c"),
            "a-20261123T030000Z-5f3a9c"
        );
    }

    #[test]
    fn only_the_providers_error_envelope_is_recognized() {
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
            assert_eq!(parse_error_envelope(body.as_bytes(), &[]), None, "{body}");
        }
        let body = br#"{"error":{"type":"t","message":"m","param":null,"code":null}}"#;
        assert_eq!(
            parse_error_envelope(body, &[]).unwrap().message.as_deref(),
            Some("m")
        );
    }

    #[test]
    fn a_page_with_an_item_without_id_is_rejected() {
        assert!(parse_page(br#"{"data":[{"name":"x"}]}"#).is_err());
        assert!(parse_page(br#"{"data":{}}"#).is_err());
    }

    #[test]
    fn has_more_is_true_false_or_absent() {
        for (field, expected) in [
            ("", Some(None)),
            (r#","has_more":null"#, Some(None)),
            (r#","has_more":true"#, Some(Some(true))),
            (r#","has_more":false"#, Some(Some(false))),
            (r#","has_more":"yes""#, None),
            (r#","has_more":"false""#, None),
            (r#","has_more":0"#, None),
            (r#","has_more":1"#, None),
            (r#","has_more":[]"#, None),
            (r#","hasMore":true"#, Some(None)),
            (r#","has_more":true,"has_more":false"#, None),
        ] {
            let body = format!(r#"{{"data":[{{"id":"key_a"}}]{field}}}"#);
            let page = parse_page(body.as_bytes()).ok();
            assert_eq!(page.map(|page| page.has_more), expected, "{body}");
        }
    }

    #[test]
    fn a_deletion_must_be_confirmed() {
        let id = CredentialId::new("key_a".to_owned());
        for (body, is_ok) in [
            (r#"{"id":"key_a","deleted":true}"#, true),
            (r#"{"deleted":true}"#, true),
            (r#"{"id":"key_a","deleted":false}"#, false),
            (r#"{"id":"key_a"}"#, false),
            (r#"{"id":"key_b","deleted":true}"#, false),
            (r#"{"id":"KEY_A","deleted":true}"#, false),
            (r#"{"id":"key_a ","deleted":true}"#, false),
            (r#"{"id":"key_a","deleted":"true"}"#, false),
            (r#"{"id":"key_a","deleted":1}"#, false),
            (r#"{"id":"key_a","deleted":null}"#, false),
            (r#"{"id":"key_a","deleted":false,"deleted":true}"#, false),
            (r#"{"id":"key_b","id":"key_a","deleted":true}"#, false),
            (r#"{"id":"key_a","deleted":true} {}"#, false),
            (r#"[{"id":"key_a","deleted":true}]"#, false),
            ("{}", false),
        ] {
            assert_eq!(
                parse_deletion(body.as_bytes(), &id).is_ok(),
                is_ok,
                "{body}"
            );
        }
    }
}
