//! What readers outside the event loop see of the engine: the metrics and the probes.
//!
//! Reading never delays writing, so no reader asks the engine. A worker publishes the figures
//! of its key right after each commit, before the caller of a command is answered, and the
//! engine publishes what only it knows when it takes the key back. A reader copies all of
//! them at once, and works with its copy.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::core::condition::ListenerProblem;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::overdue::overdue_from;
use crate::core::revocation_delay::{count_failing_revocations, overdue_times};
use crate::core::state::{KeyState, Rotation};
use crate::core::unmanaged::unmanaged;
use crate::engine::managed_key::ManagedKey;

/// The figures of all keys, as they are now.
#[derive(Debug, Default)]
pub struct SharedView(Mutex<ViewSnapshot>);

/// The figures of all keys at one moment.
#[derive(Debug, Clone, Default)]
pub struct ViewSnapshot {
    /// The keys of the configuration and of the ledger, by name.
    pub keys: BTreeMap<KeyName, KeyFigures>,
    /// What concerns no single key.
    pub process: ProcessFigures,
}

/// The figures of the process as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// See [`crate::engine::Engine::reconciled_at`].
    pub reconciled_at: Option<Timestamp>,
    /// See [`crate::engine::Engine::last_reconciliation`].
    pub last_reconciliation: Option<Timestamp>,
    /// The size of the ledger's files in bytes, once they were checked.
    pub ledger_size: Option<u64>,
    /// The places at which the daemon cannot listen.
    pub listener_problems: Vec<ListenerProblem>,
    /// Whether the configuration in the file was rejected.
    pub is_configuration_rejected: bool,
}

/// The figures of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyFigures {
    /// When its current credential was created.
    pub created_at: Option<Timestamp>,
    /// When its current credential expires.
    pub expires_at: Option<Timestamp>,
    /// Its next scheduled rotation at the latest evaluation.
    pub rotates_at: Option<Timestamp>,
    /// The time after which it is overdue, unless it changes before.
    pub overdue_from: Option<Timestamp>,
    /// Whether it is configured; otherwise it is not rotated any more.
    pub is_configured: bool,
    /// Whether it has an error that lasts, at the latest evaluation.
    pub is_failing: bool,
    /// The number of its live credentials that an operator holds.
    pub held: u16,
    /// The number of its credentials whose revocation failed at the last attempt.
    pub failing_revocations: u16,
    /// The number of its live credentials that nothing ends if it is not configured.
    unmanaged: u16,
    /// The number of its credentials whose revocation was overdue at the latest evaluation.
    overdue_revocations: u16,
    /// The time from which the first of its revocations is overdue.
    revocation_overdue_from: Option<Timestamp>,
    /// The end of an operator's pause.
    paused_until: Option<Timestamp>,
    /// The time of the first of its latest consecutive failures.
    failing_since: Option<Timestamp>,
    /// The number of its live credentials in each of [`Phase::ALL`].
    live: [u16; Phase::ALL.len()],
}

/// What the engine knows of a key.
pub(super) struct EntryView<'a> {
    /// The configured key.
    pub(super) managed: Option<&'a ManagedKey>,
    /// Its state; none while a worker has it, which publishes the state itself.
    pub(super) state: Option<&'a KeyState>,
    pub(super) rotates_at: Option<Timestamp>,
    pub(super) failing_since: Option<Timestamp>,
    /// Whether it has an error that lasts. A worker does not publish this: between two
    /// attempts at the same step there is none for a moment.
    pub(super) is_failing: bool,
}

impl SharedView {
    /// Returns a copy of all figures.
    pub fn snapshot(&self) -> ViewSnapshot {
        self.lock().clone()
    }

    /// Returns the last reconciliation that is recent enough to start a rotation.
    pub fn reconciled_at(&self) -> Option<Timestamp> {
        self.lock().process.reconciled_at
    }

