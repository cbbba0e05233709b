//! Read-only views of the engine, for the status, the metrics and the control socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::{ActiveCondition, BlockedWork, Condition};
use crate::core::decide::revocation::{next_deadline, wants_successor};
use crate::core::gate::RequestClass;
use crate::core::health::most_urgent_error;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::overdue::due_since;
use crate::core::policy::plausible_retry;
use crate::core::state::KeyState;
use crate::core::time;
use crate::core::unmanaged::unmanaged;
use crate::engine::activity::Activity;
use crate::engine::effects::retirement::retired_problem;
use crate::engine::scheduler::Engine;
use crate::engine::services::Services;
use crate::engine::shared_view::{ProcessFigures, SharedView};

/// The time to the end of what leaked for which a process that would end waits.
const AWAITED_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// When a key is rotated that is due by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRotation {
    /// At this time.
    At(Timestamp),
    /// When the active condition ends.
    AfterCondition,
    /// When an operator's pause ends.
    AfterPause,
    /// When another process runs that rotates by schedule: it continues the open rotation.
    ContinuesInNextProcess,
    /// When another process runs that rotates by schedule, and not before this time.
    StartsInNextProcess(Timestamp),
}

/// A view of one key.
#[derive(Debug, Clone, Copy)]
pub struct KeyView<'a> {
    /// Its name.
    pub key: &'a KeyName,
    /// Its state in the ledger; none while a worker has it.
    pub state: Option<&'a KeyState>,
}

impl Engine {
    /// Returns a view of every key.
    pub fn key_views(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.keys.iter().map(|(key, entry)| KeyView {
            key,
            state: entry.state(),
        })
    }

    /// Returns what readers outside the event loop see, now and later.
    #[must_use]
    pub fn shared_view(&self) -> Arc<SharedView> {
        Arc::clone(&self.view)
    }

    /// Publishes every key for readers outside the event loop.
    pub(super) fn publish_all(&self) {
        let now = self.services.clock.now();
        let keys = self.keys.iter().map(|(key, entry)| (key, entry.view()));
        self.view.publish_all(keys, now);
        self.publish_process();
    }

    /// Publishes what concerns no single key for these readers.
    pub(super) fn publish_process(&self) {
        let listeners = self.listener_problems.iter();
        let listeners = listeners.flat_map(|problems| problems.keys().copied());
        self.view.publish_process(ProcessFigures {
            reconciled_at: self.reconciled_at(),
            last_reconciliation: self.last_reconciliation(),
            ledger_size: self.ledger_size,
            listener_problems: listeners.collect(),
            is_configuration_rejected: self.configuration_problem.is_some(),
        });
    }

    /// Returns whether requests may be sent to the provider at all: not any more once the
    /// ledger's files are damaged.
    #[must_use]
    pub fn can_send_requests(&self) -> bool {
        !self.services.conditions.lasts(Condition::Ledger)
    }

    /// Returns the last reconciliation since the engine was opened; of several scopes,
    /// the earliest. A command may also use a recent one of an earlier process.
    #[must_use]
    pub fn reconciled_at(&self) -> Option<Timestamp> {
        self.maintenance.all_reconciled_at()
    }

    /// Returns the last reconciliation of this or an earlier process; of several scopes,
    /// the earliest.
    #[must_use]
    pub fn last_reconciliation(&self) -> Option<Timestamp> {
        self.maintenance.last_reconciliation()
    }

    /// Returns how far the provider's clock was ahead at its last response, in seconds.
    #[must_use]
    pub fn clock_offset(&self) -> Option<f64> {
        self.services.conditions.clock_offset()
    }

    /// Returns the key with the next scheduled rotation, and its time, by the latest
    /// evaluations.
    #[must_use]
    pub fn next_rotation(&self) -> Option<(&KeyName, Timestamp)> {
        self.next_rotations.first().map(|(at, key)| (key, *at))
    }

    /// Returns the keys with an error, by the latest evaluations.
    #[must_use]
    pub const fn unhealthy(&self) -> &BTreeSet<KeyName> {
        &self.unhealthy
    }

    /// Returns the keys with an open rotation, by the latest evaluations.
    #[must_use]
    pub const fn rotating(&self) -> &BTreeSet<KeyName> {
        &self.rotating
    }

