//! Whether a project can be read or changed. Each error is the response to the request.

use std::time::Duration;

use axum::http::StatusCode;

use crate::sandbox::policy::PolicyRule;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::state::project::SandboxProject;
use crate::sandbox::state::sandbox_state::SandboxState;

/// Returns a project, archived or not.
pub(super) fn existing<'a>(
    state: &'a SandboxState,
    id: &str,
) -> Result<&'a SandboxProject, ApiReply> {
    let missing = || ApiReply::not_found(&format!("No project found with id '{id}'."));
    state.project(id).ok_or_else(missing)
}

/// Returns a project that is not archived.
pub(super) fn active<'a>(
    state: &'a SandboxState,
    id: &str,
) -> Result<&'a SandboxProject, ApiReply> {
    let project = existing(state, id)?;
    if project.is_archived() {
        return Err(ApiReply::project_archived());
    }
    Ok(project)
}

/// Checks the policy for a new key.
pub(super) fn check_new_key(
    state: &SandboxState,
    project: &str,
    lifetime: Option<Duration>,
) -> Result<(), ApiReply> {
    let rules = &existing(state, project)?.policy;
    let broken = rules.iter().find(|rule| !rule.permits(lifetime));
    broken.map_or(Ok(()), |rule| Err(refusal(*rule)))
}

/// Checks the policy for another end of a key.
pub(super) fn check_new_end(
    state: &SandboxState,
    project: &str,
    lifetime: Duration,
) -> Result<(), ApiReply> {
    let rules = &existing(state, project)?.policy;
    let mut rules = rules.iter().filter(|rule| **rule != PolicyRule::Disabled);
    let broken = rules.find(|rule| !rule.permits(Some(lifetime)));
    broken.map_or(Ok(()), |rule| Err(refusal(*rule)))
}

fn refusal(rule: PolicyRule) -> ApiReply {
    let message = rule.to_string();
    match rule {
        PolicyRule::RequiresLifetime | PolicyRule::MaxLifetime(_) => {
            ApiReply::bad_request(&message).about("expires_in_seconds")
        }
        PolicyRule::Disabled => ApiReply::error(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            None,
            &message,
        ),
    }
}
