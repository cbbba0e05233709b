//! A project of the organization.

use serde::{Deserialize, Serialize};

use crate::sandbox::policy::PolicyRule;
use crate::sandbox::state::collection::Record;

/// One project. Times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SandboxProject {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: i64,
    pub(crate) archived_at: Option<i64>,
    /// The rules for its keys. The options of each start set them, as they do faults.
    #[serde(skip)]
    pub(crate) policy: Vec<PolicyRule>,
}

impl SandboxProject {
    pub(crate) fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }
}

impl Record for SandboxProject {
    fn id(&self) -> &str {
        &self.id
    }

    fn project(&self) -> Option<&str> {
        None
    }

    /// A project is never deleted.
    fn is_live(&self, _now: i64) -> bool {
        true
    }
}