    /// Returns the number of running tasks, plus one if more keys are due.
    #[must_use]
    pub fn active_tasks(&self) -> usize {
        self.running.len() + usize::from(self.has_more_due)
    }

    /// Returns the state of a key; none while a worker has it.
    #[must_use]
    pub fn state(&self, key: &KeyName) -> Option<&KeyState> {
        self.keys.get(key)?.state()
    }

    /// Returns the other keys that have a live row of a credential, unless a worker has them.
    #[must_use]
    pub fn other_keys_of(&self, credential: &CredentialId, key: &KeyName) -> Vec<&KeyName> {
        let others = self.keys.iter().filter(|(other, entry)| {
            let live = entry.state().map(|state| state.live.as_slice());
            let mut live = live.unwrap_or_default().iter();
            *other != key
                && live.any(|row| row.credential().is_some_and(|one| one.id == *credential))
        });
        others.map(|(other, _)| other).collect()
    }

    /// Returns the sinks of live credentials that are not configured any more, except
    /// those that certainly accepted.
    pub(crate) fn unconfigured_sinks(&self) -> impl Iterator<Item = (&KeyName, &SinkId)> {
        self.keys.iter().flat_map(|(key, entry)| {
            let managed = entry.managed.as_deref();
            let live = entry.state().map(|state| state.live.as_slice());
            let live = live.unwrap_or_default().iter();
            let deliveries = live.flat_map(|rotation| &rotation.deliveries);
            let unconfigured = deliveries.filter(move |delivery| {
                managed.is_none_or(|managed| managed.sink(&delivery.sink).is_none())
            });
            unconfigured.map(move |delivery| (key, &delivery.sink))
        })
    }

    /// Returns the active conditions with their problems, worst first.
    #[must_use]
    pub fn active_conditions(&self) -> Vec<ActiveCondition> {
        self.services.conditions.active()
    }

    /// Returns the active conditions that stop `key`, worst first.
    #[must_use]
    pub fn active_conditions_of(&self, key: &KeyName) -> Vec<ActiveCondition> {
        let mut active = self.active_conditions();
        if let Some(entry) = self.keys.get(key) {
            active.retain(|active| {
                active
                    .scope
                    .as_ref()
                    .is_none_or(|scope| *scope == entry.scope)
            });
        }
        active
    }

    /// Returns the active conditions that a request for a rotation of `key` waits for, worst
    /// first.
    #[must_use]
    pub fn conditions_before_request(&self, key: &KeyName) -> Vec<ActiveCondition> {
        let mut active = self.active_conditions_of(key);
        active.retain(|active| active.condition.blocked_work().includes_requests());
        active
    }

    /// Returns the active conditions that the next work of `key` waits for, worst first.
    #[must_use]
    pub fn conditions_before_work(&self, key: &KeyName) -> Vec<ActiveCondition> {
        let entry = self.keys.get(key);
        let held_back_by = entry.and_then(|entry| Some(entry.held_back_by?.class));
        let mut active = self.active_conditions_of(key);
        active.retain(|active| match active.condition.blocked_work() {
            BlockedWork::Rotations => true,
            BlockedWork::Creates => held_back_by == Some(RequestClass::Create),
            BlockedWork::Reads => held_back_by == Some(RequestClass::Read),
            BlockedWork::Revocations => held_back_by == Some(RequestClass::Delete),
        });
        active
    }

