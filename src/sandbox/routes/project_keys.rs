//! The keys of a project.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;

use crate::sandbox::behaviour::Support;
use crate::sandbox::objects;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::project_access;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::routes::bodies;
use crate::sandbox::routes::queries::{Query, page_reply};
use crate::sandbox::routes::service_accounts::account_not_found;
use crate::sandbox::server::{SandboxApp, WorkMode};
use crate::sandbox::state::project_keys::{KeyUpdate, KeyUpdateError};
use crate::sandbox::state::sandbox_state::{KeySpec, SandboxState};

/// The name of a key that is created without one.
const DEFAULT_KEY_NAME: &str = "Secret Key";

pub(super) async fn create(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, account)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Create, &project);
    app.respond(request, &headers, move |state, _mode| {
        create_key(state, &project, &account, &body)
    })
    .await
}

fn create_key(
    state: &mut SandboxState,
    project: &str,
    account: &str,
    body: &[u8],
) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    if state.account(project, account).is_none() {
        return Err(account_not_found(account));
    }
    // Every member is optional, and so is the body.
    let body = match body {
        [] => serde_json::Map::new(),
        body => bodies::parse_object(body)?,
    };
    let name = bodies::optional_name(&body)?;
    let spec = KeySpec {
        name: name.unwrap_or_else(|| DEFAULT_KEY_NAME.to_owned()),
        lifetime: bodies::nullable_lifetime(&body)?,
        scopes: bodies::scopes(&body)?.flatten(),
        owner_left: false,
    };
    project_access::check_new_key(state, project, spec.lifetime)?;
    let key = state.create_key(Some(project), Some(account), spec);
    Ok(ApiReply::ok(objects::created_account_key(&key)))
}

pub(super) async fn list(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path(project): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::List, &project);
    app.respond(request, &headers, move |state, mode| {
        list_keys(state, &project, &Query::parse(query), mode)
    })
    .await
}

fn list_keys(
    state: &SandboxState,
    project: &str,
    query: &Query,
    mode: WorkMode,
) -> Result<ApiReply, ApiReply> {
    let is_archived = project_access::existing(state, project)?.is_archived();
    let owner_is_active = match query.get("owner_project_access") {
        None | Some("active") => Some(true),
        Some("inactive") => Some(false),
        Some("any") => None,
        Some(_) => return Err(bodies::invalid("owner_project_access")),
    };
    let mut page = state.list_project_keys(project, &query.page(mode)?, owner_is_active);
    if let Ok(page) = &mut page
        && is_archived
    {
        // An archived project shows no keys, and does not say why.
        page.items.clear();
        page.has_more = false;
    }
    page_reply(page, |key| objects::project_key(state, key))
}

pub(super) async fn retrieve(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Retrieve, &project);
    app.respond(request, &headers, move |state, _mode| {
        retrieve_key(state, &project, &id)
    })
    .await
}

fn retrieve_key(state: &SandboxState, project: &str, id: &str) -> Result<ApiReply, ApiReply> {
    let is_shown = !project_access::existing(state, project)?.is_archived();
    let key = state.project_key(project, id).filter(|_| is_shown);
    let key = key.ok_or_else(|| key_not_found(id))?;
    Ok(ApiReply::ok(objects::project_key(state, key)))
}

pub(super) async fn update(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Update, &project);
    app.respond(request, &headers, move |state, _mode| {
        match state.key_update {
            Support::Works => update_key(state, &project, &id, &body),
            // The API does not know the path, as before it had the operation.
            Support::Refused => Err(ApiReply::unknown_url(&method, uri.path())),
        }
    })
    .await
}

fn update_key(
    state: &mut SandboxState,
    project: &str,
    id: &str,
    body: &[u8],
) -> Result<ApiReply, ApiReply> {
    project_access::active(state, project)?;
    let body = bodies::parse_object(body)?;
    let update = KeyUpdate {
        lifetime: bodies::lifetime(&body)?,
        scopes: bodies::scopes(&body)?,
    };
    if update.lifetime.is_none() && update.scopes.is_none() {
        return Err(ApiReply::bad_request(
            "Provide at least one of 'scopes' or 'expires_in_seconds'.",
        ));
    }
    if let Some(lifetime) = update.lifetime {
        project_access::check_new_end(state, project, lifetime)?;
    }
    match state.update_project_key(project, id, update) {
        Ok(()) => retrieve_key(state, project, id),
        Err(KeyUpdateError::NotFound) => Err(key_not_found(id)),
        Err(KeyUpdateError::Expired) => {
            Err(ApiReply::bad_request("Expired keys cannot be updated."))
        }
    }
}

pub(super) async fn delete(
    Shared(app): Shared<Arc<SandboxApp>>,
    headers: HeaderMap,
    Path((project, id)): Path<(String, String)>,
) -> Response {
    let request = ApiRequest::about_project(ApiOperation::Delete, &project);
    app.respond(request, &headers, move |state, _mode| {
        delete_key(state, &project, &id)
    })
    .await
}

fn delete_key(state: &mut SandboxState, project: &str, id: &str) -> Result<ApiReply, ApiReply> {
    let is_shown = !project_access::existing(state, project)?.is_archived();
    let key = state.project_key(project, id).filter(|_| is_shown);
    let key = key.ok_or_else(|| key_not_found(id))?;
    if key.account.is_some() && state.account_key_deletion == Support::Refused {
        return Err(ApiReply::bad_request(
            "A key of a service account cannot be deleted; delete its service account.",
        ));
    }
    state.delete_project_key(project, id);
    let object = "organization.project.api_key.deleted";
    Ok(ApiReply::ok(objects::deleted(object, id)))
}

fn key_not_found(id: &str) -> ApiReply {
    ApiReply::not_found(&format!("No project API key found with id '{id}'."))
}
