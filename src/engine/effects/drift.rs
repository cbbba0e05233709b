//! Checks whether sinks still hold what they accepted.

use std::sync::Arc;

use crate::core::change::{Change, SinkDrift, WithdrawnRepair};
use crate::core::decide::sightings::may_withdraw_repair;
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::state::{
    CredentialMetadata, Delivery, DeliveryState, KeyState, Rotation, Trigger,
};
use crate::engine::effects::adopt::look_at;
use crate::engine::effects::held_keys::{describe_keys, holds_credential};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Drift, Sink, TargetContent};

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
        if !self.keep_file_access(&managed, &current).await? {
            self.needs_drift_check = true;
            return Ok(());
        }
        let looked_at = self.look_at_unrecorded_files(&managed, &current).await;
        let Some(mut changes) = looked_at else {
            self.needs_drift_check = true;
            return Ok(());
        };
        let (policy, now) = (Some(managed.policy.as_ref()), self.now());
        let state = self.state.clone();
        let may_withdraw = |delivery: &Delivery| may_withdraw_repair(&state, delivery, policy, now);
        let is_checked =
            |delivery: &Delivery| is_accepted(delivery, &current) || may_withdraw(delivery);
        for (delivery, sink, credential) in deliveries_at_sinks(&managed, &current, is_checked) {
            let is_adopted = current.trigger == Trigger::Adopted;
            let expected = self.services.provider.expected_secret(credential);
            let Some(drift) = self.attempt_at_sink(sink.check_drift(&expected)).await else {
                self.needs_drift_check = true;
                return Ok(());
            };
            if drift.is_none() && self.sighted_at(&delivery.sink).is_empty() {
                continue;
            }
            let look = async {
                if is_adopted {
                    look_at(sink.as_ref()).await
                } else {
                    sink.inspect().await
                }
            };
            let Some(content) = self.attempt_at_sink(look).await else {
                self.needs_drift_check = true;
                return Ok(());
            };
            let drift = drift.and_then(|drift| {
                if is_adopted {
                    self.drift_from_adopted(drift, credential, &content)
                } else {
                    Some(drift)
                }
            });
            if drift.is_none() && self.sighted_at(&delivery.sink).is_empty() {
                continue;
            }
            let sightings = self
                .compare_sightings(delivery, drift.as_ref(), &content)
                .await;
            changes.extend(sightings.changes);
            if !is_accepted(delivery, &current) {
                let withdrawn = WithdrawnRepair {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                };
                let is_withdrawn = sightings.is_left_as_it_is;
                changes.extend(is_withdrawn.then(|| Change::from(withdrawn)));
                continue;
            }
            if sightings.is_left_as_it_is || has_newer_delivery(&state, &current, &delivery.sink) {
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

impl Worker {
    /// Returns how a target differs from what it held when `adopted` was adopted: a person
    /// wrote it, in a form of their own. What cannot be read has no drift.
    fn drift_from_adopted(
        &self,
        drift: Drift,
        adopted: &CredentialMetadata,
        content: &TargetContent,
    ) -> Option<Drift> {
        let keys = match content {
            TargetContent::Unknown | TargetContent::Unseen(_) | TargetContent::Unreadable(_) => {
                return None;
            }
            TargetContent::NoKey => {
                let message = format!(
                    "it holds no key, although {} was adopted from it",
                    adopted.id
                );
                return Some(Drift { message, ..drift });
            }
            TargetContent::Keys(keys) => keys,
        };
        let is_held = holds_credential(self.services.provider.as_ref(), keys, adopted);
        (!is_held).then(|| Drift {
            message: format!(
                "it holds {} instead of the adopted {}",
                describe_keys(keys),
                adopted.id
            ),
            ..drift
        })
    }
}

/// Returns whether a sink may hold a newer credential of the key than the current one, by a
/// delivery of rekeyd's own. Another delivery follows in any case: of that rotation while it
/// is open, and of the next one when it is stranded.
fn has_newer_delivery(key: &KeyState, current: &Rotation, sink: &SinkId) -> bool {
    let newer = key.live.iter().filter(|newer| {
        newer.sequence > current.sequence
            && (newer.phase.is_open() || newer.phase == Phase::Stranded)
    });
    let mut deliveries = newer.flat_map(|newer| &newer.deliveries);
    deliveries.any(|delivery| delivery.sink == *sink && delivery.may_have_received())
}

/// Returns the accepted deliveries of a rotation, with their sinks and its credential: those
/// of an adopted one are the sinks that were seen to hold it.
pub(crate) fn accepted_deliveries<'a>(
    managed: &'a ManagedKey,
    rotation: &'a Rotation,
) -> impl Iterator<Item = (&'a Delivery, &'a Arc<dyn Sink>, &'a CredentialMetadata)> {
    deliveries_at_sinks(managed, rotation, |delivery| {
        is_accepted(delivery, rotation)
    })
}

/// Returns whether a sink accepted a rotation, or was seen to hold an adopted one. A sink
/// that was removed and returned does not accept an adopted one again.
fn is_accepted(delivery: &Delivery, rotation: &Rotation) -> bool {
    let is_seen = rotation.trigger == Trigger::Adopted
        && delivery.state == DeliveryState::Uncertain
        && delivery.accepted_at.is_some()
        && !delivery.has_drifted();
    delivery.state == DeliveryState::Accepted || is_seen
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
