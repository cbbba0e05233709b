//! Arbitrary responses to the four operations: no panic, no secret in an error,
//! and no result that the provider has not confirmed.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::zeroize::Zeroizing;
use serde_json::{Map, Value, json};

use super::*;
use crate::core::redact::shows_secret;
use crate::core::secret::Secret;
use crate::provider::{Effect, RetryAdvice};

/// A secret in memory, like the credential in use.
const KNOWN_SECRET: &str = "plain-word-of-ours-4711-0815";

/// A secret that is not in memory, but recognized by its prefix.
const UNKNOWN_SECRET: &str = "sk-admin-JustMade42T3BlbkFJ-0bqZx";

/// A part of each that must not be shown either.
const SECRET_FRAGMENTS: [&str; 2] = ["of-ours-4711", "JustMade42"];

/// The credential of the requests.
const CREDENTIAL_ID: &str = "key_abc";

const OPERATION: &str = "check";

/// The longest delay that an error may contain.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// An arbitrary response.
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
            head: ResponseHead::parse(
                status,
                &headers,
                &"https://api.openai.com/v1".parse().unwrap(),
            ),
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

    /// Whether the provider itself has refused the request: by its status, with
    /// its envelope as proof of the sender.
    fn is_error_response(&self) -> bool {
        let is_refusal_status =
            (400..500).contains(&self.status) && self.status != 408 && self.status != 409;
        let object = self.json_object().unwrap_or_default();
        let Some(Value::Object(error)) = object.get("error") else {
            return false;
        };
        let has_text = ["type", "message"]
            .iter()
            .any(|field| error.get(*field).is_some_and(Value::is_string));
        is_refusal_status && has_text && !error.get("code").is_some_and(Value::is_number)
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Generates text that may contain a secret, or be expected somewhere.
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

/// Generates any JSON.
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

/// Generates the responses that the provider sends, each with its status.
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
        prop::sample::select(vec![400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503])
            .prop_map(move |status| (status, error.clone())),
    ]
}

/// Generates such a response, with at most one value replaced.
fn mutated_response() -> impl Strategy<Value = (u16, Value)> {
    (
        valid_response(),
        any::<prop::sample::Index>(),
        prop::option::of(arbitrary_json()),
    )
        .prop_map(|((status, mut body), index, replacement)| {
            if let Some(replacement) = replacement {
                let mut pointers = Vec::new();
                json_pointers(&body, String::new(), &mut pointers);
                if let Some(value) = body.pointer_mut(&pointers[index.index(pointers.len())]) {
                    *value = replacement;
                }
            }
            (status, body)
        })
}

/// Lists the pointers to every value in a value.
fn json_pointers(value: &Value, pointer: String, pointers: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (name, inner) in object {
            json_pointers(inner, format!("{pointer}/{name}"), pointers);
        }
    }
    if let Value::Array(items) = value {
        for (index, inner) in items.iter().enumerate() {
            json_pointers(inner, format!("{pointer}/{index}"), pointers);
        }
    }
    pointers.push(pointer);
}

