//! Whether the secret of a request may do what it asks.

use axum::http::StatusCode;

use crate::sandbox::operation::ApiOperation;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::sandbox_state::SandboxState;

/// The permission that the Admin API needs, of which admin keys alone have all.
pub(super) const ADMIN_SCOPE: &str = "api.management.write";

/// The permission that `GET /models` needs.
pub(super) const MODELS_SCOPE: &str = "api.model.read";

/// The permissions that include [`MODELS_SCOPE`].
const MODELS_SCOPES: [&str; 3] = [MODELS_SCOPE, "api.all", "api.all.read"];

/// Authenticates a secret, marks its key as used, and checks that it has the permission.
/// The error is the response.
pub(super) fn authorize(
    state: &mut SandboxState,
    operation: ApiOperation,
    secret: Option<&str>,
) -> Result<(), ApiReply> {
    let key = secret.and_then(|secret| state.authenticate(secret));
    let key = key.ok_or_else(ApiReply::invalid_key)?.clone();
    match operation {
        ApiOperation::Verify => authorize_models(state, &key),
        ApiOperation::Create
        | ApiOperation::List
        | ApiOperation::Retrieve
        | ApiOperation::Delete
        | ApiOperation::Update
        | ApiOperation::Project => authorize_admin(&key),
    }
}

fn authorize_admin(key: &SandboxKey) -> Result<(), ApiReply> {
    match &key.project {
        None => Ok(()),
        Some(_) => Err(ApiReply::lacks_scope(StatusCode::UNAUTHORIZED, ADMIN_SCOPE)),
    }
}

fn authorize_models(state: &SandboxState, key: &SandboxKey) -> Result<(), ApiReply> {
    let project = key.project.as_deref().and_then(|id| state.project(id));
    match (project, &key.scopes) {
        (Some(project), _) if project.is_archived() => Err(ApiReply::project_inaccessible()),
        (Some(_), None) => Ok(()),
        (Some(_), Some(scopes))
            if scopes
                .iter()
                .any(|scope| MODELS_SCOPES.contains(&scope.as_str())) =>
        {
            Ok(())
        }
        (Some(_) | None, _) => Err(ApiReply::lacks_scope(refusal_status(&key.id), MODELS_SCOPE)),
    }
}

/// Returns the status for a missing permission. The real API answers with either, so the
/// sandbox does: 401 for the keys whose ids end with an odd character, 403 for the others.
fn refusal_status(id: &str) -> StatusCode {
    match id.bytes().next_back() {
        Some(last) if last % 2 == 1 => StatusCode::UNAUTHORIZED,
        Some(_) | None => StatusCode::FORBIDDEN,
    }
}
