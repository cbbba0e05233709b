//! The admin keys of the organization.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::sandbox::objects;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
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
    let request = ApiRequest::about_admin_keys(ApiOperation::Create);
    app.respond(request, &headers, move |state, _mode| {
        create_key(state, &body)
    })
    .await
}

fn create_key(state: &mut SandboxState, body: &[u8]) -> Result<ApiReply, ApiReply> {
    let body = bodies::parse_object(body)?;
    let name = bodies::required_name(&body)?;
    let lifetime = bodies::nullable_lifetime(&body)?;
    let key = state.create_admin_key(name, lifetime);
    Ok(ApiReply::ok(objects::admin_key(&key, true)))
}

pub(super) async fn list(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let request = ApiRequest::about_admin_keys(ApiOperation::List);
    app.respond(request, &headers, move |state, mode| {
        list_keys(state, &Query::parse(query), mode)
    })
    .await
}

fn list_keys(state: &SandboxState, query: &Query, mode: WorkMode) -> Result<ApiReply, ApiReply> {
    let mut page = query.page(mode)?;
    page.descending = match query.get("order") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => {
            return Err(ApiReply::bad_request(
                "Invalid value: 'order' (asc or desc).",
            ));
        }
    };
    let page = state.list_admin_keys(&page);
    page_reply(page, |key| objects::admin_key(key, false))
}

pub(super) async fn retrieve(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let request = ApiRequest::about_admin_keys(ApiOperation::Retrieve);
    app.respond(request, &headers, move |state, _mode| {
        let key = state.admin_key(&id).ok_or_else(|| key_not_found(&id))?;
        Ok(ApiReply::ok(objects::admin_key(key, false)))
    })
    .await
}

pub(super) async fn delete(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let request = ApiRequest::about_admin_keys(ApiOperation::Delete);
    app.respond(request, &headers, move |state, _mode| {
        if !state.delete_admin_key(&id) {
            return Err(key_not_found(&id));
        }
        let object = "organization.admin_api_key.deleted";
        Ok(ApiReply::ok(objects::deleted(object, &id)))
    })
    .await
}

fn key_not_found(id: &str) -> ApiReply {
    ApiReply::not_found(&format!("No admin API key found with id '{id}'."))
}
