//! What those who watch an engine see of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::ActiveCondition;
use crate::core::ids::{KeyName, SinkId};
use crate::core::overdue::is_overdue;
use crate::core::state::{DeliveryState, KeyState};
use crate::engine::scheduler::Engine;
use crate::engine::services::Services;

/// How a key stands, for those who watch.
#[derive(Debug, Clone, Copy)]
pub struct KeyView<'e> {
    /// Its name.
    pub key: &'e KeyName,
    /// What the ledger says; none while somebody works on it.
    pub state: Option<&'e KeyState>,
    /// When it is rotated next by schedule, as far as that has been seen.
    pub rotates_at: Option<Timestamp>,
    /// Whether it is configured; else it is not rotated any more.
    pub is_configured: bool,
    /// Whether it has been due for too long; none if nobody can tell now.
    pub is_overdue: Option<bool>,
}

impl Engine {
    /// How every key stands, for those who watch. Of one that is worked on
    /// there is no state.
    pub fn key_views(&self) -> impl Iterator<Item = KeyView<'_>> {
        let now = self.services.clock.now();
        self.keys.iter().map(move |(key, slot)| {
            let state = slot.state();
            let overdue = slot.managed.as_ref().zip(state).map(|(managed, state)| {
                let since = slot.failing_since;
                is_overdue(
                    &managed.policy,
                    &managed.required_sinks(),
                    state,
                    since,
                    now,
                )
            });
            KeyView {
                key,
                state,
                rotates_at: slot.rotates_at,
                is_configured: slot.managed.is_some(),
                is_overdue: overdue,
            }
        })
    }

    /// Returns when every row was last reconciled with the provider, recently
    /// enough to start a rotation; of several scopes, the one furthest behind
    /// counts.
    #[must_use]
    pub fn reconciled_at(&self) -> Option<Timestamp> {
        self.maintenance.all_reconciled_at()
    }

    /// Returns when every row was last reconciled with the provider, by this
    /// process or an earlier one; of several scopes, the one furthest behind
    /// counts.
    #[must_use]
    pub fn last_reconciliation(&self) -> Option<Timestamp> {
        self.maintenance.last_reconciliation()
    }

    /// How far the provider's clock was ahead when it was last heard, in
    /// seconds.
    #[must_use]
    pub fn clock_offset(&self) -> Option<f64> {
        self.services.conditions.clock_offset()
    }

    /// Which key is rotated next by schedule, and when, as far as that has
    /// been seen.
    #[must_use]
    pub fn next_rotation(&self) -> Option<(&KeyName, Timestamp)> {
        self.next_rotations.first().map(|(at, key)| (key, *at))
    }

    /// The keys that something is wrong with, in the order of their names, as
    /// far as that has been seen.
    #[must_use]
    pub const fn unhealthy(&self) -> &BTreeSet<KeyName> {
        &self.unhealthy
    }

    /// The keys whose rotation is under way, as far as that has been seen.
    #[must_use]
    pub const fn rotating(&self) -> &BTreeSet<KeyName> {
        &self.rotating
    }

    /// How much is at work, or waits for its turn.
    #[must_use]
    pub fn active_tasks(&self) -> usize {
        self.running.len() + usize::from(self.has_more_due)
    }

    /// How a key stands; none while it is worked on.
    #[must_use]
    pub fn state(&self, key: &KeyName) -> Option<&KeyState> {
        self.keys.get(key)?.state()
    }

    /// Where live credentials were or may have been delivered to, and no sink is
    /// configured now; none of what is known to have been accepted.
    pub(crate) fn unconfigured_sinks(&self) -> impl Iterator<Item = (&KeyName, &SinkId)> {
        self.keys.iter().flat_map(|(key, slot)| {
            let managed = slot.managed.as_deref();
            let live = slot.state().map(|state| state.live.as_slice());
            let live = live.unwrap_or_default().iter();
            let deliveries = live.flat_map(|rotation| &rotation.deliveries);
            let unclear = deliveries.filter(|one| one.state != DeliveryState::Accepted);
            let forgotten = unclear
                .filter(move |one| managed.is_none_or(|managed| managed.sink(&one.sink).is_none()));
            forgotten.map(move |delivery| (key, &delivery.sink))
        })
    }

    /// Returns what stops rotations now, worst first.
    #[must_use]
    pub fn active_conditions(&self) -> Vec<ActiveCondition> {
        self.services.conditions.active()
    }

    /// Returns the active conditions that stop this key, worst first.
    #[must_use]
    pub fn active_conditions_of(&self, key: &KeyName) -> Vec<ActiveCondition> {
        let mut active = self.active_conditions();
        if let Some(entry) = self.keys.get(key) {
            active.retain(|one| one.scope.as_ref().is_none_or(|scope| *scope == entry.scope));
        }
        active
    }

    /// Whether nothing is at work, nothing is to be done now, no rotation is
    /// open and no condition is active.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let now = self.services.clock.now();
        self.running.is_empty()
            && self.awaiting_provider.next_at().is_none()
            && !self.places.is_awaited()
            && self.next_at().is_none_or(|at| at > now)
            && self.services.conditions.is_clear()
            && self.reconciled_at().is_some()
            && self.keys.values().all(|slot| {
                let state = slot.state();
                state.is_some_and(|state| state.open_rotation().is_none())
            })
    }

    /// Whether a person's wish for `key` has not been taken up yet.
    #[must_use]
    pub fn has_pending_request(&self, key: &KeyName) -> bool {
        self.keys
            .get(key)
            .is_some_and(|slot| slot.request.is_some())
    }

    /// The configured keys, in the order of their names.
    #[must_use]
    pub fn configured_keys(&self) -> Vec<KeyName> {
        let keys = self.configured_states();
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// The configured keys, in the order of their names, and how each stands;
    /// none while it is worked on.
    pub fn configured_states(&self) -> impl Iterator<Item = (&KeyName, Option<&KeyState>)> {
        let keys = self.keys.iter();
        keys.filter(|(_, slot)| slot.managed.is_some())
            .map(|(key, slot)| (key, slot.state()))
    }

    /// The sequence of a key's current rotation, 0 if it has none; while
    /// somebody works on it, that of before.
    #[must_use]
    pub fn current_sequence(&self, key: &KeyName) -> u64 {
        self.keys.get(key).map_or(0, |slot| slot.sequence())
    }

    /// How long a configured key may take to be delivered.
    #[must_use]
    pub fn delivery_deadline(&self, key: &KeyName) -> Option<Duration> {
        let managed = self.keys.get(key)?.managed.as_ref()?;
        Some(managed.policy.delivery_deadline)
    }

    /// What all keys share now.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The time by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}
