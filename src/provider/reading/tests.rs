//! Whatever is answered to the four operations: no panic, no secret in an
//! error, and nothing is believed that the provider has not said.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::zeroize::Zeroizing;
use serde_json::{Map, Value, json};

use super::*;
use crate::core::secret::Secret;
use crate::provider::{Outcome, Retry};

/// In memory, as the credential in use is.
const KNOWN: &str = "plain-word-of-ours-4711-0815";

/// Known to nobody here, but to be told by its beginning.
const UNKNOWN: &str = "sk-admin-JustMade42T3BlbkFJ-0bqZx";

/// A part of each that must not be shown either.
const PARTS: [&str; 2] = ["of-ours-4711", "JustMade42"];

/// What is asked about.
const ID: &str = "key_abc";

const OPERATION: &str = "ask";

/// The longest wait that may come out, whatever was asked for.
const DAY: Duration = Duration::from_secs(86_400);

/// An answer, made of anything.
#[derive(Debug, Clone)]
struct Sent {
    status: u16,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn reply(&self) -> Reply {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).ok()?;
            Some((HeaderName::from_static(name), value))
        });
        let headers: HeaderMap = headers.collect();
        let status = StatusCode::from_u16(self.status).unwrap();
        Reply {
            head: Head::read(status, &headers),
            body: Zeroizing::new(self.body.clone()),
        }
    }

    fn answered(&self) -> Result<Reply, ProviderError> {
        success(OPERATION, self.reply())
    }

    fn object(&self) -> Option<Map<String, Value>> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Some(object),
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether the provider itself has refused: its status says so, and its
    /// envelope proves that it was the provider.
    fn is_refusal(&self) -> bool {
        let is_about_it =
            (400..500).contains(&self.status) && self.status != 408 && self.status != 409;
        let object = self.object().unwrap_or_default();
        let Some(Value::Object(error)) = object.get("error") else {
            return false;
        };
        let has_words = ["type", "message"]
            .iter()
            .any(|field| error.get(*field).is_some_and(Value::is_string));
        is_about_it && has_words && !error.get("code").is_some_and(Value::is_number)
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Text that may hold a secret, or be what is expected somewhere.
fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        ID,
        "key_other",
        "..",
        "invalid_api_key",
        "insufficient_quota",
        "unknown_url",
        "Invalid URL (GET /v1)",
        "sk-admin...def",
        UNKNOWN,
        KNOWN,
    ]);
    prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => any::<String>(),
        1 => ".{0,8}".prop_map(|text| format!("{text}{KNOWN}{text} {UNKNOWN} ")),
        1 => Just("x".repeat(5_000)),
    ]
}

/// Any JSON.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1_711_471_533)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(field(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "id",
        "name",
        "value",
        "redacted_value",
        "created_at",
        "expires_at",
        "last_used_at",
        "owner",
        "data",
        "has_more",
        "deleted",
        "error",
        "type",
        "code",
        "message",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

/// The answers that the provider gives, each with its status.
fn right() -> impl Strategy<Value = (u16, Value)> {
    let credential = json!({
        "object": "organization.admin_api_key", "id": ID, "name": "billing",
        "redacted_value": "sk-admin...bqZ", "created_at": 1_711_471_533, "last_used_at": null,
        "owner": {"type": "user", "id": "user_1", "name": "John", "role": "owner"},
    });
    let mut created = credential.clone();
    created["value"] = json!(UNKNOWN);
    let error = json!({"error": {
        "type": "invalid_request_error", "message": format!("not with {KNOWN}"),
        "param": null, "code": "invalid_api_key",
    }});
    prop_oneof![
        Just((200, created)),
        Just((200, credential.clone())),
        Just((
            200,
            json!({"object": "list", "data": [credential], "has_more": false})
        )),
        Just((200, json!({"id": ID, "deleted": true}))),
        prop::sample::select(vec![400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
            .prop_map(move |status| (status, error.clone())),
    ]
}

/// Such an answer with one place in it changed, or none.
fn nearly_right() -> impl Strategy<Value = (u16, Value)> {
    (
        right(),
        any::<prop::sample::Index>(),
        prop::option::of(value()),
    )
        .prop_map(|((status, mut body), at, other)| {
            if let Some(other) = other {
                let mut places = Vec::new();
                pointers(&body, String::new(), &mut places);
                if let Some(place) = body.pointer_mut(&places[at.index(places.len())]) {
                    *place = other;
                }
            }
            (status, body)
        })
}

/// Every place in a value.
fn pointers(value: &Value, here: String, places: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (name, inner) in object {
            pointers(inner, format!("{here}/{name}"), places);
        }
    }
    if let Value::Array(items) = value {
        for (at, inner) in items.iter().enumerate() {
            pointers(inner, format!("{here}/{at}"), places);
        }
    }
    places.push(here);
}

fn body() -> impl Strategy<Value = (Option<u16>, Vec<u8>)> {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let near = move || nearly_right().prop_map(move |(status, body)| (Some(status), bytes(&body)));
    let page = (text(), text()).prop_map(|(a, b)| format!("<html>{a}\r\n{b}</html>").into_bytes());
    prop_oneof![
        6 => near(),
        2 => value().prop_map(move |value| (None, bytes(&value))),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| (None, bytes)),
        1 => page.prop_map(|page| (None, page)),
        // Broken off in the middle.
        2 => (near(), any::<prop::sample::Index>()).prop_map(|((status, mut bytes), end)| {
            bytes.truncate(end.index(bytes.len() + 1));
            (status, bytes)
        }),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop::sample::select(vec![
        "date",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "content-type",
    ]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24),
        text().prop_map(String::into_bytes),
        any::<f64>().prop_map(|number| number.to_string().into_bytes()),
        any::<u32>().prop_map(|number| number.to_string().into_bytes()),
        Just(b"Mon, 23 Nov 2026 03:00:00 GMT".to_vec()),
        Just(b"Mon, 23 Nov 9998 03:00:00 GMT".to_vec()),
    ];
    prop::collection::vec((name, value), 0..5)
}

