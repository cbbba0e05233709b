//! Checks whether sinks still hold what they accepted.

use crate::core::change::{Change, SinkDrift};
use crate::core::state::{Delivery, DeliveryState, Rotation};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::DriftCheck;

impl Worker {
    /// Asks the sinks of the current credential whether they still have what
    /// they accepted. What is gone is made good by a new rotation.
    pub(crate) async fn check_drift(&mut self) -> Result<(), LedgerError> {
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current()) else {
            return Ok(());
        };
        let mut changes = Vec::new();
        for (delivery, look) in drift_checks(&managed, current) {
            if let Some(drift) = look.await {
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

/// Begins to look, one after another, at what was accepted of a credential.
pub(crate) fn drift_checks<'r>(
    managed: &'r ManagedKey,
    rotation: &'r Rotation,
) -> impl Iterator<Item = (&'r Delivery, DriftCheck)> {
    let deliveries = rotation.deliveries.iter();
    let accepted = deliveries.filter(|delivery| delivery.state == DeliveryState::Accepted);
    accepted.filter_map(|delivery| {
        let sink = managed.sink(&delivery.sink)?;
        let credential = rotation.credential.as_ref()?;
        Some((delivery, sink.check_drift(credential)))
    })
}
