//! A service account of a project.

use serde::{Deserialize, Serialize};

use crate::sandbox::state::collection::{Deletable, Record};

/// One service account, alive or deleted. Times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SandboxAccount {
    pub(crate) id: String,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) role: AccountRole,
    pub(crate) created_at: i64,
    pub(crate) deleted_at: Option<i64>,
}

/// The role of an account in its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccountRole {
    Owner,
    Member,
    /// That of an account that was created alone: it has no access to the project.
    None,
}

impl Record for SandboxAccount {
    fn id(&self) -> &str {
        &self.id
    }

    fn project(&self) -> Option<&str> {
        Some(&self.project)
    }

    fn is_live(&self, _now: i64) -> bool {
        self.deleted_at.is_none()
    }
}

impl Deletable for SandboxAccount {
    fn delete(&mut self, now: i64) {
        self.deleted_at = Some(now);
    }
}
