//! What readers outside the event loop see of the engine: the metrics and the probes.
//!
//! Reading never delays writing, so no reader asks the engine. A worker publishes the figures
//! of its key right after each commit, before the caller of a command is answered, and the
//! engine publishes what only it knows when it takes the key back. A reader copies all of
//! them at once, and works with its copy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::core::condition::ListenerProblem;
use crate::core::health::file_access_problems;
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
    /// The keys of the configuration and of the ledger, in the order of their names. A map
    /// would take twice the memory.
    pub keys: Vec<(KeyName, KeyFigures)>,
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
    /// The number of files of its current credential that do not have the owner, the group or
    /// the mode of their deliveries.
    pub differing_files: u16,
    /// The number of credentials in the last list that look like the key's and have no row.
    pub lookalikes: u16,
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
    /// The number of its lookalikes.
    pub(super) lookalikes: usize,
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
        self.lock().figures(key).set_entry(entry, now);
    }

    /// Publishes what the engine knows of all keys, in the order of their names.
    pub(super) fn publish_all<'a>(
        &self,
        keys: impl Iterator<Item = (&'a KeyName, EntryView<'a>)>,
        now: Timestamp,
    ) {
        let mut view = self.lock();
        let published = keys.map(|(key, entry)| {
            let mut figures = view.get(key).copied().unwrap_or_default();
            figures.set_entry(&entry, now);
            (key.clone(), figures)
        });
        let published = published.collect();
        view.keys = published;
    }

    /// Publishes the state of a key after a commit of its worker.
    pub(super) fn publish_state(
        &self,
        state: &KeyState,
        managed: Option<&ManagedKey>,
        now: Timestamp,
    ) {
        let mut view = self.lock();
        view.figures(&state.key).set_state(state, managed, now);
    }

    /// Publishes what concerns no single key.
    pub(super) fn publish_process(&self, figures: ProcessFigures) {
        self.lock().process = figures;
    }

    fn lock(&self) -> MutexGuard<'_, ViewSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewSnapshot {
    /// Returns the figures of a key.
    #[must_use]
    pub fn get(&self, key: &KeyName) -> Option<&KeyFigures> {
        let index = self.search(key).ok()?;
        self.keys.get(index).map(|(_, figures)| figures)
    }

    /// Returns the figures of a key, which is added if it is new.
    fn figures(&mut self, key: &KeyName) -> &mut KeyFigures {
        let index = self.search(key).unwrap_or_else(|index| {
            let new = (key.clone(), KeyFigures::default());
            self.keys.insert(index, new);
            index
        });
        &mut self.keys[index].1
    }

    fn search(&self, key: &KeyName) -> Result<usize, usize> {
        self.keys.binary_search_by(|(name, _)| name.cmp(key))
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

    fn set_entry(&mut self, entry: &EntryView<'_>, now: Timestamp) {
        self.is_configured = entry.managed.is_some();
        self.lookalikes = to_count(entry.lookalikes);
        if let Some(state) = entry.state {
            self.rotates_at = entry.rotates_at;
            self.failing_since = entry.failing_since;
            self.is_failing = entry.is_failing;
            self.set_state(state, entry.managed, now);
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
        let differing = file_access_problems(state).filter(|_| managed.is_some());
        self.differing_files = to_count(differing.count());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::ids::{CredentialId, RotationId};
    use crate::core::scope::Scope;
    use crate::core::state::{CredentialMetadata, Pause, Trigger};
    use crate::core::time;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn start() -> Timestamp {
        "2026-11-24T01:00:00Z".parse().unwrap()
    }

    fn row(sequence: u64, phase: Phase) -> Rotation {
        let id = RotationId::from_recorded(format!("{sequence:016x}"));
        let trigger = Trigger::Schedule;
        Rotation {
            credential: Some(CredentialMetadata {
                id: CredentialId::new(format!("key_{sequence}")),
                redacted_value: None,
                created_at: None,
                expires_at: None,
            }),
            current_at: Some(start()),
            ..Rotation::new(id, Scope::AdminKeys, sequence, trigger, phase, start())
        }
    }

    /// Returns the figures of a key that is not configured.
    fn figures_of(live: Vec<Rotation>, pause: Option<Pause>) -> KeyFigures {
        let key = KeyName::new("billing").unwrap();
        let state = KeyState {
            live,
            pause,
            ..KeyState::unknown(key.clone())
        };
        let entry = EntryView {
            managed: None,
            state: Some(&state),
            rotates_at: None,
            failing_since: None,
            is_failing: false,
            lookalikes: 0,
        };
        let view = SharedView::default();
        view.publish(&key, &entry, start());
        *view.snapshot().get(&key).unwrap()
    }

    #[test]
    fn a_key_that_left_is_shown_until_its_last_credential_is_gone() {
        let figures = figures_of(vec![row(1, Phase::Current)], None);
        assert!(figures.is_shown());
        assert_eq!(figures.unmanaged(), 1);
        let figures = figures_of(vec![row(1, Phase::Orphaned)], None);
        assert!(figures.is_shown());
        assert_eq!(figures.unmanaged(), 0, "rekeyd revokes it");
        assert!(!figures_of(Vec::new(), None).is_shown());
    }

    /// Nothing evaluates a key whose deletion waits at a gate.
    #[test]
    fn a_revocation_becomes_overdue_without_an_evaluation() {
        let retired = Rotation {
            retired_at: Some(start()),
            revoke_after: Some(start()),
            ..row(1, Phase::Retired)
        };
        let figures = figures_of(vec![retired, row(2, Phase::Current)], None);
        for (wait, expected) in [(Duration::ZERO, 0), (HOUR, 1), (HOUR * 24, 1)] {
            let found = figures.overdue_revocations(time::after(start(), wait));
            assert_eq!(found, expected, "{wait:?}");
        }
    }

    #[test]
    fn a_pause_ends_without_an_evaluation() {
        let pause = |until| Pause {
            from: start(),
            until,
        };
        let ending = figures_of(Vec::new(), Some(pause(Some(time::after(start(), HOUR)))));
        let endless = figures_of(Vec::new(), Some(pause(None)));
        for figures in [ending, endless] {
            assert!(figures.is_paused(start()));
        }
        let end = time::after(start(), HOUR);
        assert!(!ending.is_paused(end));
        assert!(endless.is_paused(end));
    }
}
