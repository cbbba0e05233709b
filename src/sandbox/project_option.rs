//! A project that a sandbox has from the start.

use std::str::FromStr;

use crate::core::ids::ProjectId;

/// The project that a sandbox has by default.
pub const DEFAULT_PROJECT: &str = "proj_sandbox";

/// The part of a project's id that its account's does not have.
const PROJECT_PREFIX: &str = "proj_";

/// A project that a sandbox has from the start, with a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectOption {
    /// Its id.
    pub id: ProjectId,
    /// Whether it is archived; `None` for what the state file says, and not in a new one.
    pub is_archived: Option<bool>,
}

/// The error of a text that describes no project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected ID, ID,archived or ID,active, where ID is letters, digits, _ and -, such as proj_abc"
)]
pub struct ProjectOptionError;

impl ProjectOption {
    /// Returns a project whose state is that of the state file.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: ProjectId::new(id),
            is_archived: None,
        }
    }

    /// Returns the id of its service account: `svc_acct_abc` in `proj_abc`.
    #[must_use]
    pub fn account_id(&self) -> String {
        let id = self.id.as_str();
        format!("svc_acct_{}", id.strip_prefix(PROJECT_PREFIX).unwrap_or(id))
    }
}

impl FromStr for ProjectOption {
    type Err = ProjectOptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, is_archived) = match text.split_once(',') {
            None => (text, None),
            Some((id, "archived")) => (id, Some(true)),
            Some((id, "active")) => (id, Some(false)),
            Some(_) => return Err(ProjectOptionError),
        };
        if !is_valid_id(id) {
            return Err(ProjectOptionError);
        }
        let option = Self::new(id);
        Ok(Self {
            is_archived,
            ..option
        })
    }
}

/// Whether a project may have this id in a sandbox.
pub(super) fn is_valid_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let parse = |text: &str| text.parse::<ProjectOption>();
        let option = parse("proj_a-1,archived").unwrap();
        assert_eq!(option.is_archived, Some(true));
        assert_eq!(option.account_id(), "svc_acct_a-1");
        assert_eq!(parse("other").unwrap().account_id(), "svc_acct_other");
        assert_eq!(parse("proj_a,active").unwrap().is_archived, Some(false));
        for bad in ["", ",archived", "proj_a,gone", "proj/a", "proj_a,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
