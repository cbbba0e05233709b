//! The list of models, which verifies the secret of a project's key.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use crate::core::ids::ProjectId;
use crate::core::scope::Scope;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::reply::ApiReply;
use crate::sandbox::server::{SandboxApp, bearer_token};

pub(super) async fn list(Shared(app): Shared<Arc<SandboxApp>>, headers: HeaderMap) -> Response {
    let scope = presented_scope(&app, &headers);
    let request = ApiRequest::new(ApiOperation::Verify, scope);
    app.respond(request, &headers, |_state, _mode| {
        Ok(ApiReply::ok(json!({
            "object": "list",
            "data": [{
                "id": "gpt-sandbox",
                "object": "model",
                "created": 1_700_000_000,
                "owned_by": "rekeyd",
            }],
        })))
    })
    .await
}

/// Returns the project of the secret that a request presents.
fn presented_scope(app: &SandboxApp, headers: &HeaderMap) -> Option<Scope> {
    let secret = bearer_token(headers)?;
    let state = app.lock_state();
    let project = state.project_of_secret(&secret)?;
    Some(Scope::Project(ProjectId::new(project)))
}
