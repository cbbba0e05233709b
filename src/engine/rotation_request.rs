//! Why a rotation starts: an operator's request, or the schedule.

use jiff::Timestamp;

use crate::core::change::{DowntimeReason, OperatorNote};
use crate::core::state::Trigger;
use crate::engine::managed_key::ManagedKey;

/// An operator's request that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRequest {
    /// The operator of the request, and the reason.
    pub operator: Option<OperatorNote>,
    /// Whether every older credential is revoked as soon as the new one is current;
    /// an open rotation is abandoned first.
    pub revoke_previous: bool,
    /// Which keys that this ledger did not write the rotation may replace.
    pub replacement: ReplaceApproval,
}

/// Which keys that this ledger did not write a rotation may replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaceApproval {
    /// None.
    Refused,
    /// Those in the targets that the key's sinks have when the engine takes the request.
    Approved,
    /// Those in these targets.
    Targets(Vec<String>),
}

impl ReplaceApproval {
    /// Returns the targets, if it is allowed: `managed` has the sinks.
    pub(crate) fn targets(&self, managed: Option<&ManagedKey>) -> Vec<String> {
        match self {
            Self::Refused => Vec::new(),
            Self::Approved => {
                let sinks = managed.into_iter().flat_map(|managed| &managed.sinks);
                sinks.map(|(sink, _)| sink.id().target.clone()).collect()
            }
            Self::Targets(targets) => targets.clone(),
        }
    }

    /// Names the targets of the key as `managed` has them.
    pub(crate) fn named_by(self, managed: Option<&ManagedKey>) -> Self {
        match self {
            Self::Refused => Self::Refused,
            allowed @ (Self::Approved | Self::Targets(_)) => {
                Self::Targets(allowed.targets(managed))
            }
        }
    }
}

impl RotationRequest {
    /// Merges a later request into this one. A request to revoke older credentials
    /// stays, even if the later one asks for less: the key may have leaked. So does an
    /// approval to replace keys.
    pub(crate) fn merge(self, later: Self) -> Self {
        let replacement = match (&self.replacement, &later.replacement) {
            (earlier, ReplaceApproval::Refused) => earlier.clone(),
            (_, later) => later.clone(),
        };
        let merged = match (self.revoke_previous, later.revoke_previous) {
            (true, false) => self,
            (_, _) => later,
        };
        Self {
            replacement,
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
