//! The Admin API's responses, parsed leniently.
//!
//! Only a credential's `id` is required. Any other field that is missing, null or of an
//! unexpected type counts as absent, but for times (see `time_field`) and `has_more`: the
//! official descriptions and examples contradict each other, and a rotation must not fail
//! because of that. A field that occurs twice makes the body unreadable. Unknown fields are
//! ignored. The source is `AdminApiKey` in the official OpenAPI document.

use secrecy::zeroize::Zeroize as _;
use serde_json::Value;

use crate::core::active_credential::ActiveCredential;
use crate::core::ids::CredentialId;
use crate::core::json;
use crate::core::redact::{sanitize_name, sanitize_reply, shows_secret};
use crate::core::reported_time::{ReportedTime, ShownEnd};
use crate::core::secret::{Secret, shorten_redacted};
use crate::core::state::CredentialMetadata;
use crate::core::time;
use crate::provider::openai::time_field::{read_last_use, read_time};
use crate::provider::{CreatedCredential, ListedCredential};

/// The largest number of credentials on one page, which is the API's own.
pub(super) const MAX_ITEMS: usize = 100;

/// The lengths from which an id or a name cannot be part of a secret by chance. A name may
/// be a word that begins the secret as well, such as `sk-admin`.
const MIN_ID_IN_SECRET: usize = 6;
const MIN_NAME_IN_SECRET: usize = 10;

/// What stands for a text that shows a secret.
const MASK: &str = "[secret]";

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

/// Parses the response to a create, with its secret if it has one. The secret is `known`
/// from then on, whatever else the response has.
pub(super) fn parse_new_credential(
    body: &[u8],
    known: &ActiveCredential,
) -> Result<CreatedCredential, String> {
    let mut object = parse_object(body)?;
    // First, so that the secret is masked from then on.
    let secret = match object.get_mut("value").map(Value::take) {
        Some(Value::String(mut value)) if !value.is_empty() => {
            // Known as a secret, it would make each list with that id or name unusable.
            let is_text_of = |field: &str, min: usize| {
                let text = object.get(field).and_then(Value::as_str);
                text.is_some_and(|text| shows_text(&value, text, min))
            };
            if is_text_of("id", MIN_ID_IN_SECRET) || is_text_of("name", MIN_NAME_IN_SECRET) {
                value.zeroize();
                return Err(
                    "its \"value\" is no secret: it shows its \"id\" or \"name\"".to_owned(),
                );
            }
            // A copy of the exact size: using `value` itself could move it, and
            // leave its former memory unwiped.
            let secret = Secret::new(value.clone());
            value.zeroize();
            known.record_answered(&secret);
            Some(secret)
        }
        Some(_) | None => None,
    };
    let metadata = metadata_from_json(&object, known)?;
    Ok(CreatedCredential {
        metadata,
        name: name_field(&object, known),
        secret,
        unreadable_times: unreadable_times(&object),
    })
}

/// Returns whether a value is a text, or contains one of `min` or more bytes. The case of
/// letters does not count.
fn shows_text(value: &str, text: &str, min: usize) -> bool {
    let (value, text) = (value.trim().as_bytes(), text.trim().as_bytes());
    let mut windows = value.windows(text.len().max(1));
    value.eq_ignore_ascii_case(text)
        || (text.len() >= min && windows.any(|window| window.eq_ignore_ascii_case(text)))
}

/// Parses the response to a retrieve.
pub(super) fn parse_credential(
    body: &[u8],
    known: &ActiveCredential,
) -> Result<ListedCredential, String> {
    credential_from_json(&parse_object(body)?, known)
}

