//! A project of the organization.

use serde::{Deserialize, Serialize};

use crate::sandbox::policy::PolicyRule;
use crate::sandbox::state::collection::Record;

/// One project. Times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::sandbox) struct SandboxProject {
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) created_at: i64,
    pub(in crate::sandbox) archived_at: Option<i64>,
    /// The rules for its keys. The options of each start set them, as they do faults.
    #[serde(skip)]
    pub(in crate::sandbox) policy: Vec<PolicyRule>,
}

impl SandboxProject {
    pub(in crate::sandbox) fn is_archived(&self) -> bool {
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

    fn end(&mut self, now: i64) {
        self.archived_at = Some(now);
    }
}
