//! Whether a first write to a target would destroy a key that this ledger knows nothing
//! of.
//!
//! Deliberately not here: targets that this host cannot read. Their first write is not
//! refused.

use std::sync::Arc;

use crate::core::secret::Secret;
use crate::core::state::{Delivery, Rotation, Trigger};
use crate::engine::effects::held_keys::{describe_keys, is_any_of, shows_other_end};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Sink, TargetContent};

impl Worker {
    /// Returns why no rotation may start: a required sink's target holds a key that
    /// this ledger did not write.
    pub(super) async fn required_first_write_problem(
        &mut self,
        managed: &ManagedKey,
    ) -> Result<Option<String>, LedgerError> {
        for (sink, is_required) in &managed.sinks {
            if !*is_required {
                continue;
            }
            if let Some(problem) = self.first_write_problem(sink).await? {
                return Ok(Some(problem));
            }
        }
        Ok(None)
    }

    /// Returns why the first delivery to `sink` is refused: its target holds a key that
    /// is none of this key's, and that this ledger did not write. An operator allows it
    /// by adopting that key, or with `rotate --replace`, also where an earlier ledger
    /// delivered it.
    pub(super) async fn first_write_problem(
        &mut self,
        sink: &Arc<dyn Sink>,
    ) -> Result<Option<String>, LedgerError> {
        if self.may_write(sink.as_ref()) {
            return Ok(None);
        }
        let is_adopted = self.was_adopted_with(sink.as_ref());
        let Some(content) = self.attempt_at_sink(sink.inspect()).await else {
            return Ok(None);
        };
        let found = match &content {
            TargetContent::Unknown | TargetContent::Unseen(_) | TargetContent::NoKey => {
                return Ok(None);
            }
            TargetContent::Unreadable(_) if is_adopted => return Ok(None),
            TargetContent::Unreadable(_) => "something unreadable, perhaps a key".to_owned(),
            TargetContent::Keys(keys) if self.is_of_this_key(keys) => return Ok(None),
            TargetContent::Keys(keys) if is_adopted && !self.are_all_others(keys) => {
                return Ok(None);
            }
            TargetContent::Keys(keys) => describe_keys(keys),
        };
        let (key, target) = (&self.state.key, &sink.id().target);
        let ledger = &self.services.ledger;
        if ledger.has_written(target, key, !is_adopted).await? {
            return Ok(None);
        }
        Ok(Some(format!(
            "sink {}: its target holds {found}, which rekeyd neither wrote nor adopted; hint: adopt \
             its credential with `rekeyd adopt --from-sinks`, or replace it with `rekeyd rotate \
             {key} --replace`, which leaves that credential alive",
            sink.id()
        )))
    }

    /// Returns whether a delivery to `sink` needs no check of its target: a live rotation
    /// of the key was delivered to it, or an operator allowed it.
    pub(super) fn may_write(&self, sink: &dyn Sink) -> bool {
        if self.state.may_replace {
            return true;
        }
        let mut own = self.deliveries_to(sink);
        own.any(|(row, delivery)| delivery.was_written() && !is_adopted_alone(row, delivery))
    }

    /// Returns whether a live credential of the key was adopted while it had `sink`, perhaps
    /// although the target held another key.
    fn was_adopted_with(&self, sink: &dyn Sink) -> bool {
        let mut own = self.deliveries_to(sink);
        own.any(|(row, delivery)| delivery.was_written() && is_adopted_alone(row, delivery))
    }

    fn deliveries_to(&self, sink: &dyn Sink) -> impl Iterator<Item = (&Rotation, &Delivery)> {
        let rows = self.state.live.iter();
        let all = rows.flat_map(|row| row.deliveries.iter().map(move |delivery| (row, delivery)));
        all.filter(|(_, delivery)| delivery.sink == *sink.id())
    }

    /// Returns whether none of `keys` can be that of a live credential of this key.
    fn are_all_others(&self, keys: &[Secret]) -> bool {
        let is_other = |key: &Secret| {
            let mut live = self.state.live.iter().filter_map(Rotation::credential);
            live.all(|credential| shows_other_end(key, credential))
        };
        !keys.is_empty() && keys.iter().all(is_other)
    }

    /// Returns whether one of `keys` is that of a live credential of this key.
    fn is_of_this_key(&self, keys: &[Secret]) -> bool {
        is_any_of(
            self.services.provider.as_ref(),
            keys,
            self.state.live.iter().filter_map(Rotation::credential),
        )
    }
}

/// Returns whether a sink is recorded as a holder of an adopted credential, and was sent
/// nothing.
fn is_adopted_alone(row: &Rotation, delivery: &Delivery) -> bool {
    row.trigger == Trigger::Adopted && delivery.attempts == 0 && delivery.accepted_at.is_none()
}
