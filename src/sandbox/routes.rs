//! The four operations over HTTP, and what goes wrong in them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State as Shares};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::fault::{Kind, Operation};
use crate::sandbox::{Shared, state};

/// The longest request body: a name is short.
const LONGEST_BODY: usize = 64 * 1024;

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_secs(2);

/// How long after its connection was closed a late create lands.
const LATE: Duration = Duration::from_secs(3);

type SharedState = Shares<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/organization/admin_api_keys", get(list).post(create))
        .route(
            "/v1/organization/admin_api_keys/{id}",
            get(retrieve).delete(delete),
        )
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "unknown_url", "Unknown request URL") })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(shared)
}

/// Checks the credential, and gives each answer its date and id.
async fn guard(Shares(shared): SharedState, request: Request, next: Next) -> Response {
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let secret = bearer
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let accepted = shared.state().accepts(secret);
    let mut answer = if accepted {
        next.run(request).await
    } else {
        refusal(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "Incorrect API key provided",
        )
    };
    let date = state::now()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let id = shared
        .state()
        .letters(16)
        .map(|letters| format!("req_{letters}"));
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::try_from(date) {
        headers.insert(DATE, value);
    }
    if let Some(value) = id.ok().and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert("x-request-id", value);
    }
    answer
}

#[derive(Deserialize)]
struct Creation {
    name: String,
    expires_in_seconds: Option<i64>,
}

async fn create(Shares(shared): SharedState, body: String) -> Response {
    let asked: Creation = match serde_json::from_str(&body) {
        Ok(asked) => asked,
        Err(_) => {
            return refusal(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "name is missing",
            );
        }
    };
    if asked
        .expires_in_seconds
        .is_some_and(|span| !(1..=31_536_000).contains(&span))
    {
        let text = "expires_in_seconds is out of range";
        return refusal(StatusCode::BAD_REQUEST, "invalid_request_error", text);
    }
    let fault = shared.fault(Operation::Create);
    if fault == Some(Kind::Late) {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            if let Err(error) = shared.state().create(&asked.name, asked.expires_in_seconds) {
                tracing::error!("{error}");
            }
        });
        return dropped();
    }
    with_fault(fault, || {
        let key = shared
            .state()
            .create(&asked.name, asked.expires_in_seconds)?;
        let mut shown = key.shown();
        shown["value"] = key.value.into();
        Ok(Json(shown).into_response())
    })
    .await
}

#[derive(Deserialize)]
struct Paging {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
}

async fn list(Shares(shared): SharedState, Query(paging): Query<Paging>) -> Response {
    let fault = shared.fault(Operation::List);
    let stale = fault == Some(Kind::StaleList);
    with_fault(fault, || {
        Ok(Json(page(&shared, &paging, stale)).into_response())
    })
    .await
}

fn page(shared: &Shared, paging: &Paging, stale: bool) -> Value {
    let state = shared.state();
    let mut keys: Vec<_> = state.live().collect();
    if stale {
        // As before the newest key was made.
        keys.pop();
    }
    if paging.order.as_deref() == Some("desc") {
        keys.reverse();
    }
    if let Some(after) = &paging.after {
        let from = keys
            .iter()
            .position(|key| key.id == *after)
            .map_or(keys.len(), |at| at + 1);
        keys.drain(..from);
    }
    let limit = paging.limit.unwrap_or(20).clamp(1, 100);
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    json!({
        "object": "list",
        "data": keys.iter().map(|key| key.shown()).collect::<Vec<_>>(),
        "first_id": keys.first().map(|key| &key.id),
        "last_id": keys.last().map(|key| &key.id),
        "has_more": has_more,
    })
}

async fn retrieve(Shares(shared): SharedState, Path(id): Path<String>) -> Response {
    let fault = shared.fault(Operation::Retrieve);
    with_fault(fault, || {
        let state = shared.state();
        let found = state.live().find(|key| key.id == id);
        Ok(found.map_or_else(|| missing(&id), |key| Json(key.shown()).into_response()))
    })
    .await
}

async fn delete(Shares(shared): SharedState, Path(id): Path<String>) -> Response {
    let fault = shared.fault(Operation::Delete);
    with_fault(fault, || {
        if !shared.state().delete(&id)? {
            return Ok(missing(&id));
        }
        let object = "organization.admin_api_key.deleted";
        Ok(Json(json!({"id": id, "object": object, "deleted": true})).into_response())
    })
    .await
}

/// Does the work, or not, and answers, or not.
async fn with_fault(
    fault: Option<Kind>,
    work: impl FnOnce() -> Result<Response, String>,
) -> Response {
    match fault {
        Some(Kind::DropBefore | Kind::Late) => return dropped(),
        Some(Kind::ErrorBefore) => return server_error(),
        Some(Kind::RateLimited) => return rate_limited(),
        Some(Kind::Html) => {
            let page = "<html><body>403 Forbidden</body></html>";
            return (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "text/html")], page).into_response();
        }
        Some(Kind::Scope) => {
            let text = "You have insufficient permissions for this operation. Missing scopes.";
            return refusal(StatusCode::UNAUTHORIZED, "missing_scope", text);
        }
        None
        | Some(
            Kind::DropAfter
            | Kind::ErrorAfter
            | Kind::Hang
            | Kind::Slow
            | Kind::Garbage
            | Kind::StaleList,
        ) => {}
    }
    let answer = work().unwrap_or_else(|why| {
        tracing::error!("{why}");
        server_error()
    });
    match fault {
        Some(Kind::DropAfter) => dropped(),
        Some(Kind::ErrorAfter) => server_error(),
        Some(Kind::Hang) => std::future::pending().await,
        Some(Kind::Slow) => {
            tokio::time::sleep(SLOW).await;
            answer
        }
        Some(Kind::Garbage) => (StatusCode::OK, "{\"id\":\"key_").into_response(),
        None
        | Some(
            Kind::StaleList
            | Kind::DropBefore
            | Kind::ErrorBefore
            | Kind::RateLimited
            | Kind::Html
            | Kind::Scope
            | Kind::Late,
        ) => answer,
    }
}

/// An answer that breaks off before its first byte of body: the client cannot
/// read it to the end.
fn dropped() -> Response {
    (StatusCode::OK, Body::new(Broken)).into_response()
}

/// A body that fails at once, which makes the server close the connection.
struct Broken;

impl axum::body::HttpBody for Broken {
    type Data = axum::body::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionAborted.into())))
    }
}

fn missing(id: &str) -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "not_found",
        &format!("No such admin API key: {id}"),
    )
}

fn server_error() -> Response {
    refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        "server_error",
        "The server had an error",
    )
}

fn rate_limited() -> Response {
    let mut answer = refusal(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit_exceeded",
        "Rate limit reached",
    );
    answer
        .headers_mut()
        .insert("retry-after", HeaderValue::from_static("1"));
    answer
}

/// The provider's error envelope.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let error =
        json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    (status, Json(json!({ "error": error }))).into_response()
}
