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
use crate::provider::{Effect, RetryAdvice};

/// In memory, as the credential in use is.
const KNOWN_SECRET: &str = "plain-word-of-ours-4711-0815";

/// Known to nobody here, but to be told by its beginning.
const UNKNOWN_SECRET: &str = "sk-admin-JustMade42T3BlbkFJ-0bqZx";

/// A part of each that must not be shown either.
const SECRET_FRAGMENTS: [&str; 2] = ["of-ours-4711", "JustMade42"];

/// What is asked about.
const CREDENTIAL_ID: &str = "key_abc";

const OPERATION: &str = "ask";

/// The longest wait that may come out, whatever was asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// An answer, made of anything.
#[derive(Debug, Clone)]
struct ArbitraryResponse {
    status: u16,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl ArbitraryResponse {
    fn raw_response(&self) -> RawResponse {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).ok()?;
            Some((HeaderName::from_static(name), value))
        });
        let headers: HeaderMap = headers.collect();
        let status = StatusCode::from_u16(self.status).unwrap();
        RawResponse {
            head: ResponseHead::parse(status, &headers),
            body: Zeroizing::new(self.body.clone()),
        }
    }

    fn require_success(&self) -> Result<RawResponse, ProviderError> {
        require_success(OPERATION, self.raw_response())
    }

    fn json_object(&self) -> Option<Map<String, Value>> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Some(object),
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether the provider itself has refused: its status says so, and its
    /// envelope proves that it was the provider.
    fn is_error_response(&self) -> bool {
        let is_about_it =
            (400..500).contains(&self.status) && self.status != 408 && self.status != 409;
        let object = self.json_object().unwrap_or_default();
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
fn arbitrary_text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        CREDENTIAL_ID,
        "key_other",
        "..",
        "invalid_api_key",
        "insufficient_quota",
        "unknown_url",
        "Invalid URL (GET /v1)",
        "sk-admin...def",
        UNKNOWN_SECRET,
        KNOWN_SECRET,
    ]);
    prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => any::<String>(),
        1 => ".{0,8}".prop_map(|text| format!("{text}{KNOWN_SECRET}{text} {UNKNOWN_SECRET} ")),
        1 => Just("x".repeat(5_000)),
    ]
}

