//! What the worker of a key is doing, for callers that wait for it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::core::ids::SinkId;

/// The work of a key, as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Activity {
    /// The ledger is read or written.
    Ledger,
    /// The targets of the sinks are read.
    TargetCheck,
    /// An operator's command is executed.
    Command,
    /// A request at the provider creates, finds, verifies or deletes a credential.
    Provider,
    /// A secret is delivered.
    Delivery(SinkId),
    /// The program of a file sink runs.
    OnChange(SinkId),
    /// The endpoint of a sink is checked.
    Preflight(SinkId),
}

impl fmt::Display for Activity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger => formatter.write_str("the ledger to respond"),
            Self::TargetCheck => formatter.write_str("the check of its sinks"),
            Self::Command => formatter.write_str("another command on this key"),
            Self::Provider => formatter.write_str("the provider to respond"),
            Self::Delivery(sink) => write!(formatter, "{sink} to accept the secret"),
            Self::OnChange(sink) => write!(formatter, "the on-change program of {sink}"),
            Self::Preflight(sink) => write!(formatter, "the preflight check of {sink}"),
        }
    }
}

/// The latest activity of a key's worker, which the engine reads meanwhile.
#[derive(Debug, Default)]
pub(crate) struct ActivityCell(Mutex<Option<Activity>>);

impl ActivityCell {
    /// Sets the activity.
    pub(crate) fn set(&self, activity: Activity) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(activity);
    }

    /// Returns the activity.
    pub(crate) fn get(&self) -> Option<Activity> {
        let activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.clone()
    }
}
