//! Recognizes retired credentials in the targets of sinks: somebody restored one.
//!
//! Deliberately not here: whether such a credential is revoked
//! ([`crate::core::decide::revocation`]).

use jiff::Timestamp;

use crate::core::change::{Change, EndedSighting, RetiredSighting};
use crate::core::decide::sightings::{is_tolerated, open_sightings, repair_time};
use crate::core::ids::{RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::{Delivery, Rotation};
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::worker::Worker;
use crate::sink::{Drift, TargetContent};

/// What a target shows of retired credentials.
pub(super) struct ComparedSightings {
    /// The sightings that begin and end.
    pub(super) changes: Vec<Change>,
    /// Whether the target is not repaired now.
    pub(super) is_left_as_it_is: bool,
}

impl Worker {
    /// Returns the rotations whose retired credentials the target of a sink holds again,
    /// as recorded.
    pub(super) fn sighted_at(&self, sink: &SinkId) -> Vec<&Rotation> {
        let live = self.state.live.iter();
        let retired = live.filter(|row| row.phase == Phase::Retired);
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

    /// Returns the rotations whose retired credentials `content` holds, and whose end
    /// nobody asked for. One that is seen for the first time is asked for at the provider:
    /// the ledger may not know yet that it is gone.
    async fn retired_in(&self, sink: &SinkId, content: &TargetContent) -> Vec<&Rotation> {
        let mut found = Vec::new();
        for row in &self.state.live {
            let credential = row.credential.as_ref();
            let Some(credential) = credential.filter(|_| is_tolerated(row, self.tolerance_time()))
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

    fn end_of_sighting(&self, rotation: &RotationId, sink: &SinkId) -> Change {
        Change::from(EndedSighting {
            rotation: rotation.clone(),
            sink: sink.clone(),
            at: self.overlap_start(),
        })
    }
}
