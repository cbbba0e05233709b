//! The members of the bodies of requests. Each error is the response to the request.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::sandbox::reply::ApiReply;

/// The longest lifetime of a key that a request may name.
const MAX_LIFETIME_SECONDS: u64 = 31_536_000;

/// Parses the JSON object of a request.
pub(super) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiReply> {
    serde_json::from_slice(body)
        .map_err(|_| ApiReply::bad_request("We could not parse the JSON body of your request."))
}

/// Returns the name, which must be there.
pub(super) fn required_name(body: &Map<String, Value>) -> Result<String, ApiReply> {
    let missing = || ApiReply::bad_request("Missing required parameter: 'name'.");
    optional_name(body).and_then(|name| name.ok_or_else(missing))
}

/// Returns the name, if it is there.
pub(super) fn optional_name(body: &Map<String, Value>) -> Result<Option<String>, ApiReply> {
    match body.get("name") {
        None => Ok(None),
        Some(Value::String(name)) if !name.is_empty() => Ok(Some(name.clone())),
        Some(_) => Err(invalid("name")),
    }
}

/// Returns the lifetime of a new key; `null` is none.
pub(super) fn nullable_lifetime(body: &Map<String, Value>) -> Result<Option<Duration>, ApiReply> {
    match body.get("expires_in_seconds") {
        Some(Value::Null) => Ok(None),
        Some(_) | None => lifetime(body),
    }
}

/// Returns the lifetime, if it is there.
pub(super) fn lifetime(body: &Map<String, Value>) -> Result<Option<Duration>, ApiReply> {
    let name = "expires_in_seconds";
    let Some(number) = body.get(name) else {
        return Ok(None);
    };
    let seconds = number.as_u64();
    let seconds = seconds.filter(|seconds| (1..=MAX_LIFETIME_SECONDS).contains(seconds));
    let lifetime = seconds.map(Duration::from_secs);
    lifetime.map(Some).ok_or_else(|| invalid(name))
}

/// Returns the permissions, if they are there. An empty list means all: `Some(None)`.
pub(super) fn scopes(body: &Map<String, Value>) -> Result<Option<Option<Vec<String>>>, ApiReply> {
    let Some(value) = body.get("scopes") else {
        return Ok(None);
    };
    let scope = |value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let scopes: Option<Vec<String>> = value
        .as_array()
        .and_then(|values| values.iter().map(scope).collect());
    let scopes = scopes.ok_or_else(|| invalid("scopes"))?;
    Ok(Some((!scopes.is_empty()).then_some(scopes)))
}

/// Returns a member that is true or false; without it, or with `null`, it is false.
pub(super) fn flag(body: &Map<String, Value>, name: &str) -> Result<bool, ApiReply> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(invalid(name)),
    }
}

/// Returns 400 for a member with a value that it cannot have.
pub(super) fn invalid(name: &str) -> ApiReply {
    ApiReply::bad_request(&format!("Invalid value: '{name}'.")).about(name)
}
