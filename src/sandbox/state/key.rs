//! A key: of the organization, or of a project.

use std::ops::Not;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::behaviour::PropagationDelays;
use crate::sandbox::state::clock::to_millis;
use crate::sandbox::state::collection::Record;

/// One key, alive or deleted. Times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::sandbox) struct SandboxKey {
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) value: String,
    pub(in crate::sandbox) created_at: i64,
    pub(in crate::sandbox) expires_at: Option<i64>,
    pub(in crate::sandbox) last_used_at: Option<i64>,
    pub(in crate::sandbox) deleted_at: Option<i64>,
    /// Its project; an admin key has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sandbox) project: Option<String>,
    /// The service account that owns it; a user owns any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sandbox) account: Option<String>,
    /// Whether the user that owns it has left the project.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(in crate::sandbox) owner_left: bool,
    /// The permissions that it is limited to; `None` for all of its owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sandbox) scopes: Option<Vec<String>>,
}

impl SandboxKey {
    /// Whether its lifetime is over.
    pub(in crate::sandbox) fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Whether a request with its secret is authenticated.
    pub(in crate::sandbox) fn is_accepted(&self, now: i64, delays: PropagationDelays) -> bool {
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

    fn end(&mut self, now: i64) {
        self.deleted_at = Some(now);
    }
}
