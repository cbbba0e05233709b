//! The objects of the API, as it shows them.

use serde_json::{Value, json};

use crate::sandbox::key_format::redact;
use crate::sandbox::state::account::{AccountRole, SandboxAccount};
use crate::sandbox::state::clock::to_seconds;
use crate::sandbox::state::collection::{Page, Record};
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::project::SandboxProject;
use crate::sandbox::state::sandbox_state::SandboxState;

/// The id of the user that owns everything that no account owns.
const USER_ID: &str = "user_sandbox";

/// The name of that user.
const USER_NAME: &str = "Sandbox Owner";

/// Returns the object of an admin key, with the secret only in the response to its create.
pub(super) fn admin_key(key: &SandboxKey, with_secret: bool) -> Value {
    let mut object = json!({
        "object": "organization.admin_api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": redact(&key.value),
        "created_at": to_seconds(key.created_at),
        "expires_at": key.expires_at.map(to_seconds),
        "last_used_at": key.last_used_at.map(to_seconds),
        "owner": {
            "type": "user",
            "object": "organization.user",
            "id": USER_ID,
            "name": USER_NAME,
            "created_at": to_seconds(key.created_at),
            "role": "owner",
        },
    });
    if with_secret {
        object["value"] = json!(key.value);
    }
    object
}

pub(super) fn project(project: &SandboxProject) -> Value {
    let status = if project.is_archived() {
        "archived"
    } else {
        "active"
    };
    json!({
        "object": "organization.project",
        "id": project.id,
        "name": project.name,
        "created_at": to_seconds(project.created_at),
        "archived_at": project.archived_at.map(to_seconds),
        "status": status,
    })
}

pub(super) fn service_account(account: &SandboxAccount) -> Value {
    json!({
        "object": "organization.project.service_account",
        "id": account.id,
        "name": account.name,
        "role": role(account.role),
        "created_at": to_seconds(account.created_at),
    })
}

/// Returns the response to the create of a service account.
pub(super) fn created_service_account(account: &SandboxAccount, key: Option<&SandboxKey>) -> Value {
    let mut object = service_account(account);
    object["api_key"] = key.map_or(Value::Null, created_account_key);
    object
}

/// Returns the response to the create of an account's key, with the secret.
pub(super) fn created_account_key(key: &SandboxKey) -> Value {
    json!({
        "object": "organization.project.service_account.api_key",
        "id": key.id,
        "name": key.name,
        "value": key.value,
        "created_at": to_seconds(key.created_at),
        "expires_at": key.expires_at.map(to_seconds),
    })
}

/// Returns the object of a project's key, with its owner.
pub(super) fn project_key(state: &SandboxState, key: &SandboxKey) -> Value {
    let access = if state.has_active_owner(key) {
        "active"
    } else {
        "inactive"
    };
    json!({
        "object": "organization.project.api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": redact(&key.value),
        "created_at": to_seconds(key.created_at),
        "expires_at": key.expires_at.map(to_seconds),
        "last_used_at": key.last_used_at.map(to_seconds),
        "owner_project_access": access,
        "owner": key_owner(state, key),
    })
}

fn key_owner(state: &SandboxState, key: &SandboxKey) -> Value {
    match state.account_of(key) {
        Some(account) => json!({
            "type": "service_account",
            "service_account": {
                "id": account.id,
                "name": account.name,
                "role": role(account.role),
                "created_at": to_seconds(account.created_at),
            },
        }),
        None => json!({
            "type": "user",
            "user": {
                "id": USER_ID,
                "email": "owner@sandbox.invalid",
                "name": USER_NAME,
                "role": "owner",
                "created_at": to_seconds(key.created_at),
            },
        }),
    }
}

fn role(role: AccountRole) -> &'static str {
    match role {
        AccountRole::Owner => "owner",
        AccountRole::Member => "member",
        AccountRole::None => "none",
    }
}

/// Returns the response to a deletion.
pub(super) fn deleted(object: &str, id: &str) -> Value {
    json!({ "id": id, "object": object, "deleted": true })
}

/// Returns a page of a list, whose items `to_json` shows.
pub(super) fn list<T: Record>(page: &Page<T>, to_json: impl Fn(&T) -> Value) -> Value {
    let data: Vec<Value> = page.items.iter().map(to_json).collect();
    json!({
        "object": "list",
        "first_id": page.items.first().map(Record::id),
        "last_id": page.items.last().map(Record::id),
        "has_more": page.has_more,
        "data": data,
    })
}
