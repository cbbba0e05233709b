//! The projects of the organization.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::sandbox::objects;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::project_access;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::routes::bodies;
use crate::sandbox::routes::queries::{Query, page_reply};
use crate::sandbox::server::{SandboxApp, WorkMode};
use crate::sandbox::state::sandbox_state::SandboxState;

pub(super) async fn create(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    app.respond(about_all(), &headers, move |state, _mode| {
        create_project(state, &body)
    })
    .await
}

fn create_project(state: &mut SandboxState, body: &[u8]) -> Result<ApiReply, ApiReply> {
    let name = bodies::required_name(&bodies::parse_object(body)?)?;
    Ok(ApiReply::ok(objects::project(&state.create_project(name))))
}

pub(super) async fn list(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    app.respond(about_all(), &headers, move |state, mode| {
        list_projects(state, &Query::parse(query), mode)
    })
    .await
}

fn list_projects(
    state: &SandboxState,
    query: &Query,
    mode: WorkMode,
) -> Result<ApiReply, ApiReply> {
    let page = query.page(mode)?;
    let include_archived = match query.get("include_archived") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(bodies::invalid("include_archived")),
    };
    let page = state.list_projects(&page, include_archived);
    page_reply(page, objects::project)
}

pub(super) async fn retrieve(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    app.respond(
        ApiRequest::about_project(ApiOperation::Project, &id),
        &headers,
        move |state, _mode| {
            let project = project_access::existing(state, &id)?;
            Ok(ApiReply::ok(objects::project(project)))
        },
    )
    .await
}

pub(super) async fn archive(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    app.respond(
        ApiRequest::about_project(ApiOperation::Project, &id),
        &headers,
        move |state, _mode| {
            state.archive_project(&id);
            let project = project_access::existing(state, &id)?;
            Ok(ApiReply::ok(objects::project(project)))
        },
    )
    .await
}

fn about_all() -> ApiRequest {
    ApiRequest::new(ApiOperation::Project, None)
}
