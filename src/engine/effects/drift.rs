//! Checks whether sinks still hold what they accepted.

use std::sync::Arc;

use crate::core::change::{Change, SinkDrift};
use crate::core::state::{CredentialMetadata, Delivery, DeliveryState, Rotation};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::Sink;

impl Worker {
    /// Checks whether the sinks of the current credential still hold what they
    /// accepted. What is lost is made good by a new rotation.
    pub(crate) async fn check_drift(&mut self) -> Result<(), LedgerError> {
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current().cloned())
        else {
            return Ok(());
        };
        let mut changes = Vec::new();
        for (delivery, sink, credential) in accepted_deliveries(&managed, &current) {
            let Some(checked) = self.attempt_at_sink(sink.check_drift(credential)).await else {
                self.needs_drift_check = true;
                return Ok(());
            };
            if let Some(drift) = checked {
                changes.push(Change::from(SinkDrift {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    problem: drift.message,
                }));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.record(changes).await
    }
}

/// What was accepted of a rotation's credential, with the sinks that did.
pub(crate) fn accepted_deliveries<'r>(
    managed: &'r ManagedKey,
    rotation: &'r Rotation,
) -> impl Iterator<Item = (&'r Delivery, &'r Arc<dyn Sink>, &'r CredentialMetadata)> {
    let deliveries = rotation.deliveries.iter();
    let accepted = deliveries.filter(|delivery| delivery.state == DeliveryState::Accepted);
    accepted.filter_map(|delivery| {
        let sink = managed.sink(&delivery.sink)?;
        Some((delivery, sink, rotation.credential.as_ref()?))
    })
}
