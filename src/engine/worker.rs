//! Works on one key: step after step, one outside effect and then one commit,
//! until there is nothing to do before a later time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::due::{Due, due};
use crate::core::names::{KeyName, SinkId};
use crate::core::policy::{KeyPolicy, Waiting, back_off};
use crate::core::record::{KeyState, Trigger};
use crate::core::step::{Memory, Step, next_step};
use crate::core::time;
use crate::engine::chance::Chance;
use crate::engine::clock::Clock;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::Provider;
use crate::sink::Sink;

/// What all keys share.
pub struct Parts {
    /// Who issues credentials.
    pub provider: Arc<dyn Provider>,
    /// Where everything is recorded.
    pub ledger: Ledger,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and labels.
    pub chance: Arc<dyn Chance>,
    /// How many keys are worked on at once.
    pub max_in_flight: usize,
}

/// A configured key with its sinks ready to take secrets.
pub struct ManagedKey {
    /// Its name.
    pub name: KeyName,
    /// When and how patiently it rotates.
    pub policy: KeyPolicy,
    /// Its sinks in the order of delivery, and whether each is required.
    pub sinks: Vec<(Arc<dyn Sink>, bool)>,
}

impl ManagedKey {
    /// The sink with this name and target.
    #[must_use]
    pub fn sink(&self, id: &SinkId) -> Option<&Arc<dyn Sink>> {
        self.sinks
            .iter()
            .map(|(sink, _)| sink)
            .find(|sink| sink.id() == id)
    }

    /// The sinks that a rotation waits for.
    #[must_use]
    pub fn required(&self) -> Vec<SinkId> {
        let required = self.sinks.iter().filter(|(_, required)| *required);
        required.map(|(sink, _)| sink.id().clone()).collect()
    }
}

/// A person's wish that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Why, in the person's words.
    pub reason: Option<String>,
}

/// One key at work. It goes in with what is known and comes out with what is
/// known then.
pub(crate) struct Worker {
    pub(crate) parts: Arc<Parts>,
    pub(crate) managed: Option<Arc<ManagedKey>>,
    pub(crate) state: KeyState,
    pub(crate) memory: Option<Memory>,
    /// What was done and could not be recorded yet.
    pub(crate) unrecorded: Vec<Change>,
    pub(crate) wish: Option<Wish>,
    pub(crate) watching_since: Timestamp,
    pub(crate) stopping: Arc<AtomicBool>,
    /// Whether rotations are begun by schedule.
    pub(crate) scheduled: bool,
    /// When there is something to do again.
    pub(crate) wake_at: Option<Timestamp>,
}

/// How long to wait when the ledger cannot be written.
const LEDGER_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

impl Worker {
    /// Works until there is nothing to do now.
    pub(crate) async fn work(mut self) -> Self {
        while !self.stopping.load(Ordering::Relaxed) {
            match self.advance().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(key = %self.state.key, "{error}; trying again soon");
                    self.wake_at = Some(time::after(self.now(), LEDGER_PAUSE));
                    break;
                }
            }
        }
        self
    }

    /// One step. False when there is none to do now.
    async fn advance(&mut self) -> Result<bool, LedgerError> {
        if !self.unrecorded.is_empty() {
            return self.record(Vec::new()).await.map(|()| true);
        }
        let now = self.now();
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        match next_step(&self.state, self.memory.as_ref(), policy, now) {
            Step::Record(changes) => self.record(changes).await?,
            Step::Create(rotation) => self.create(&rotation).await?,
            Step::Find {
                rotation,
                after_restart,
            } => self.find(&rotation, after_restart).await?,
            Step::Verify(rotation) => self.verify(&rotation).await?,
            Step::Deliver { rotation, sink } => self.deliver(&rotation, &sink).await?,
            Step::Revoke(rotation) => self.revoke(&rotation).await?,
            Step::Wait(until) => return self.begin_if_due(until, now).await,
        }
        Ok(true)
    }

    /// Begins a rotation if one is due; otherwise notes when to look again.
    async fn begin_if_due(
        &mut self,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        self.wake_at = until;
        let Some(managed) = self.managed.clone() else {
            return Ok(false);
        };
        if self.state.open().is_some() {
            return Ok(false);
        }
        if let Some(wish) = self.wish.clone() {
            self.intend(&managed, Trigger::Manual, None, wish.reason)
                .await?;
            return Ok(self.state.open().is_some());
        }
        if !self.scheduled {
            return Ok(false);
        }
        let required = managed.required();
        match due(
            &managed.policy,
            &required,
            &self.state,
            self.watching_since,
            now,
        ) {
            Due::No { next } => {
                self.wake_at = until.into_iter().chain(next).min();
                Ok(false)
            }
            Due::Since {
                scheduled_for,
                trigger,
                ..
            } => {
                self.intend(&managed, trigger, scheduled_for, None).await?;
                if self.state.open().is_none() {
                    self.wake_at = until.into_iter().chain(self.state.retry_at).min();
                }
                Ok(self.state.open().is_some())
            }
        }
    }

    /// Records `changes` after whatever could not be recorded before, and
    /// tells the log. What cannot be recorded now is kept.
    pub(crate) async fn record(&mut self, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.unrecorded.extend(changes);
        let now = self.now();
        let changes = self.unrecorded.clone();
        let recorded = self
            .parts
            .ledger
            .record(&self.state.key, now, changes)
            .await;
        if recorded.is_err() {
            // An intent that is not on disk has had no effect: it is dropped.
            // Everything else has happened, and is recorded when it can be.
            self.unrecorded
                .retain(|change| !matches!(change, Change::Intended(_)));
        }
        let state = recorded?;
        let told = std::mem::take(&mut self.unrecorded);
        let before = std::mem::replace(&mut self.state, state);
        crate::engine::tell::tell(&before, &self.state, &told);
        self.forget_what_is_over();
        Ok(())
    }

    /// Drops the secret as soon as nobody is to get it any more.
    fn forget_what_is_over(&mut self) {
        let Some(memory) = &self.memory else { return };
        let needed = self
            .state
            .rotation(&memory.rotation)
            .is_some_and(|rotation| {
                rotation.phase.is_open()
                    || (rotation.phase == crate::core::rotation::Phase::Current
                        && rotation.deliveries.iter().any(crate::core::step::is_owed))
            });
        if !needed {
            self.memory = None;
        }
    }

    /// Records that a rotation failed or could not be begun.
    pub(crate) fn deferred(&self, problem: &str, after: Option<std::time::Duration>) -> Change {
        let attempt = self.state.attempt.saturating_add(1);
        let pause = back_off(Waiting::NextRotation, attempt).max(after.unwrap_or_default());
        Change::Deferred {
            attempt,
            retry_at: time::after(self.now(), pause),
            problem: problem.to_owned(),
        }
    }

    /// Records that the present step of a rotation failed.
    pub(crate) fn postponed(
        &self,
        rotation: &crate::core::names::RotationId,
        waiting: Waiting,
        error: &str,
        after: Option<std::time::Duration>,
    ) -> Change {
        let attempt = self
            .state
            .rotation(rotation)
            .map_or(0, |found| found.attempt)
            + 1;
        let pause = back_off(waiting, attempt).max(after.unwrap_or_default());
        Change::Postponed {
            rotation: rotation.clone(),
            attempt,
            retry_at: time::after(self.now(), pause),
            error: error.to_owned(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