    /// Returns whether no task is running or due, no rotation is open, nothing that leaked
    /// ends soon, and no condition is active.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let now = self.services.clock.now();
        self.running.is_empty()
            && self.awaiting_provider.next_at().is_none()
            && !self.places.is_awaited()
            && self.next_at().is_none_or(|at| at > now)
            && self.services.conditions.is_clear()
            && self.reconciled_at().is_some()
            && self.keys.values().all(|entry| {
                let state = entry.state();
                state.is_some_and(|state| {
                    state.open_rotation().is_none()
                        && next_deadline(state, now)
                            .is_none_or(|at| time::until(now, at) > AWAITED_DEADLINE)
                })
            })
    }

    /// Returns whether a condition that only a person ends is active, and no worker has a
    /// key: nothing is delivered, and nothing follows by itself.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let mut active = self.services.conditions.active().into_iter();
        active.any(|active| !active.condition.may_pass())
            && self.keys.values().all(|entry| entry.parked.is_some())
            && !self.has_pending_secrets()
    }

    /// Returns whether a rotation request for `key` waits for a worker.
    #[must_use]
    pub fn has_pending_request(&self, key: &KeyName) -> bool {
        self.keys
            .get(key)
            .is_some_and(|entry| entry.request.is_some())
    }

    /// Returns what follows for a key whose rotation failed or could not start, if it is
    /// rotated without a further request: the caller must not take it for cancelled.
    #[must_use]
    pub fn pending_rotation(&self, key: &KeyName) -> Option<PendingRotation> {
        let entry = self.keys.get(key)?;
        let (managed, state) = (entry.active()?, entry.state()?);
        let now = self.services.clock.now();
        let resumed = KeyState {
            pause: None,
            ..state.clone()
        };
        let required = managed.required_sinks();
        due_since(
            &managed.policy,
            &required,
            &resumed,
            entry.failing_since,
            now,
        )?;
        let is_open = state.open_rotation().is_some();
        let is_leaked = wants_successor(state);
        let conditions = &self.services.conditions;
        let can_start = if is_leaked {
            conditions.can_replace_leaked(&entry.scope)
        } else {
            conditions.can_start_rotation(&entry.scope)
        };
        let can_start = can_start && !entry.is_rotation_held_back();
        let retry_at = plausible_retry(state.retry_at, now).filter(|at| *at > now);
        let starts_at = retry_at.filter(|_| !is_open).unwrap_or(now);
        let mut open = state.open_rotation().into_iter();
        let has_credential = open.any(|open| open.credential.is_some());
        Some(if has_credential && !self.is_scheduling {
            PendingRotation::ContinuesInNextProcess
        } else if !is_open && !is_leaked && state.is_paused(now) {
            PendingRotation::AfterPause
        } else if !self.is_scheduling {
            // Nothing of an open rotation without a credential is continued.
            PendingRotation::StartsInNextProcess(retry_at.unwrap_or(now))
        } else if !can_start {
            PendingRotation::AfterCondition
        } else {
            PendingRotation::At(starts_at)
        })
    }

    /// Returns what a caller that waits for work on `key` waits for: what its worker is
    /// doing, or why none has it.
    #[must_use]
    pub fn awaited_by(&self, key: &KeyName) -> Option<String> {
        let entry = self.keys.get(key)?;
        let problem = self.conditions_before_work(key).into_iter().next();
        let Some(state) = entry.state() else {
            let activity = entry.activity.get()?;
            return Some(match problem {
                Some(active) if activity == Activity::Ledger => until_passed(&active),
                Some(_) | None => format!("waiting for {activity}"),
            });
        };
        if let Some(active) = problem {
            return Some(until_passed(&active));
        }
        if entry.is_queued_for_provider {
            return Some("waiting for other keys that use the provider".to_owned());
        }
        let error = most_urgent_error(state)?;
        let open = state.open_rotation().into_iter();
        let planned = open.flat_map(|open| {
            let deliveries = open.deliveries.iter().map(|delivery| delivery.retry_at);
            deliveries.chain([open.retry_at]).flatten()
        });
        let now = self.now();
        Some(match planned.filter(|at| *at > now).min() {
            Some(at) => format!(
                "waiting for the next attempt at {}: {error}",
                time::to_text(at)
            ),
            None => format!("waiting for the next attempt: {error}"),
        })
    }

    /// Returns what a process that ends when nothing is due waits for: a condition, the
    /// provider's list, or each key at work, by name.
    #[must_use]
    pub fn awaited_by_all(&self) -> Vec<(Option<&KeyName>, String)> {
        if let Some(active) = self.active_conditions().first() {
            return vec![(None, until_passed(active))];
        }
        let keys = self.keys.iter().filter(|(_, entry)| {
            let state = entry.state();
            state.is_none_or(|state| state.open_rotation().is_some())
                || entry.is_queued_for_provider
        });
        let mut waits: Vec<_> = keys
            .filter_map(|(key, _)| Some((Some(key), self.awaited_by(key)?)))
            .collect();
        if waits.is_empty() && self.reconciled_at().is_none() {
            let list = "waiting for the provider's list of credentials".to_owned();
            waits.push((None, list));
        }
        waits
    }

    /// Returns the problem of the ledger, if it cannot be written or its files are damaged.
    #[must_use]
    pub fn ledger_problem(&self) -> Option<String> {
        let mut conditions = self.active_conditions().into_iter();
        let ledger = conditions.find(|active| active.condition == Condition::Ledger);
        ledger.map(|active| active.problem)
    }

    /// Returns the problem of a ledger whose files are damaged, which lasts until this
    /// process ends.
    #[must_use]
    pub fn ledger_damage(&self) -> Option<String> {
        let is_damaged = self.services.conditions.lasts(Condition::Ledger);
        is_damaged.then(|| self.ledger_problem()).flatten()
    }

    /// Returns why the latest request for a rotation of `key` could not start one, if the
    /// key's state does not have it.
    #[must_use]
    pub fn request_problem(&self, key: &KeyName) -> Option<&str> {
        self.keys.get(key)?.request_problem.as_deref()
    }

    /// Returns whether this process rotates by schedule.
    #[must_use]
    pub const fn is_scheduling(&self) -> bool {
        self.is_scheduling
    }

    /// Returns the configured keys that are not retired, by name.
    #[must_use]
    pub fn configured_keys(&self) -> Vec<KeyName> {
        let keys = self.configured_states();
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// Returns the configured keys that are retired, by name.
    #[must_use]
    pub fn retired_keys(&self) -> Vec<KeyName> {
        let keys = self.keys.iter();
        let retired = keys.filter(|(_, entry)| entry.managed.is_some() && entry.active().is_none());
        retired.map(|(key, _)| key.clone()).collect()
    }

    /// Returns every key that is configured or has a state in the ledger, by name.
    #[must_use]
    pub fn known_keys(&self) -> Vec<KeyName> {
        self.keys.keys().cloned().collect()
    }

    /// Returns the configured keys that are not retired, by name, with their states; none
    /// while a worker has the key.
    pub fn configured_states(&self) -> impl Iterator<Item = (&KeyName, Option<&KeyState>)> {
        let keys = self.keys.iter();
        keys.filter(|(_, entry)| entry.active().is_some())
            .map(|(key, entry)| (key, entry.state()))
    }

    /// Returns the sequence of a key's current rotation, 0 if it has none. While a worker
    /// has the key, returns the sequence before the work.
    #[must_use]
    pub fn current_sequence(&self, key: &KeyName) -> u64 {
        self.keys.get(key).map_or(0, |entry| entry.sequence())
    }

    /// Returns why a key is not rotated, if it is retired.
    #[must_use]
    pub fn retirement_problem(&self, key: &KeyName) -> Option<String> {
        let entry = self.keys.get(key)?;
        let state = entry.state().filter(|state| state.is_retired());
        match state {
            Some(state) => Some(retired_problem(state)),
            None => entry.is_retired.then(|| {
                format!("the key is retired; hint: run `rekeyd retire {key} --undo` first")
            }),
        }
    }

    /// Returns those of these keys with a live credential that nothing ends.
    #[must_use]
    pub fn unmanaged_keys(&self, keys: &[KeyName]) -> Vec<KeyName> {
        let is_unmanaged = |key: &&KeyName| {
            let state = self.keys.get(*key).and_then(|entry| entry.state());
            state.is_some_and(|state| unmanaged(state).is_some())
        };
        keys.iter().filter(is_unmanaged).cloned().collect()
    }

    /// Returns the present name of the key that had this name before.
    #[must_use]
    pub fn present_name(&self, former: &KeyName) -> Option<&KeyName> {
        let mut keys = self.keys.iter();
        let renamed = keys.find(|(_, entry)| entry.former_names.contains(former));
        renamed.map(|(key, _)| key)
    }

    /// Returns the `delivery-deadline` of a configured key that is not retired.
    #[must_use]
    pub fn delivery_deadline(&self, key: &KeyName) -> Option<Duration> {
        let entry = self.keys.get(key)?;
        let managed = entry
            .managed
            .as_ref()
            .filter(|_| entry.accepts_requests())?;
        Some(managed.policy.delivery_deadline)
    }

    /// Returns the services that all workers share.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Returns the time of the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}

/// Describes the wait for the end of a condition.
fn until_passed(active: &ActiveCondition) -> String {
    format!("waiting until this is resolved: {}", active.problem)
}