    /// Publishes what the engine knows of a key.
    pub(super) fn publish(&self, key: &KeyName, entry: &EntryView<'_>, now: Timestamp) {
        let mut view = self.lock();
        let figures = view.keys.entry(key.clone()).or_default();
        figures.is_configured = entry.managed.is_some();
        if let Some(state) = entry.state {
            figures.rotates_at = entry.rotates_at;
            figures.failing_since = entry.failing_since;
            figures.is_failing = entry.is_failing;
            figures.set_state(state, entry.managed, now);
        }
    }

    /// Publishes the state of a key after a commit of its worker.
    pub(super) fn publish_state(
        &self,
        state: &KeyState,
        managed: Option<&ManagedKey>,
        now: Timestamp,
    ) {
        let mut view = self.lock();
        let figures = view.keys.entry(state.key.clone()).or_default();
        figures.set_state(state, managed, now);
    }

    /// Publishes what concerns no single key.
    pub(super) fn publish_process(&self, figures: ProcessFigures) {
        self.lock().process = figures;
    }

    fn lock(&self) -> MutexGuard<'_, ViewSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyFigures {
    /// Returns the number of live credentials in each phase that a live one can have.
    pub fn live(&self) -> impl Iterator<Item = (Phase, u16)> {
        let counts = Phase::ALL.into_iter().zip(self.live);
        counts.filter(|(phase, _)| !phase.is_ended())
    }

    /// Returns whether the key is shown: it is configured, or has a live credential.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.is_configured || self.live().any(|(_, count)| count > 0)
    }

    /// Returns whether the key has been due for too long. One that is not configured is never
    /// due.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_configured && self.overdue_from.is_some_and(|from| from < now)
    }

    /// Returns whether an operator's pause keeps the schedule from rotating the key.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Returns the number of live credentials that nothing ends, because the key is not
    /// configured any more.
    #[must_use]
    pub const fn unmanaged(&self) -> u16 {
        if self.is_configured {
            0
        } else {
            self.unmanaged
        }
    }

    /// Returns the number of credentials whose revocation has been due for more than an hour.
    /// Those for which it was not yet at the latest evaluation count as one.
    #[must_use]
    pub fn overdue_revocations(&self, now: Timestamp) -> u16 {
        let is_any = self.revocation_overdue_from.is_some_and(|from| from <= now);
        if is_any {
            self.overdue_revocations.max(1)
        } else {
            0
        }
    }

    fn set_state(&mut self, state: &KeyState, managed: Option<&ManagedKey>, now: Timestamp) {
        let current = state.current();
        let current = current.and_then(|rotation| rotation.credential.as_ref());
        self.created_at = current.and_then(|credential| credential.created_at);
        self.expires_at = current.and_then(|credential| credential.expires_at);
        // A retired key is never due.
        let active = managed.filter(|_| !state.is_retired());
        self.overdue_from = active.and_then(|managed| {
            let required = managed.required_sinks();
            let (failing, planned) = (self.failing_since, self.rotates_at);
            overdue_from(&managed.policy, &required, state, failing, planned, now)
        });
        self.live = Phase::ALL.map(|phase| {
            let is_counted = |row: &&Rotation| row.phase == phase && row.credential.is_some();
            to_count(state.live.iter().filter(is_counted).count())
        });
        let endless = Timestamp::MAX;
        self.paused_until = state.pause.map(|pause| pause.until.unwrap_or(endless));
        let is_held = |row: &&Rotation| row.credential.is_some() && row.hold(now).is_some();
        self.held = to_count(state.live.iter().filter(is_held).count());
        let unmanaged = unmanaged(state).filter(|_| managed.is_none());
        self.unmanaged = unmanaged.map_or(0, |unmanaged| to_count(unmanaged.credentials.len()));
        self.set_revocations(state, managed, now);
    }

    fn set_revocations(&mut self, state: &KeyState, managed: Option<&ManagedKey>, now: Timestamp) {
        self.failing_revocations = to_count(count_failing_revocations(state));
        let policy = managed.map(|managed| &*managed.policy);
        let overdue: Vec<_> = overdue_times(state, policy, now).collect();
        self.revocation_overdue_from = overdue.iter().min().copied();
        self.overdue_revocations = to_count(overdue.iter().filter(|at| **at <= now).count());
    }
}

fn to_count(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