/// Parses one page of a list. An item without an id makes the page invalid:
/// leaving it out would mean that a credential does not exist.
pub(super) fn parse_page(body: &[u8], known: &ActiveCredential) -> Result<CredentialPage, String> {
    let object = parse_object(body)?;
    let Some(items) = object.get("data").and_then(Value::as_array) else {
        return Err("it has no \"data\" list".to_owned());
    };
    // As many as a server likes, page after page, would fill the memory.
    if items.len() > MAX_ITEMS {
        return Err(format!(
            "it has {} items, more than the {MAX_ITEMS} that rekeyd accepts",
            items.len()
        ));
    }
    // Taken for absent, anything else could end the list too early.
    let has_more = match object.get("has_more") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(has_more)) => Some(*has_more),
        Some(_) => return Err("\"has_more\" is neither true nor false".to_owned()),
    };
    Ok(CredentialPage {
        credentials: items
            .iter()
            .map(|item| credential_from_json(item, known))
            .collect::<Result<Vec<_>, _>>()?,
        has_more,
    })
}

/// Parses the response to a delete of `id`.
pub(super) fn parse_deletion(body: &[u8], id: &CredentialId) -> Result<(), String> {
    let object = parse_object(body)?;
    if object.get("deleted").and_then(Value::as_bool) != Some(true) {
        return Err("it lacks \"deleted\": true".to_owned());
    }
    match object.get("id").and_then(Value::as_str) {
        Some(other) if other != id.as_str() => Err(format!(
            "it is for another credential, {}",
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
        Ok(_) => Err("it is JSON but not an object".to_owned()),
        // The position alone, since the parser's message could quote the
        // secret.
        Err(error) => Err(format!(
            "it is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

fn credential_from_json(
    object: &Value,
    known: &ActiveCredential,
) -> Result<ListedCredential, String> {
    let owner = object.get("owner");
    Ok(ListedCredential {
        metadata: metadata_from_json(object, known)?,
        name: name_field(object, known),
        end: shown_end(object.get("expires_at")),
        last_used: last_use(object),
        unreadable_times: unreadable_times(object),
        owner: owner.and_then(|owner| describe_owner(owner, known)),
    })
}

/// Reads the end of a credential. Older answers do not have the field, which does not mean
/// that there is no end.
fn shown_end(field: Option<&Value>) -> ShownEnd {
    match (field, read_time(field)) {
        (_, ReportedTime::At(end)) => ShownEnd::At(end),
        (None, _) | (_, ReportedTime::Unreadable) => ShownEnd::Unknown,
        (Some(_), ReportedTime::None) => ShownEnd::Never,
    }
}

fn metadata_from_json(
    object: &Value,
    known: &ActiveCredential,
) -> Result<CredentialMetadata, String> {
    let id = object
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| CredentialId::is_valid(id))
        .ok_or("a credential in it has no valid \"id\"")?;
    // Ids are recorded, logged, and a part of URLs.
    if shows_secret(id) || known.is_shown_in(id) {
        return Err("the \"id\" of a credential in it contains a secret".to_owned());
    }
    Ok(CredentialMetadata {
        id: CredentialId::new(id.to_owned()),
        // Any other text could be the secret itself.
        redacted_value: object
            .get("redacted_value")
            .and_then(Value::as_str)
            .filter(|value| !known.is_shown_in(value))
            .and_then(shorten_redacted)
            .map(|value| sanitize_name(&value)),
        created_at: read_time(object.get("created_at")).readable(),
        expires_at: read_time(object.get("expires_at")).readable(),
    })
}

fn name_field(object: &Value, known: &ActiveCredential) -> Option<String> {
    Some(recorded_name(object.get("name")?.as_str()?, known))
}

/// Sanitizes a name. Names are compared with labels, so one that changes gets a mark, which
/// keeps it from being equal to a label.
fn recorded_name(text: &str, known: &ActiveCredential) -> String {
    let sanitized = sanitize_known(text, known);
    if sanitized == text {
        sanitized
    } else {
        format!("{sanitized} (not shown exactly)")
    }
}

fn describe_owner(owner: &Value, known: &ActiveCredential) -> Option<String> {
    let text_field = |field| {
        let text = owner.get(field).and_then(Value::as_str);
        text.map(|text| sanitize_known(text, known))
    };
    match (text_field("name"), text_field("id")) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

/// Returns a text without secrets, also without those that were wiped.
fn sanitize_known(text: &str, known: &ActiveCredential) -> String {
    if known.is_shown_in(text) {
        MASK.to_owned()
    } else {
        sanitize_name(text)
    }
}

/// Returns the names of the fields whose times cannot be read.
fn unreadable_times(object: &Value) -> Vec<&'static str> {
    let time = |field| (field, read_time(object.get(field)));
    let times = [
        time("created_at"),
        time("expires_at"),
        ("last_used_at", last_use(object)),
    ];
    let unreadable = times
        .into_iter()
        .filter(|(_, time)| *time == ReportedTime::Unreadable);
    unreadable.map(|(field, _)| field).collect()
}

/// Reads the time of a credential's last use. One before its creation cannot be true, and
/// does not show that the credential is idle.
fn last_use(object: &Value) -> ReportedTime {
    let used = read_last_use(object.get("last_used_at"));
    let created = read_time(object.get("created_at")).readable();
    match (used, created) {
        (ReportedTime::At(used), Some(created))
            if time::after(used, time::CLOCK_TOLERANCE) < created =>
        {
            ReportedTime::Unreadable
        }
        (used, _) => used,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unknown() -> ActiveCredential {
        ActiveCredential::new()
    }

    #[test]
    fn a_field_of_unexpected_type_is_absent() {
        let body = br#"{"id":"key_a","name":7,"created_at":"soon","expires_at":[],
            "last_used_at":0,"owner":"me","redacted_value":{},"value":null,"more":1}"#;
        let created = parse_new_credential(body, &unknown()).unwrap();
        assert!(created.secret.is_none());
        assert_eq!(created.metadata.created_at, None);
        assert_eq!(created.unreadable_times, ["created_at", "expires_at"]);
        let listed = parse_credential(body, &unknown()).unwrap();
        assert_eq!(
            (listed.name, listed.owner, listed.last_used),
            (None, None, ReportedTime::None)
        );
    }

    /// A use before the creation does not show that a credential is idle.
    #[test]
    fn a_last_use_before_the_creation_is_unreadable() {
        for (used, is_readable) in [
            (json!(1_732_854_839), true),
            (json!(1_732_854_838), true),
            (json!("2024-11-29"), true),
            (json!(1_732_000_000), false),
            (json!("2001-10-01T00:00:00Z"), false),
            (json!(1e9), false),
        ] {
            let body = json!({"id": "key_a", "created_at": 1_732_854_839, "last_used_at": used});
            let listed = parse_credential(body.to_string().as_bytes(), &unknown()).unwrap();
            let is_read = matches!(listed.last_used, ReportedTime::At(_));
            assert_eq!(is_read, is_readable, "{used}");
            assert_eq!(listed.unreadable_times.is_empty(), is_readable, "{used}");
        }
        let body = json!({"id": "key_a", "created_at": null, "last_used_at": 1_732_000_000});
        let listed = parse_credential(body.to_string().as_bytes(), &unknown()).unwrap();
        assert!(listed.unreadable_times.is_empty());
    }

    #[test]
    fn an_unredacted_redacted_value_is_discarded() {
        let body =
            br#"{"id":"key_a","value":"plain-and-long-1","redacted_value":"plain-and-long-1"}"#;
        let created = parse_new_credential(body, &unknown()).unwrap();
        assert_eq!(created.metadata.redacted_value, None);
        let listed_body = br#"{"id":"key_a","redacted_value":"plain-and-long-2 ..."}"#;
        let own = Secret::new("plain-and-long-2".to_owned());
        let redacted = parse_credential(listed_body, &unknown())
            .unwrap()
            .metadata
            .redacted_value;
        assert_eq!(redacted.as_deref(), Some("[secret]..."));
        drop(own);
    }

    /// The id, the name and the owner of a credential are recorded, logged and sent.
    #[test]
    fn no_field_shows_a_secret() {
        let known = unknown();
        let value = "sk-admin-Zq7w8e9r0t1y2u3i4o5p";
        let body = &value["sk-admin-".len()..];
        let answer = |id: &str, name: &str| {
            json!({"id": id, "name": name, "value": value, "redacted_value": "...o5p"}).to_string()
        };
        let hex = value
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        for id in [
            format!("key_{body}"),
            format!("key_{}", body.to_uppercase()),
            format!("key_{}_1", &body[..12]),
            format!("key_{hex}"),
            value.replace("sk-", "%73k-"),
            "sk-admin-of-somebody".to_owned(),
        ] {
            let answer = answer(&id, "label");
            let problem = parse_new_credential(answer.as_bytes(), &known)
                .err()
                .unwrap();
            assert!(problem.contains("contains a secret"), "{id}: {problem}");
        }
        let equal = answer(value, "label");
        assert!(parse_new_credential(equal.as_bytes(), &known).is_err());
        // The secret is wiped, and another answer has what it was.
        for id in [value.to_owned(), format!("key_{body}")] {
            let item = json!({"id": id});
            let page = json!({"data": [item]}).to_string();
            assert!(parse_page(page.as_bytes(), &known).is_err(), "{id}");
            assert!(
                parse_credential(item.to_string().as_bytes(), &known).is_err(),
                "{id}"
            );
        }
        for text in [value.to_owned(), format!("of {body}"), format!("...{body}")] {
            let item = json!({"id": "key_a", "name": text, "redacted_value": text,
                "owner": {"name": text, "id": text}});
            let listed = parse_credential(item.to_string().as_bytes(), &known).unwrap();
            let shown = format!("{listed:?}");
            assert!(!shown.contains(body), "{shown}");
        }
        // None is like a secret of another test, which may be alive in this process.
        for id in [
            "key_a",
            "9f86d081884c7d659a2feaa0c55ad015",
            "sk_key_abc",
            "42",
        ] {
            assert!(
                parse_new_credential(answer(id, "label").as_bytes(), &known).is_ok(),
                "{id}"
            );
        }
    }

    /// What shows the id or the name of the same answer is no secret, and makes no later
    /// list unusable.
    #[test]
    fn no_secret_shows_the_id_or_the_name_of_its_answer() {
        let (id, name) = ("key_3fb8c0d1e2f3a4b5", "billing-20261123T030000Z-5f3a9c");
        for (value, is_secret) in [
            (id.to_owned(), false),
            (id.to_uppercase(), false),
            (format!(" {id}\n"), false),
            (name.to_owned(), false),
            (format!("sk-admin-{id}"), false),
            (format!("sk-admin-{id}-Zq7w8e9r0t"), false),
            (format!("sk-admin-{name}"), false),
            ("sk-admin-3fb8c0d1-Zq7w8e9r0t1y2u3".to_owned(), true),
        ] {
            let known = unknown();
            let answer = json!({"id": id, "name": name, "value": value}).to_string();
            let parsed = parse_new_credential(answer.as_bytes(), &known);
            assert_eq!(parsed.is_ok(), is_secret, "{value}");
            if let Err(problem) = parsed {
                assert!(!problem.contains(&value), "{problem}");
                let page = json!({"data": [{"id": id, "name": name}]}).to_string();
                let page = parse_page(page.as_bytes(), &known).unwrap();
                assert_eq!(page.credentials[0].name.as_deref(), Some(name), "{value}");
            }
        }
        // A short id or name may be a part of a secret.
        for (id, name) in [("42", "prod"), ("key_a", "sk-admin"), ("a", "")] {
            let value = "sk-admin-42prodkey_a-Zq7w8e9r0t1y2u3";
            let answer = json!({"id": id, "name": name, "value": value}).to_string();
            assert!(
                parse_new_credential(answer.as_bytes(), &unknown()).is_ok(),
                "{id}"
            );
        }
    }

    #[test]
    fn a_sanitized_name_never_equals_a_label() {
        assert_eq!(
            recorded_name("a-20261123T030000Z-5f3a9c", &unknown()),
            "a-20261123T030000Z-5f3a9c"
        );
        assert_ne!(
            recorded_name(" a-20261123T030000Z-5f3a9c", &unknown()),
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
        assert!(parse_page(br#"{"data":[{"name":"x"}]}"#, &unknown()).is_err());
        assert!(parse_page(br#"{"data":{}}"#, &unknown()).is_err());
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
            let page = parse_page(body.as_bytes(), &unknown()).ok();
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
