//! The service accounts of a project.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;

use crate::sandbox::objects;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::project_access;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::routes::bodies;
use crate::sandbox::routes::queries::{Query, page_reply};
use crate::sandbox::server::{SandboxApp, WorkMode};
use crate::sandbox::state::account::AccountRole;
use crate::sandbox::state::sandbox_state::{KeySpec, SandboxState};

/// The name of the key that an account is created with.
const FIRST_KEY_NAME: &str = "Secret Key";

pub(super) async fn create(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(project): Path<String>,
    body: Bytes,
) -> Response {
    let request = ApiRequest {
        creates_account: true,
        ..ApiRequest::about_project(ApiOperation::Create, &project)
    };
    app.respond(request, &headers, move |state, mode| {
        create_account(state, &project, &body, mode)
    })
    .await
}

fn create_account(
    state: &mut SandboxState,
    project: &str,
    body: &[u8],
    mode: WorkMode,
) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    let body = bodies::parse_object(body)?;
    let name = bodies::required_name(&body)?;
    let lifetime = bodies::nullable_lifetime(&body)?;
    if bodies::flag(&body, "create_service_account_only")? {
        if lifetime.is_some() {
            return Err(bodies::invalid("expires_in_seconds"));
        }
        let account = state.create_account(project, name, AccountRole::None);
        return Ok(ApiReply::ok(objects::created_service_account(
            &account, None,
        )));
    }
    project_access::check_new_key(state, project, lifetime)?;
    let account = state.create_account(project, name, AccountRole::Member);
    let key = (mode != WorkMode::WithoutKey).then(|| {
        let spec = KeySpec {
            name: FIRST_KEY_NAME.to_owned(),
            lifetime,
            ..KeySpec::default()
        };
        state.create_key(Some(project), Some(&account.id), spec)
    });
    let created = objects::created_service_account(&account, key.as_ref());
    Ok(ApiReply::ok(created))
}

pub(super) async fn list(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(project): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::List, &project);
    app.respond(request, &headers, move |state, mode| {
        list_accounts(state, &project, &Query::parse(query), mode)
    })
    .await
}

fn list_accounts(
    state: &SandboxState,
    project: &str,
    query: &Query,
    mode: WorkMode,
) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    let page = state.list_accounts(project, &query.page(mode)?);
    page_reply(page, objects::service_account)
}

pub(super) async fn retrieve(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Retrieve, &project);
    app.respond(request, &headers, move |state, _mode| {
        retrieve_account(state, &project, &id)
    })
    .await
}

fn retrieve_account(state: &SandboxState, project: &str, id: &str) -> Result<ApiReply, ApiReply> {
    // An archived project shows no accounts.
    let is_shown = !project_access::existing(state, project)?.is_archived();
    let account = state.account(project, id).filter(|_| is_shown);
    let account = account.ok_or_else(|| account_not_found(id))?;
    Ok(ApiReply::ok(objects::service_account(account)))
}

pub(super) async fn update(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Update, &project);
    app.respond(request, &headers, move |state, _mode| {
        update_account(state, &project, &id, &body)
    })
    .await
}

fn update_account(
    state: &mut SandboxState,
    project: &str,
    id: &str,
    body: &[u8],
) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    let body = bodies::parse_object(body)?;
    let name = bodies::optional_name(&body)?;
    let role = match body.get("role").map(Value::as_str) {
        None => None,
        Some(Some("owner")) => Some(AccountRole::Owner),
        Some(Some("member")) => Some(AccountRole::Member),
        Some(Some(_) | None) => return Err(bodies::invalid("role")),
    };
    let account = state.update_account(project, id, name, role);
    let account = account.ok_or_else(|| account_not_found(id))?;
    Ok(ApiReply::ok(objects::service_account(account)))
}

pub(super) async fn delete(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Delete, &project);
    app.respond(request, &headers, move |state, _mode| {
        delete_account(state, &project, &id)
    })
    .await
}

fn delete_account(state: &mut SandboxState, project: &str, id: &str) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    if !state.delete_account(project, id) {
        return Err(account_not_found(id));
    }
    let object = "organization.project.service_account.deleted";
    Ok(ApiReply::ok(objects::deleted(object, id)))
}

pub(super) fn account_not_found(id: &str) -> ApiReply {
    ApiReply::not_found(&format!("No service account found with id '{id}'."))
}
