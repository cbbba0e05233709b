//! Whether a first write to a target would destroy a key that this ledger knows nothing
//! of.
//!
//! Deliberately not here: targets that this host cannot read. Their first write is not
//! refused.

use std::sync::Arc;

use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::secret::Secret;
use crate::core::state::{CredentialMetadata, Delivery, DeliveryState, Rotation, Trigger};
use crate::engine::effects::held_keys::{describe_keys, holds_credential, is_any_of};
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Sink, TargetContent};

impl Worker {
    /// Returns why no rotation may start: a required sink's target holds a key that
    /// this ledger did not write, and the target is none of those that the rotation
    /// `replaces`.
    pub(super) async fn required_first_write_problem(
        &mut self,
        managed: &ManagedKey,
        replaces: &[String],
    ) -> Result<Option<String>, LedgerError> {
        for (sink, is_required) in &managed.sinks {
            if !*is_required || replaces.contains(&sink.id().target) {
                continue;
            }
            if let Some(problem) = self.first_write_problem(sink).await? {
                return Ok(Some(problem));
            }
        }
        Ok(None)
    }

    /// Returns why the first delivery to `sink` is refused: its target holds a key that
    /// this ledger neither wrote there nor adopted, or cannot be read. An operator allows it
    /// by adopting that key, or with `rotate --replace`, also where an earlier ledger
    /// delivered it.
    pub(super) async fn first_write_problem(
        &mut self,
        sink: &Arc<dyn Sink>,
    ) -> Result<Option<String>, LedgerError> {
        if self.may_write(sink.as_ref()) {
            return Ok(None);
        }
        let Some(content) = self.attempt_at_sink(sink.inspect()).await else {
            return Ok(None);
        };
        let found = match &content {
            TargetContent::Unknown | TargetContent::Unseen(_) | TargetContent::NoKey => {
                return Ok(None);
            }
            TargetContent::Unreadable(_) => "something unreadable, perhaps a key".to_owned(),
            TargetContent::Keys(keys) => {
                let unknown = self.unknown_keys(sink.id(), keys).await?;
                if unknown.is_empty() {
                    return Ok(None);
                }
                describe_keys(&unknown)
            }
        };
        let key = &self.state.key;
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
        if self.state.replace_targets.contains(&sink.id().target) {
            return true;
        }
        let mut own = self.deliveries_to(sink.id());
        own.any(|(row, delivery)| {
            row.trigger != Trigger::Adopted && delivery.was_written_and_kept()
        })
    }

    /// Returns those of `keys` that no row explains: neither a live one of this key, nor one
    /// that this ledger delivered to that target or adopted there. Where the current
    /// credential was adopted and is gone, a key that the provider refuses is no loss.
    async fn unknown_keys(
        &self,
        sink: &SinkId,
        keys: &[Secret],
    ) -> Result<Vec<Secret>, LedgerError> {
        let provider = self.services.provider.as_ref();
        let live = self.state.live.iter().filter_map(Rotation::credential);
        let live: Vec<_> = live.collect();
        let is_unknown = |secret: &&Secret| {
            let live = live.iter().copied();
            !is_any_of(provider, std::slice::from_ref(*secret), live)
        };
        let mut unknown: Vec<_> = keys.iter().filter(is_unknown).cloned().collect();
        if unknown.is_empty() {
            return Ok(unknown);
        }
        let ledger = &self.services.ledger;
        let recorded = ledger.credentials_of_target(&sink.target).await?;
        unknown.retain(|secret| !recorded.iter().any(|row| self.explains(row, secret)));
        let was_seen = |(row, delivery): (&Rotation, &Delivery)| {
            row.phase == Phase::Current
                && row.trigger == Trigger::Adopted
                && (delivery.state == DeliveryState::Accepted || delivery.has_drifted())
        };
        if self.deliveries_to(sink).any(was_seen) {
            let mut alive = Vec::new();
            for secret in unknown {
                if !self.is_dead(&secret).await {
                    alive.push(secret);
                }
            }
            unknown = alive;
        }
        Ok(unknown)
    }

    /// Returns whether a key in a target is that of a credential that this ledger has
    /// delivered to it or adopted there. Without an end to compare, the record decides.
    fn explains(&self, recorded: &CredentialMetadata, secret: &Secret) -> bool {
        let provider = self.services.provider.as_ref();
        recorded.redacted_value.is_none()
            || holds_credential(provider, std::slice::from_ref(secret), recorded)
    }

    fn deliveries_to<'a>(
        &'a self,
        sink: &'a SinkId,
    ) -> impl Iterator<Item = (&'a Rotation, &'a Delivery)> {
        let rows = self.state.live.iter();
        let all = rows.flat_map(|row| row.deliveries.iter().map(move |delivery| (row, delivery)));
        all.filter(move |(_, delivery)| delivery.sink == *sink)
    }
}
