//! Checks whether sinks still hold what they accepted.

use std::sync::Arc;

use crate::core::change::{Change, SinkDrift, WithdrawnRepair};
use crate::core::decide::sightings::may_withdraw_repair;
use crate::core::state::{CredentialMetadata, Delivery, DeliveryState, Rotation};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::Sink;

impl Worker {
    /// Checks whether the sinks of the current credential still hold what they
    /// accepted. A new rotation repairs drift, except that a target with a retired
    /// credential that is alive is left as it is for a while.
    pub(crate) async fn check_drift(&mut self) -> Result<(), LedgerError> {
        self.drift_checked_at = Some(self.now());
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current().cloned())
        else {
            return Ok(());
        };
        let mut changes = Vec::new();
        let (policy, now) = (Some(managed.policy.as_ref()), self.now());
        let state = self.state.clone();
        let may_withdraw = |delivery: &Delivery| may_withdraw_repair(&state, delivery, policy, now);
        let is_checked = |delivery: &Delivery| {
            delivery.state == DeliveryState::Accepted || may_withdraw(delivery)
        };
        for (delivery, sink, credential) in deliveries_at_sinks(&managed, &current, is_checked) {
            let expected = self.services.provider.expected_secret(credential);
            let Some(drift) = self.attempt_at_sink(sink.check_drift(&expected)).await else {
                self.needs_drift_check = true;
                return Ok(());
            };
            if drift.is_none() && self.sighted_at(&delivery.sink).is_empty() {
                continue;
            }
            let Some(content) = self.attempt_at_sink(sink.inspect()).await else {
                self.needs_drift_check = true;
                return Ok(());
            };
            let sightings = self
                .compare_sightings(delivery, drift.as_ref(), &content)
                .await;
            changes.extend(sightings.changes);
            if delivery.state != DeliveryState::Accepted {
                let withdrawn = WithdrawnRepair {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                };
                let is_withdrawn = sightings.is_left_as_it_is;
                changes.extend(is_withdrawn.then(|| Change::from(withdrawn)));
                continue;
            }
            if sightings.is_left_as_it_is {
                continue;
            }
            let unseen = || "it may not hold the newest key".to_owned();
            changes.push(Change::from(SinkDrift {
                rotation: current.id.clone(),
                sink: delivery.sink.clone(),
                problem: drift.map_or_else(unseen, |drift| drift.message),
            }));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.record(changes).await
    }
}

/// Returns the accepted deliveries of a rotation, with their sinks and its credential.
pub(crate) fn accepted_deliveries<'a>(
    managed: &'a ManagedKey,
    rotation: &'a Rotation,
) -> impl Iterator<Item = (&'a Delivery, &'a Arc<dyn Sink>, &'a CredentialMetadata)> {
    let is_accepted = |delivery: &Delivery| delivery.state == DeliveryState::Accepted;
    deliveries_at_sinks(managed, rotation, is_accepted)
}

fn deliveries_at_sinks<'a>(
    managed: &'a ManagedKey,
    rotation: &'a Rotation,
    is_checked: impl Fn(&Delivery) -> bool,
) -> impl Iterator<Item = (&'a Delivery, &'a Arc<dyn Sink>, &'a CredentialMetadata)> {
    let deliveries = rotation.deliveries.iter();
    let checked = deliveries.filter(move |delivery| is_checked(delivery));
    checked.filter_map(|delivery| {
        let sink = managed.sink(&delivery.sink)?;
        Some((delivery, sink, rotation.credential.as_ref()?))
    })
}