fn sent() -> impl Strategy<Value = Sent> {
    (body(), headers(), 100_u16..600, any::<bool>()).prop_map(
        |((fitting, body), headers, any, fits)| Sent {
            status: fitting.filter(|_| fits).unwrap_or(any),
            headers,
            body,
        },
    )
}

/// What is true of every error, whatever was asked.
fn is_sound(sent: &Sent, error: &ProviderError) {
    for text in [error.to_string(), format!("{error:?}")] {
        for part in PARTS {
            assert!(!text.contains(part), "{text}");
        }
        assert!(text.len() < 4_000, "{text}");
    }
    assert_eq!(error.cause.is_outage(), error.outcome == Outcome::Unknown);
    assert_eq!(
        error.outcome == Outcome::NotDone,
        sent.is_refusal(),
        "{error:?}"
    );
    if error.outcome == Outcome::Unknown {
        assert_ne!(error.retry, Retry::Never, "nobody has said no");
    }
    if let Retry::Later(Some(wait)) = error.retry {
        assert!(wait <= DAY, "{wait:?}");
    }
}

fn is_usable(id: Option<&Value>) -> bool {
    id.and_then(Value::as_str).is_some_and(|id| {
        !matches!(id, "" | "." | "..") && id.len() <= 200 && !id.contains(char::is_control)
    })
}

/// Whether it says that there is no such credential.
fn says_gone(sent: &Sent) -> bool {
    let error = sent
        .object()
        .and_then(|object| object.get("error").cloned());
    let error = error.unwrap_or_default();
    let is_about_path = error["code"] == "unknown_url"
        || (error["message"].as_str()).is_some_and(|text| text.trim().starts_with("Invalid URL"));
    sent.status == 404 && sent.is_refusal() && !is_about_path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_create_is_done_or_not_done_only_if_the_provider_says_so(sent in sent()) {
        let own = Secret::new(KNOWN.to_owned());
        let object = sent.object().unwrap_or_default();
        match sent.answered().and_then(|reply| created(OPERATION, &reply)) {
            Ok(answer) => {
                assert!(sent.is_success());
                assert_eq!(object.get("id").and_then(Value::as_str), Some(answer.value.facts.id.as_str()));
                let value = object.get("value").and_then(Value::as_str).filter(|value| !value.is_empty());
                assert_eq!(answer.value.secret.as_ref().map(Secret::expose), value);
                let redacted = answer.value.facts.redacted_value.unwrap_or_default();
                assert!(PARTS.iter().all(|part| !redacted.contains(part)), "{redacted}");
            }
            Err(error) => {
                is_sound(&sent, &error);
                assert!(!(sent.is_success() && is_usable(object.get("id"))), "{error:?}");
            }
        }
        drop(own);
    }

    #[test]
    fn a_list_is_whole_or_it_is_none(sent in sent()) {
        let own = Secret::new(KNOWN.to_owned());
        let object = sent.object().unwrap_or_default();
        let items = object.get("data").and_then(Value::as_array);
        let is_whole = items.is_some_and(|items| items.iter().all(|item| is_usable(item.get("id"))));
        match sent.answered().and_then(|reply| page(OPERATION, reply)) {
            Ok((page, _)) => {
                assert!(sent.is_success() && is_whole);
                assert_eq!(Some(page.credentials.len()), items.map(Vec::len));
                for one in page.credentials {
                    let told = format!("{:?} {:?} {:?}", one.name, one.owner, one.facts.redacted_value);
                    assert!(PARTS.iter().all(|part| !told.contains(part)), "{told}");
                }
            }
            Err(error) => {
                is_sound(&sent, &error);
                assert!(!(sent.is_success() && is_whole), "{error:?}");
            }
        }
        drop(own);
    }

    #[test]
    fn a_credential_is_there_or_gone_only_if_the_provider_says_so(sent in sent()) {
        let own = Secret::new(KNOWN.to_owned());
        let id = CredentialId::new(ID.to_owned());
        let object = sent.object().unwrap_or_default();
        let is_it = object.get("id").is_some_and(|id| id == ID);
        let found = about(sent.answered()).and_then(|about| retrieved(OPERATION, &id, about));
        match found.map(|answer| answer.value) {
            Ok(Some(_)) => assert!(sent.is_success() && is_it),
            Ok(None) => assert!(says_gone(&sent)),
            Err(error) => {
                is_sound(&sent, &error);
                assert!(!(says_gone(&sent) || sent.is_success() && is_it), "{error:?}");
            }
        }
        let is_deleted = sent.is_success()
            && object.get("deleted") == Some(&Value::Bool(true))
            && (is_it || !object.get("id").is_some_and(Value::is_string));
        match about(sent.answered()).and_then(|about| deleted(OPERATION, &id, about)) {
            Ok(_) => assert!(says_gone(&sent) || is_deleted),
            Err(error) => {
                is_sound(&sent, &error);
                assert!(!(says_gone(&sent) || is_deleted), "{error:?}");
            }
        }
        drop(own);
    }
}
