//! The lines of the level `debug` that say why nothing happens with a key: why no rotation
//! starts, and why an earlier credential is not revoked.
//!
//! Each is logged when it changes, and again when an operator changes the level of the log.

use jiff::Timestamp;
use tracing::Level;

use crate::core::decide::explanation::{explain_revocations, explain_rotation};
use crate::core::ids::RotationId;
use crate::core::state::KeyState;
use crate::engine::worker::{AwaitedPlace, Worker};

/// What was logged last of a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LoggedDecisions {
    not_started: String,
    not_revoked: Vec<(RotationId, String)>,
}

impl LoggedDecisions {
    /// Logs the decisions about the key of a worker that returns, as far as they differ from
    /// the `earlier` ones. Returns what is logged then; none while `debug` is not logged.
    pub(super) fn update(
        earlier: Option<Box<Self>>,
        worker: &Worker,
        now: Timestamp,
    ) -> Option<Box<Self>> {
        if !tracing::enabled!(Level::DEBUG) {
            return None;
        }
        let decisions = worker.decisions(now);
        decisions.log_since(&earlier.unwrap_or_default(), &worker.state);
        Some(Box::new(decisions))
    }

    fn log_since(&self, earlier: &Self, state: &KeyState) {
        let name = &state.key;
        if self.not_started != earlier.not_started {
            tracing::debug!(key = %name, "{name}: no rotation starts: {}", self.not_started);
        }
        let not_revoked = self.not_revoked.iter();
        for (rotation, reason) in not_revoked.filter(|one| !earlier.not_revoked.contains(one)) {
            let row = state.rotation(rotation);
            let credential = row.and_then(|row| row.credential.as_ref());
            let credential = credential.map_or("a credential", |one| one.id.as_str());
            tracing::debug!(
                key = %name, %rotation, credential,
                "{name}: {credential} is not revoked now: {reason}"
            );
        }
    }
}

impl Worker {
    fn decisions(&self, now: Timestamp) -> LoggedDecisions {
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let not_revoked = explain_revocations(&self.state, policy, now).into_iter();
        LoggedDecisions {
            not_started: self.explain_not_started(now),
            not_revoked: not_revoked
                .map(|(rotation, reason)| (rotation, reason.to_string()))
                .collect(),
        }
    }

    fn explain_not_started(&self, now: Timestamp) -> String {
        match self.awaits {
            Some(AwaitedPlace::Provider) => {
                return "it waits for one of the requests to the provider to end".to_owned();
            }
            Some(AwaitedPlace::Destination) => {
                return "it waits for one of the deliveries to its sink's host to end".to_owned();
            }
            None => {}
        }
        let scope = &self.context.scope;
        let active = self.services.conditions.active();
        let mut blocking = active.iter().filter(|active| {
            let of_scope = active.scope.as_ref();
            of_scope.is_none_or(|of_scope| of_scope == scope)
        });
        if let Some(active) = blocking.next() {
            return format!(
                "condition {}: {}",
                active.condition.as_str(),
                active.problem
            );
        }
        if self.context.reconciled_at.is_none() {
            return "the ledger was not compared with the provider yet".to_owned();
        }
        if !self.context.is_scheduling {
            return "this process starts none by schedule".to_owned();
        }
        let is_configured = self.managed.is_some();
        explain_rotation(&self.state, is_configured, self.rotates_at, now).to_string()
    }
}
