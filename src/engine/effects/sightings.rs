//! Recognizes retired credentials in the targets of sinks: somebody restored one.
//!
//! Deliberately not here: whether such a credential is revoked
//! ([`crate::core::decide::revocation`]).

use jiff::Timestamp;

use crate::core::change::{Change, EndedSighting, RetiredSighting};
use crate::core::decide::sightings::{is_tolerated, may_be_sighted, open_sightings, repair_time};
use crate::core::ids::{RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::{Delivery, Rotation};
use crate::engine::effects::held_elsewhere::Holder;
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Drift, TargetContent};

/// What a target shows of retired credentials.
pub(super) struct ComparedSightings {
    /// The sightings that begin and end.
    pub(super) changes: Vec<Change>,
    /// Whether the target is not repaired now.
    pub(super) is_left_as_it_is: bool,
}

impl Worker {
    /// Returns the rotations whose retired or orphaned credentials the target of a sink holds
    /// again, as recorded.
    pub(super) fn sighted_at(&self, sink: &SinkId) -> Vec<&Rotation> {
        let live = self.state.live.iter();
        let retired = live.filter(|row| matches!(row.phase, Phase::Retired | Phase::Orphaned));
        let at_sink = |row: &&Rotation| open_sightings(row).any(|sighted| sighted.sink == *sink);
        retired.filter(at_sink).collect()
    }

    /// Compares what the target of a sink holds with the retired credentials of the key.
    pub(super) async fn compare_sightings(
        &self,
        delivery: &Delivery,
        drift: Option<&Drift>,
        content: &TargetContent,
    ) -> ComparedSightings {
        let sink = &delivery.sink;
        let sighted = self.sighted_at(sink);
        match content {
            TargetContent::Unknown | TargetContent::Unseen(_) | TargetContent::Unreadable(_) => {
                ComparedSightings {
                    changes: Vec::new(),
                    is_left_as_it_is: drift.is_none()
                        && sighted.iter().any(|row| self.may_stay(row, sink)),
                }
            }
            TargetContent::NoKey | TargetContent::Keys(_) => {
                let seen = match drift {
                    Some(_) => self.retired_in(sink, content).await,
                    None => Vec::new(),
                };
                let is_seen = |row: &Rotation| seen.iter().any(|seen| seen.id == row.id);
                let ended = sighted.iter().filter(|row| !is_seen(row));
                let begun = seen
                    .iter()
                    .filter(|row| !sighted.iter().any(|sighted| sighted.id == row.id));
                let ended = ended.map(|row| self.end_of_sighting(&row.id, sink));
                let begun = begun.map(|row| {
                    Change::from(RetiredSighting {
                        rotation: row.id.clone(),
                        sink: sink.clone(),
                        required: delivery.required,
                    })
                });
                ComparedSightings {
                    changes: ended.chain(begun).collect(),
                    is_left_as_it_is: drift.is_none()
                        || seen.iter().any(|row| self.may_stay(row, sink)),
                }
            }
        }
    }

    /// Returns the rotations whose retired or orphaned credentials `content` holds, and whose
    /// end no operator requested. Retrieves one that is seen for the first time from the
    /// provider: the ledger may not know yet that it is gone.
    async fn retired_in(&self, sink: &SinkId, content: &TargetContent) -> Vec<&Rotation> {
        let mut found = Vec::new();
        for row in &self.state.live {
            let credential = row.credential.as_ref();
            let Some(credential) =
                credential.filter(|_| may_be_sighted(row, self.tolerance_time()))
            else {
                continue;
            };
            if !holds_credential(self.services.provider.as_ref(), content.keys(), credential) {
                continue;
            }
            let is_known = open_sightings(row).any(|sighted| sighted.sink == *sink);
            if is_known || self.may_be_alive(row).await {
                found.push(row);
            }
        }
        found
    }

    async fn may_be_alive(&self, row: &Rotation) -> bool {
        let conditions = &self.services.conditions;
        let permits = conditions.permits(&self.context.scope);
        let credential = row.credential.as_ref();
        let Some(credential) = credential.filter(|_| permits.can_use_provider) else {
            return true;
        };
        match self.retrieve(credential).await {
            Ok(answer) => answer.value.is_some_and(|listed| {
                let expires_at = listed.metadata.expires_at;
                expires_at.is_none_or(|at| at > self.tolerance_time())
            }),
            Err(_) => true,
        }
    }

    /// Returns whether the target of a sink that holds a retired credential is not
    /// repaired yet.
    fn may_stay(&self, row: &Rotation, sink: &SinkId) -> bool {
        let now = self.tolerance_time();
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let sighted = open_sightings(row).find(|sighted| sighted.sink == *sink);
        let since = sighted.and_then(|sighted| sighted.sighting);
        let since = since.map_or_else(|| self.now(), |sighting| sighting.since);
        is_tolerated(row, now) && repair_time(policy, since) > now
    }

    /// Returns the time by which the tolerance of retired credentials ends. While the clock
    /// is not trusted, none is over.
    fn tolerance_time(&self) -> Timestamp {
        let permits = self.services.conditions.permits(&self.context.scope);
        if permits.can_trust_clock {
            self.now()
        } else {
            Timestamp::MIN
        }
    }

    /// Returns the records that targets of the key's own sinks visibly hold an orphan: its
    /// consumers get an overlap after a newer credential took its place there.
    pub(super) fn sightings_of_orphan(
        &self,
        rotation: &Rotation,
        holders: &[Holder],
    ) -> Vec<Change> {
        if !may_be_sighted(rotation, self.now()) || rotation.phase != Phase::Orphaned {
            return Vec::new();
        }
        let configured = self.managed.iter().flat_map(|managed| managed.all_sinks());
        let held = configured.filter(|(sink, _)| {
            let mut holders = holders.iter();
            holders.any(|holder| {
                holder.key == self.state.key && holder.sink == *sink && holder.unseen.is_none()
            })
        });
        let is_known = |sink: &SinkId| open_sightings(rotation).any(|known| known.sink == *sink);
        let begun = held.filter(|(sink, _)| !is_known(sink));
        let begun = begun.map(|(sink, required)| {
            Change::from(RetiredSighting {
                rotation: rotation.id.clone(),
                sink,
                required,
            })
        });
        begun.collect()
    }

    /// Looks once more at the targets that hold an orphan, whose consumers get an overlap once
    /// they do not. Returns whether that begins now.
    pub(super) async fn end_sightings_of_orphan(
        &mut self,
        rotation: &Rotation,
    ) -> Result<bool, LedgerError> {
        if rotation.phase != Phase::Orphaned || open_sightings(rotation).next().is_none() {
            return Ok(false);
        }
        self.check_drift().await?;
        let row = self.state.rotation(&rotation.id);
        Ok(row.is_none_or(|row| open_sightings(row).next().is_none()))
    }

    fn end_of_sighting(&self, rotation: &RotationId, sink: &SinkId) -> Change {
        Change::from(EndedSighting {
            rotation: rotation.clone(),
            sink: sink.clone(),
            at: self.overlap_start(),
        })
    }
}
