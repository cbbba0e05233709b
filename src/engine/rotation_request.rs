//! Why a rotation is begun: an operator's request, or the schedule.

use jiff::Timestamp;

use crate::core::change::{DowntimeReason, OperatorNote};
use crate::core::state::Trigger;

/// A person's wish that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRequest {
    /// Who it is, and why.
    pub operator: Option<OperatorNote>,
    /// Whether every older credential is to go as soon as the new one is
    /// current; what is open is given up first.
    pub revoke_previous: bool,
}

impl RotationRequest {
    /// Both this and one that came later: nobody's leaked key is spared because
    /// somebody else wished for less.
    pub(super) fn merge(self, later: Self) -> Self {
        match (self.revoke_previous, later.revoke_previous) {
            (true, false) => self,
            (_, _) => later,
        }
    }
}

/// Why, and for what, a rotation is begun.
pub(crate) struct RotationStart {
    pub(crate) trigger: Trigger,
    pub(crate) scheduled_for: Option<Timestamp>,
    /// The firing that it makes up for, and why nobody was there.
    pub(crate) missed_run: Option<(Timestamp, DowntimeReason)>,
    pub(crate) request: Option<RotationRequest>,
}

impl RotationStart {
    /// By a person's wish.
    pub(crate) const fn from_request(wish: RotationRequest) -> Self {
        Self {
            trigger: Trigger::Manual,
            scheduled_for: None,
            missed_run: None,
            request: Some(wish),
        }
    }
}
