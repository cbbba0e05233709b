//! A key: of the organization, or of a project.

use std::ops::Not;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::behaviour::PropagationDelays;
use crate::sandbox::state::clock::to_millis;
use crate::sandbox::state::collection::{Deletable, Record};

/// One key, alive or deleted. Times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SandboxKey {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) last_used_at: Option<i64>,
    pub(crate) deleted_at: Option<i64>,
    /// Its project; an admin key has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// The service account that owns it; a user owns any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
    /// Whether the user that owns it has left the project.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(crate) owner_left: bool,
    /// The permissions that it is limited to; `None` for all of its owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<String>>,
}

impl SandboxKey {
    /// Whether its lifetime is over.
    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Whether a request with its secret is authenticated.
    pub(crate) fn is_accepted(&self, now: i64, delays: PropagationDelays) -> bool {
        // A change without a delay is in effect even if the clock was set back.
        let is_in_effect = |changed_at: i64, delay: Duration| {
            delay.is_zero() || now >= changed_at.saturating_add(to_millis(delay))
        };
        is_in_effect(self.created_at, delays.new_key)
            && !self
                .deleted_at
                .is_some_and(|at| is_in_effect(at, delays.deleted_key))
            && !self.is_expired(now)
    }
}

impl Record for SandboxKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    fn is_live(&self, now: i64) -> bool {
        self.deleted_at.is_none() && !self.is_expired(now)
    }
}

impl Deletable for SandboxKey {
    fn delete(&mut self, now: i64) {
        self.deleted_at = Some(now);
    }
}
