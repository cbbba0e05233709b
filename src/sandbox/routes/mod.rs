//! The paths of the API.

mod admin_keys;
mod bodies;
mod models;
mod project_keys;
mod projects;
mod queries;
mod service_accounts;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::{get, post};

use crate::sandbox::reply::ApiReply;
use crate::sandbox::server::SandboxApp;

/// The longest body that is accepted, in bytes; a create has a hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(super) fn router(app: Arc<SandboxApp>) -> Router {
    let admin_keys = "/v1/organization/admin_api_keys";
    let projects = "/v1/organization/projects";
    let project = format!("{projects}/{{project}}");
    let accounts = format!("{project}/service_accounts");
    let keys = format!("{project}/api_keys");
    Router::new()
        .route(admin_keys, post(admin_keys::create).get(admin_keys::list))
        .route(
            &format!("{admin_keys}/{{id}}"),
            get(admin_keys::retrieve).delete(admin_keys::delete),
        )
        .route(projects, post(projects::create).get(projects::list))
        .route(&project, get(projects::retrieve))
        .route(&format!("{project}/archive"), post(projects::archive))
        .route(
            &accounts,
            post(service_accounts::create).get(service_accounts::list),
        )
        .route(
            &format!("{accounts}/{{id}}"),
            get(service_accounts::retrieve)
                .post(service_accounts::update)
                .delete(service_accounts::delete),
        )
        .route(
            &format!("{accounts}/{{id}}/api_keys"),
            post(project_keys::create),
        )
        .route(&keys, get(project_keys::list))
        .route(
            &format!("{keys}/{{id}}"),
            get(project_keys::retrieve)
                .post(project_keys::update)
                .delete(project_keys::delete),
        )
        .route("/v1/models", get(models::list))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    ApiReply::unknown_url(&method, uri.path()).into_response()
}
