//! The API's four operations, as routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::sandbox::fault::ApiOperation;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::server::SandboxApp;
use crate::sandbox::state::{ListQuery, SandboxState};

/// The longest body that is accepted, in bytes; a create has a hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The default number of items on a page.
const DEFAULT_PAGE_SIZE: usize = 20;

/// The largest number of items on a page.
const MAX_PAGE_SIZE: usize = 100;

/// The longest lifetime of a key that a request may name.
const MAX_LIFETIME_SECONDS: u64 = 31_536_000;

pub(super) fn router(app: Arc<SandboxApp>) -> Router {
    let keys = "/v1/organization/admin_api_keys";
    Router::new()
        .route(keys, post(create).get(list))
        .route(&format!("{keys}/{{key_id}}"), get(retrieve).delete(delete))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

async fn create(Shared(app): Shared<Arc<SandboxApp>>, headers: HeaderMap, body: Bytes) -> Response {
    app.respond(
        ApiOperation::Create,
        &headers,
        move |state, _is_stale| match parse_create(&body) {
            Ok((name, lifetime)) => ApiReply::ok(state.create(name, lifetime).to_json(true)),
            Err(error_reply) => error_reply,
        },
    )
    .await
}

async fn list(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    app.respond(ApiOperation::List, &headers, move |state, is_stale| {
        list_page(state, query.as_deref().unwrap_or_default(), is_stale)
    })
    .await
}

async fn retrieve(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    app.respond(
        ApiOperation::Retrieve,
        &headers,
        move |state, _is_stale| match state.retrieve(&id) {
            Some(key) => ApiReply::ok(key.to_json(false)),
            None => key_not_found(&id),
        },
    )
    .await
}

async fn delete(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    app.respond(ApiOperation::Delete, &headers, move |state, _is_stale| {
        if !state.delete(&id) {
            return key_not_found(&id);
        }
        ApiReply::ok(json!({
            "id": id,
            "object": "organization.admin_api_key.deleted",
            "deleted": true,
        }))
    })
    .await
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    ApiReply::error(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        Some("unknown_url"),
        &format!("Unknown request URL: {method} {}.", uri.path()),
    )
    .into_response()
}

fn key_not_found(id: &str) -> ApiReply {
    ApiReply::error(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        None,
        &format!("No admin API key found with id '{id}'."),
    )
}

fn bad_request(message: &str) -> ApiReply {
    ApiReply::error(
        StatusCode::BAD_REQUEST,
        "invalid_request_error",
        None,
        message,
    )
}

/// Parses the name and the lifetime of a new key.
fn parse_create(body: &[u8]) -> Result<(String, Option<Duration>), ApiReply> {
    let request: Value = serde_json::from_slice(body)
        .map_err(|_| bad_request("We could not parse the JSON body of your request."))?;
    let name = request
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| bad_request("Missing required parameter: 'name'."))?;
    let lifetime = match request.get("expires_in_seconds") {
        None | Some(Value::Null) => None,
        Some(number) => Some(
            number
                .as_u64()
                .filter(|seconds| (1..=MAX_LIFETIME_SECONDS).contains(seconds))
                .map(Duration::from_secs)
                .ok_or_else(|| bad_request("Invalid value: 'expires_in_seconds'."))?,
        ),
    };
    Ok((name.to_owned(), lifetime))
}

fn list_page(state: &SandboxState, query: &str, is_stale: bool) -> ApiReply {
    let mut after = None;
    let mut limit = DEFAULT_PAGE_SIZE;
    let mut descending = false;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "after" => after = Some(value.into_owned()),
            "limit" => match value.parse() {
                Ok(number) if (1..=MAX_PAGE_SIZE).contains(&number) => limit = number,
                Ok(_) | Err(_) => return bad_request("Invalid value: 'limit' (1 to 100)."),
            },
            "order" => match value.as_ref() {
                "asc" => descending = false,
                "desc" => descending = true,
                _ => return bad_request("Invalid value: 'order' (asc or desc)."),
            },
            _ => {}
        }
    }
    let list_query = ListQuery {
        after: after.as_deref(),
        limit,
        descending,
        stale: is_stale,
    };
    let Ok(page) = state.list(&list_query) else {
        return bad_request("Invalid value: 'after' names no admin API key.");
    };
    let data: Vec<Value> = page.keys.iter().map(|key| key.to_json(false)).collect();
    ApiReply::ok(json!({
        "object": "list",
        "first_id": page.keys.first().map(|key| key.id.as_str()),
        "last_id": page.keys.last().map(|key| key.id.as_str()),
        "has_more": page.has_more,
        "data": data,
    }))
}
