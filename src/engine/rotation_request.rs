//! Why a rotation starts: an operator's request, or the schedule.

use jiff::Timestamp;

use crate::core::change::{DowntimeReason, OperatorNote};
use crate::core::state::Trigger;

/// An operator's request that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRequest {
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
    /// Whether every older credential is revoked as soon as the new one is current;
    /// an open rotation is abandoned first.
    pub revoke_previous: bool,
    /// Whether the rotation may replace keys that this ledger did not write.
    pub may_replace: bool,
}

impl RotationRequest {
    /// Merges a later request into this one. A request to revoke older credentials
    /// stays, even if the later one asks for less: the key may have leaked. So does an
    /// approval to replace keys.
    pub(crate) fn merge(self, later: Self) -> Self {
        let may_replace = self.may_replace || later.may_replace;
        let merged = match (self.revoke_previous, later.revoke_previous) {
            (true, false) => self,
            (_, _) => later,
        };
        Self {
            may_replace,
            ..merged
        }
    }
}

/// A rotation to start, with its trigger and its scheduled run.
pub(crate) struct RotationStart {
    pub(crate) trigger: Trigger,
    pub(crate) scheduled_for: Option<Timestamp>,
    /// The missed run that it follows, and why that was missed.
    pub(crate) missed_run: Option<(Timestamp, DowntimeReason)>,
    pub(crate) request: Option<RotationRequest>,
}

impl RotationStart {
    /// Returns the start that an operator requested.
    pub(crate) const fn from_request(request: RotationRequest) -> Self {
        Self {
            trigger: Trigger::Manual,
            scheduled_for: None,
            missed_run: None,
            request: Some(request),
        }
    }
}