fn arbitrary_body() -> impl Strategy<Value = (Option<u16>, Vec<u8>)> {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let near_valid =
        move || mutated_response().prop_map(move |(status, body)| (Some(status), bytes(&body)));
    let page = (arbitrary_text(), arbitrary_text())
        .prop_map(|(a, b)| format!("<html>{a}\r\n{b}</html>").into_bytes());
    prop_oneof![
        6 => near_valid(),
        2 => arbitrary_json().prop_map(move |value| (None, bytes(&value))),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| (None, bytes)),
        1 => page.prop_map(|page| (None, page)),
        // Truncated.
        2 => (near_valid(), any::<prop::sample::Index>()).prop_map(|((status, mut bytes), end)| {
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
        .prop_map(
            |((valid_status, body), headers, any_status, is_valid)| ArbitraryResponse {
                status: valid_status.filter(|_| is_valid).unwrap_or(any_status),
                headers,
                body,
            },
        )
}

/// Checks the properties of every error, whatever the operation.
fn check_error(response: &ArbitraryResponse, error: &ProviderError) {
    for text in [error.to_string(), format!("{error:?}")] {
        for fragment in SECRET_FRAGMENTS {
            assert!(!text.contains(fragment), "{text}");
        }
        assert!(text.len() < 4_000, "{text}");
    }
    assert_eq!(error.kind.is_outage(), error.effect == Effect::Unknown);
    assert_eq!(
        error.effect == Effect::NotApplied,
        response.is_error_response(),
        "{error:?}"
    );
    if error.effect == Effect::Unknown {
        assert_ne!(
            error.retry,
            RetryAdvice::Never,
            "the provider has not refused"
        );
    }
    if let RetryAdvice::Later(Some(wait)) = error.retry {
        assert!(wait <= LONGEST_WAIT, "{wait:?}");
    }
}

fn is_valid_id(id: Option<&Value>) -> bool {
    id.and_then(Value::as_str).is_some_and(|id| {
        let is_unsafe = |letter: char| letter.is_control() || letter.is_whitespace();
        !matches!(id, "" | "." | "..")
            && id.len() <= 200
            && !id.contains(is_unsafe)
            && !shows_secret(id)
    })
}

fn known() -> ActiveCredential {
    ActiveCredential::new()
}

/// Whether a response proves that there is no such credential.
fn says_not_found(response: &ArbitraryResponse) -> bool {
    let error = response
        .json_object()
        .and_then(|object| object.get("error").cloned());
    let error = error.unwrap_or_default();
    let is_about_path = error["code"] == "unknown_url"
        || (error["message"].as_str()).is_some_and(|text| text.trim().starts_with("Invalid URL"));
    matches!(response.status, 404 | 410) && response.is_error_response() && !is_about_path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_create_is_done_or_not_done_only_if_the_provider_says_so(response in arbitrary_response()) {
        let known_secret = Secret::new(KNOWN_SECRET.to_owned());
        let object = response.json_object().unwrap_or_default();
        let known = known();
        let value = object.get("value").and_then(Value::as_str).filter(|value| !value.is_empty());
        let answered = value.map(|value| Secret::new(value.to_owned()));
        match response.require_success().and_then(|raw| decode_create(OPERATION, &raw, &known)) {
            Ok(decoded) => {
                assert!(response.is_success());
                assert_eq!(object.get("id").and_then(Value::as_str), Some(decoded.value.metadata.id.as_str()));
                assert_eq!(decoded.value.secret.as_ref().map(Secret::expose), value);
                let redacted = decoded.value.metadata.redacted_value.unwrap_or_default();
                assert!(SECRET_FRAGMENTS.iter().all(|fragment| !redacted.contains(fragment)), "{redacted}");
            }
            Err(error) => {
                check_error(&response, &error);
                let id = object.get("id");
                let shows_value = id.and_then(Value::as_str).is_some_and(|id| known.is_shown_in(id));
                assert!(!(response.is_success() && is_valid_id(id) && !shows_value), "{error:?}");
            }
        }
        drop((known_secret, answered));
    }

    #[test]
    fn a_list_is_whole_or_it_is_none(response in arbitrary_response()) {
        let known_secret = Secret::new(KNOWN_SECRET.to_owned());
        let object = response.json_object().unwrap_or_default();
        let items = object.get("data").and_then(Value::as_array);
        let is_end_known = matches!(object.get("has_more"), None | Some(Value::Null | Value::Bool(_)));
        let is_whole = is_end_known
            && items.is_some_and(|items| items.iter().all(|item| is_valid_id(item.get("id"))));
        match response.require_success().and_then(|raw| decode_page(OPERATION, raw, &known())) {
            Ok((page, _)) => {
                assert!(response.is_success() && is_whole);
                assert_eq!(Some(page.credentials.len()), items.map(Vec::len));
                for credential in page.credentials {
                    let text = format!("{:?} {:?} {:?}", credential.name, credential.owner, credential.metadata.redacted_value);
                    assert!(SECRET_FRAGMENTS.iter().all(|fragment| !text.contains(fragment)), "{text}");
                }
            }
            Err(error) => {
                check_error(&response, &error);
                assert!(!(response.is_success() && is_whole), "{error:?}");
            }
        }
        drop(known_secret);
    }

    #[test]
    fn a_credential_is_there_or_gone_only_if_the_provider_says_so(response in arbitrary_response()) {
        let known_secret = Secret::new(KNOWN_SECRET.to_owned());
        let id = CredentialId::new(CREDENTIAL_ID.to_owned());
        let object = response.json_object().unwrap_or_default();
        let is_same_id = object.get("id").is_some_and(|id| id == CREDENTIAL_ID);
        let result = into_lookup(response.require_success()).and_then(|lookup| decode_retrieve(OPERATION, &id, lookup, &known()));
        match result.map(|decoded| decoded.value) {
            Ok(Some(_)) => assert!(response.is_success() && is_same_id),
            Ok(None) => assert!(says_not_found(&response)),
            Err(error) => {
                check_error(&response, &error);
                assert!(!(says_not_found(&response) || response.is_success() && is_same_id), "{error:?}");
            }
        }
        let is_deleted = response.is_success()
            && object.get("deleted") == Some(&Value::Bool(true))
            && (is_same_id || !object.get("id").is_some_and(Value::is_string));
        match into_lookup(response.require_success()).and_then(|lookup| decode_delete(OPERATION, &id, lookup)) {
            Ok(_) => assert!(says_not_found(&response) || is_deleted),
            Err(error) => {
                check_error(&response, &error);
                assert!(!(says_not_found(&response) || is_deleted), "{error:?}");
            }
        }
        drop(known_secret);
    }
}
