//! Responses in the format of the API.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, DATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use crate::sandbox::key_format::random_id;
use crate::sandbox::state::clock::now_millis;

/// The page of an intermediate proxy.
const PROXY_BLOCK_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Blocked</title></head><body>Request blocked.</body></html>\n";

/// One response of the API, before it is sent.
pub(super) struct ApiReply {
    status: StatusCode,
    body: Value,
    retry_after: Option<&'static str>,
}

impl ApiReply {
    pub(super) fn ok(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body,
            retry_after: None,
        }
    }

    /// Returns an error in the API's envelope.
    pub(super) fn error(status: StatusCode, kind: &str, code: Option<&str>, message: &str) -> Self {
        let body = json!({
            "error": { "type": kind, "message": message, "param": null, "code": code },
        });
        Self {
            status,
            body,
            retry_after: None,
        }
    }

    /// Returns 400 for a request that is invalid.
    pub(super) fn bad_request(message: &str) -> Self {
        Self::error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            None,
            message,
        )
    }

    /// Returns the error with the name of the member that it is about.
    pub(super) fn about(mut self, param: &str) -> Self {
        self.body["error"]["param"] = json!(param);
        self
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::error(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            None,
            message,
        )
    }

    /// Returns 404 for a path that the API does not have.
    pub(super) fn unknown_url(method: &Method, path: &str) -> Self {
        Self::error(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            Some("unknown_url"),
            &format!("Unknown request URL: {method} {path}."),
        )
    }

    /// Returns 400 for a change in an archived project.
    pub(super) fn project_archived() -> Self {
        Self::error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            Some("project_archived"),
            "The project is archived.",
        )
    }

    /// Returns 401 for a secret of an archived project, which says nothing of the secret.
    pub(super) fn project_inaccessible() -> Self {
        Self::error(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            Some("not_authorized_invalid_project"),
            "The project you are requesting has been archived and is no longer accessible.",
        )
    }

    /// Returns an error that names a scope which the secret does not have.
    pub(super) fn lacks_scope(status: StatusCode, scope: &str) -> Self {
        Self::error(
            status,
            "invalid_request_error",
            Some("missing_scope"),
            &format!(
                "You have insufficient permissions for this operation. Missing scopes: {scope}."
            ),
        )
    }

    /// Returns 403 without a code.
    pub(super) fn forbidden() -> Self {
        Self::error(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            None,
            "You are not allowed to do this.",
        )
    }

    /// Returns 401 for a secret that is wrong, deleted, expired or too new.
    pub(super) fn invalid_key() -> Self {
        Self::error(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            Some("invalid_api_key"),
            "Incorrect API key provided.",
        )
    }

    pub(super) fn rate_limited() -> Self {
        let mut reply = Self::error(
            StatusCode::TOO_MANY_REQUESTS,
            "requests",
            Some("rate_limit_exceeded"),
            "Rate limit reached for requests.",
        );
        reply.retry_after = Some("1");
        reply
    }

    pub(super) fn quota_exhausted() -> Self {
        Self::error(
            StatusCode::TOO_MANY_REQUESTS,
            "insufficient_quota",
            Some("organization_spend_limit_exceeded"),
            "The organization has reached its spend limit.",
        )
    }

    pub(super) fn organization_refused() -> Self {
        Self::error(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            Some("billing_not_active"),
            "The organization is not active.",
        )
    }

    pub(super) fn server_error() -> Self {
        Self::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            None,
            "The server had an error while processing your request.",
        )
    }

    /// Returns the response to send.
    pub(super) fn into_response(self) -> Response {
        let mut response = build_response(self.status, "application/json", self.body.to_string());
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert("retry-after", HeaderValue::from_static(seconds));
        }
        response
    }

    /// Returns the response with truncated JSON.
    pub(super) fn into_truncated(self) -> Response {
        let mut text = self.body.to_string().into_bytes();
        text.truncate(text.len() / 2);
        build_response(self.status, "application/json", text)
    }
}

/// Returns 403 with HTML, which is no response of the API.
pub(super) fn proxy_block_page() -> Response {
    let mut response = build_response(StatusCode::FORBIDDEN, "text/html", PROXY_BLOCK_PAGE);
    response.headers_mut().remove("x-request-id");
    response
}

fn build_response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(date) = date_header() {
        headers.insert(DATE, date);
    }
    if let Ok(id) = HeaderValue::from_str(&format!("req_{}", random_id(32))) {
        headers.insert("x-request-id", id);
    }
    response
}

/// Returns the `Date` header. The server would add it from a cache that does
/// not follow a clock that is set back.
fn date_header() -> Option<HeaderValue> {
    let now = Timestamp::from_millisecond(now_millis()).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    HeaderValue::from_str(&text.ok()?).ok()
}