/// Any JSON.
fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1_711_471_533)),
        arbitrary_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(arbitrary_field_name(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn arbitrary_field_name() -> impl Strategy<Value = String> {
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
fn valid_response() -> impl Strategy<Value = (u16, Value)> {
    let credential = json!({
        "object": "organization.admin_api_key", "id": CREDENTIAL_ID, "name": "billing",
        "redacted_value": "sk-admin...bqZ", "created_at": 1_711_471_533, "last_used_at": null,
        "owner": {"type": "user", "id": "user_1", "name": "John", "role": "owner"},
    });
    let mut created = credential.clone();
    created["value"] = json!(UNKNOWN_SECRET);
    let error = json!({"error": {
        "type": "invalid_request_error", "message": format!("not with {KNOWN_SECRET}"),
        "param": null, "code": "invalid_api_key",
    }});
    prop_oneof![
        Just((200, created)),
        Just((200, credential.clone())),
        Just((
            200,
            json!({"object": "list", "data": [credential], "has_more": false})
        )),
        Just((200, json!({"id": CREDENTIAL_ID, "deleted": true}))),
        prop::sample::select(vec![400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
            .prop_map(move |status| (status, error.clone())),
    ]
}

/// Such an answer with one place in it changed, or none.
fn mutated_response() -> impl Strategy<Value = (u16, Value)> {
    (
        valid_response(),
        any::<prop::sample::Index>(),
        prop::option::of(arbitrary_json()),
    )
        .prop_map(|((status, mut body), at, other)| {
            if let Some(other) = other {
                let mut places = Vec::new();
                json_pointers(&body, String::new(), &mut places);
                if let Some(place) = body.pointer_mut(&places[at.index(places.len())]) {
                    *place = other;
                }
            }
            (status, body)
        })
}

/// Every place in a value.
fn json_pointers(value: &Value, here: String, places: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (name, inner) in object {
            json_pointers(inner, format!("{here}/{name}"), places);
        }
    }
    if let Value::Array(items) = value {
        for (at, inner) in items.iter().enumerate() {
            json_pointers(inner, format!("{here}/{at}"), places);
        }
    }
    places.push(here);
}

fn arbitrary_body() -> impl Strategy<Value = (Option<u16>, Vec<u8>)> {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let near =
        move || mutated_response().prop_map(move |(status, body)| (Some(status), bytes(&body)));
    let page = (arbitrary_text(), arbitrary_text())
        .prop_map(|(a, b)| format!("<html>{a}\r\n{b}</html>").into_bytes());
    prop_oneof![
        6 => near(),
        2 => arbitrary_json().prop_map(move |value| (None, bytes(&value))),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| (None, bytes)),
        1 => page.prop_map(|page| (None, page)),
        // Broken off in the middle.
        2 => (near(), any::<prop::sample::Index>()).prop_map(|((status, mut bytes), end)| {
            bytes.truncate(end.index(bytes.len() + 1));
            (status, bytes)
        }),
    ]
}

fn arbitrary_headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop::sample::select(vec![
        "date",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "content-type",
    ]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24),
        arbitrary_text().prop_map(String::into_bytes),
        any::<f64>().prop_map(|number| number.to_string().into_bytes()),
        any::<u32>().prop_map(|number| number.to_string().into_bytes()),
        Just(b"Mon, 23 Nov 2026 03:00:00 GMT".to_vec()),
        Just(b"Mon, 23 Nov 9998 03:00:00 GMT".to_vec()),
    ];
    prop::collection::vec((name, value), 0..5)
}

fn arbitrary_response() -> impl Strategy<Value = ArbitraryResponse> {
    (
        arbitrary_body(),
        arbitrary_headers(),
        100_u16..600,
        any::<bool>(),
    )
        .prop_map(|((fitting, body), headers, any, fits)| ArbitraryResponse {
            status: fitting.filter(|_| fits).unwrap_or(any),
            headers,
            body,
        })
}

/// What is true of every error, whatever was asked.
fn check_error(sent: &ArbitraryResponse, error: &ProviderError) {
    for text in [error.to_string(), format!("{error:?}")] {
        for part in SECRET_FRAGMENTS {
            assert!(!text.contains(part), "{text}");
        }
        assert!(text.len() < 4_000, "{text}");
    }
    assert_eq!(error.kind.is_outage(), error.effect == Effect::Unknown);
    assert_eq!(
        error.effect == Effect::NotApplied,
        sent.is_error_response(),
        "{error:?}"
    );
    if error.effect == Effect::Unknown {
        assert_ne!(error.retry, RetryAdvice::Never, "nobody has said no");
    }
    if let RetryAdvice::Later(Some(wait)) = error.retry {
        assert!(wait <= LONGEST_WAIT, "{wait:?}");
    }
}

fn is_valid_id(id: Option<&Value>) -> bool {
    id.and_then(Value::as_str).is_some_and(|id| {
        !matches!(id, "" | "." | "..") && id.len() <= 200 && !id.contains(char::is_control)
    })
}

/// Whether it says that there is no such credential.
fn says_not_found(sent: &ArbitraryResponse) -> bool {
    let error = sent
        .json_object()
        .and_then(|object| object.get("error").cloned());
    let error = error.unwrap_or_default();
    let is_about_path = error["code"] == "unknown_url"
        || (error["message"].as_str()).is_some_and(|text| text.trim().starts_with("Invalid URL"));
    sent.status == 404 && sent.is_error_response() && !is_about_path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_create_is_done_or_not_done_only_if_the_provider_says_so(sent in arbitrary_response()) {
        let own = Secret::new(KNOWN_SECRET.to_owned());
        let object = sent.json_object().unwrap_or_default();
        match sent.require_success().and_then(|reply| decode_create(OPERATION, &reply)) {
            Ok(answer) => {
                assert!(sent.is_success());
                assert_eq!(object.get("id").and_then(Value::as_str), Some(answer.value.metadata.id.as_str()));
                let value = object.get("value").and_then(Value::as_str).filter(|value| !value.is_empty());
                assert_eq!(answer.value.secret.as_ref().map(Secret::expose), value);
                let redacted = answer.value.metadata.redacted_value.unwrap_or_default();
                assert!(SECRET_FRAGMENTS.iter().all(|part| !redacted.contains(part)), "{redacted}");
            }
            Err(error) => {
                check_error(&sent, &error);
                assert!(!(sent.is_success() && is_valid_id(object.get("id"))), "{error:?}");
            }
        }
        drop(own);
    }

    #[test]
    fn a_list_is_whole_or_it_is_none(sent in arbitrary_response()) {
        let own = Secret::new(KNOWN_SECRET.to_owned());
        let object = sent.json_object().unwrap_or_default();
        let items = object.get("data").and_then(Value::as_array);
        let is_whole = items.is_some_and(|items| items.iter().all(|item| is_valid_id(item.get("id"))));
        match sent.require_success().and_then(|reply| decode_page(OPERATION, reply)) {
            Ok((page, _)) => {
                assert!(sent.is_success() && is_whole);
                assert_eq!(Some(page.credentials.len()), items.map(Vec::len));
                for one in page.credentials {
                    let told = format!("{:?} {:?} {:?}", one.name, one.owner, one.metadata.redacted_value);
                    assert!(SECRET_FRAGMENTS.iter().all(|part| !told.contains(part)), "{told}");
                }
            }
            Err(error) => {
                check_error(&sent, &error);
                assert!(!(sent.is_success() && is_whole), "{error:?}");
            }
        }
        drop(own);
    }

    #[test]
    fn a_credential_is_there_or_gone_only_if_the_provider_says_so(sent in arbitrary_response()) {
        let own = Secret::new(KNOWN_SECRET.to_owned());
        let id = CredentialId::new(CREDENTIAL_ID.to_owned());
        let object = sent.json_object().unwrap_or_default();
        let is_it = object.get("id").is_some_and(|id| id == CREDENTIAL_ID);
        let found = into_lookup(sent.require_success()).and_then(|about| decode_retrieve(OPERATION, &id, about));
        match found.map(|answer| answer.value) {
            Ok(Some(_)) => assert!(sent.is_success() && is_it),
            Ok(None) => assert!(says_not_found(&sent)),
            Err(error) => {
                check_error(&sent, &error);
                assert!(!(says_not_found(&sent) || sent.is_success() && is_it), "{error:?}");
            }
        }
        let is_deleted = sent.is_success()
            && object.get("deleted") == Some(&Value::Bool(true))
            && (is_it || !object.get("id").is_some_and(Value::is_string));
        match into_lookup(sent.require_success()).and_then(|about| decode_delete(OPERATION, &id, about)) {
            Ok(_) => assert!(says_not_found(&sent) || is_deleted),
            Err(error) => {
                check_error(&sent, &error);
                assert!(!(says_not_found(&sent) || is_deleted), "{error:?}");
            }
        }
        drop(own);
    }
}
