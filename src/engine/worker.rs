//! Works on one key: step after step, one outside effect and then one commit,
//! until there is nothing to do before a later time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::core::change::{Change, KeyBackoff, OperatorNote, RetrySchedule};
use crate::core::condition::Condition;
use crate::core::decide::due::Downtime;
use crate::core::decide::next_step::InFlight;
use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::policy::{
    KeyPolicy, RetryClass, backoff_delay, key_backoff_delay, overlap_or_default,
};
use crate::core::state::{Delivery, KeyState};
use crate::core::subscriptions::Subscriptions;
use crate::core::time;
use crate::engine::conditions::Conditions;
use crate::engine::observer::ChangeObserver;
use crate::engine::operator_command::PendingCommand;
use crate::engine::probe::{self, describe_problem};
use crate::engine::reconciliation::Discrepancy;
use crate::engine::work::Work;
use crate::ledger::{Ledger, LedgerError};
use crate::platform::clock::{Clock, ClockReading};
use crate::platform::entropy::Entropy;
use crate::provider::{Provider, ProviderError, ProviderResponse};
use crate::sink::Sink;

/// What all keys share.
#[derive(Clone)]
pub struct Services {
    /// Who issues credentials.
    pub provider: Arc<dyn Provider>,
    /// Where everything is recorded.
    pub ledger: Ledger,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and labels.
    pub entropy: Arc<dyn Entropy>,
    /// How many keys are worked on at once.
    pub max_in_flight: usize,
    /// How often every row is compared with the provider.
    pub reconcile_every: Duration,
    /// What is wrong with the daemon as a whole.
    pub conditions: Arc<Conditions>,
    /// Who counts what is recorded.
    pub observer: Arc<dyn ChangeObserver>,
    /// Who is told of what.
    pub subscriptions: Arc<Subscriptions>,
    /// Looks a time zone up by its name, for timetables that stand in the
    /// ledger.
    pub find_zone: fn(&str) -> Option<TimeZone>,
}

/// A configured key with its sinks ready to take secrets.
pub struct ManagedKey {
    /// Its name.
    pub name: KeyName,
    /// When and how patiently it rotates.
    pub policy: Arc<KeyPolicy>,
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
    pub fn required_sinks(&self) -> Vec<SinkId> {
        let required = self.sinks.iter().filter(|(_, required)| *required);
        required.map(|(sink, _)| sink.id().clone()).collect()
    }

    /// Every sink, and whether a rotation waits for it.
    #[must_use]
    pub fn all_sinks(&self) -> Vec<(SinkId, bool)> {
        let sinks = self.sinks.iter();
        sinks
            .map(|(sink, required)| (sink.id().clone(), *required))
            .collect()
    }
}

/// A person's wish that a key rotates now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRequest {
    /// Who it is, and why.
    pub operator: Option<OperatorNote>,
    /// Whether every older credential is to go as soon as the new one is
    /// current; what is open is given up first.
    pub revoke_previous: bool,
}

impl RotationRequest {
    /// Both this and one that came later: nobody's leaked key is spared because
    /// somebody else wished for less.
    pub(super) fn merge(self, later: Self) -> Self {
        match (self.revoke_previous, later.revoke_previous) {
            (true, false) => self,
            (_, _) => later,
        }
    }
}

/// What whoever is put to work has to know of the process, as it was then.
pub(crate) struct RunContext {
    pub(crate) stopping: Arc<AtomicBool>,
    /// Whether rotations are begun by schedule.
    pub(crate) is_scheduling: bool,
    /// When nobody was there last to see a firing.
    pub(crate) downtime: Downtime,
    /// When the clocks were looked at for that.
    pub(crate) clock_reading: ClockReading,
    /// When the ledger was compared with the provider: before that nothing is
    /// begun, since it may be an older one.
    pub(crate) reconciled_at: Option<Timestamp>,
}

/// One key at work. It goes in with what is known and comes out with what is
/// known then.
pub(crate) struct Worker {
    pub(crate) services: Arc<Services>,
    pub(crate) context: RunContext,
    pub(crate) managed: Option<Arc<ManagedKey>>,
    pub(crate) state: KeyState,
    pub(crate) in_flight: Option<InFlight>,
    /// What was done and could not be recorded yet.
    pub(crate) unrecorded: Vec<Change>,
    pub(crate) request: Option<RotationRequest>,
    pub(crate) commands: VecDeque<PendingCommand>,
    pub(crate) discrepancies: VecDeque<Discrepancy>,
    /// Whether the ledger is still to be made to agree with the sinks.
    pub(crate) needs_sink_sync: bool,
    /// Whether the sinks are to be asked if they still have what they took.
    pub(crate) needs_drift_check: bool,
    /// Whether to come back after the present step: the key is configured
    /// otherwise.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Whether it is to be compared again before this key can be begun.
    pub(crate) needs_reconciliation: bool,
    /// When there is something to do again.
    pub(crate) wake_at: Option<Timestamp>,
    /// When the key is rotated next.
    pub(crate) rotates_at: Option<Timestamp>,
    /// Whether a create was unclear: the provider is swept again soon.
    pub(crate) needs_follow_up: bool,
}

/// How long to wait with a key whose rows make no sense.
const CORRUPT_PAUSE: Duration = Duration::from_secs(300);

impl Worker {
    /// Does `first`, and then what there is to do until that is nothing now.
    pub(crate) async fn run(mut self, first: Work) -> Self {
        let mut next = Some(first);
        while let Some(task) = next {
            next = match self.perform(task).await {
                Ok(true) if !self.is_interrupted() => self.next_work(),
                Ok(_) => None,
                Err(error) => {
                    self.handle_ledger_error(&error).await;
                    None
                }
            };
        }
        self
    }

    fn is_interrupted(&self) -> bool {
        let signs = [&self.context.stopping, &self.interrupted];
        signs.iter().any(|sign| sign.load(Ordering::Relaxed))
    }

    /// The ledger would not record. That is the whole daemon's matter, unless
    /// it is this key's rows that make no sense.
    async fn handle_ledger_error(&mut self, error: &LedgerError) {
        if !error.is_content_error() {
            let text = describe_problem(Condition::Ledger, &error.to_string());
            self.services.conditions.raise(Condition::Ledger, &text);
            return;
        }
        tracing::error!(key = %self.state.key, "{error}");
        self.wake_at = Some(time::after(self.now(), CORRUPT_PAUSE));
        // A commit whose answer was lost may have been done all the same:
        // what stands there counts.
        if let Ok(state) = self.services.ledger.key_state(&self.state.key).await
            && state != self.state
        {
            self.state = state;
            self.unrecorded.clear();
            self.wake_at = Some(self.now());
        }
    }

    /// Records `changes` after whatever could not be recorded before, and
    /// tells the log. What cannot be recorded now is kept.
    pub(crate) async fn record(&mut self, changes: Vec<Change>) -> Result<(), LedgerError> {
        self.unrecorded.extend(changes);
        let now = self.now();
        let changes = self.unrecorded.clone();
        let recorded = self
            .services
            .ledger
            .record(&self.state.key, now, changes)
            .await;
        if recorded.is_err() {
            // What has had no effect outside yet is dropped and decided anew;
            // everything else has happened, and is recorded when it can be.
            self.unrecorded.retain(|change| !change.is_decision());
        }
        let state = recorded?;
        let told = std::mem::take(&mut self.unrecorded);
        let before = std::mem::replace(&mut self.state, state);
        crate::engine::log::log_changes(&before, &self.state, &told, now);
        self.services.observer.observe(&self.state, &told);
        self.drop_unneeded_secret();
        Ok(())
    }

    /// Drops the secret as soon as nobody is to get it any more.
    fn drop_unneeded_secret(&mut self) {
        let Some(memory) = &self.in_flight else {
            return;
        };
        let needed = self
            .state
            .rotation(&memory.rotation)
            .is_some_and(|rotation| {
                rotation.phase.is_open()
                    || (rotation.phase == Phase::Current
                        && rotation.deliveries.iter().any(Delivery::needs_secret))
            });
        if !needed {
            self.in_flight = None;
        }
    }

    /// Notes that the provider said something, and what time it has.
    pub(crate) fn observe_response<T>(&self, outcome: &Result<ProviderResponse<T>, ProviderError>) {
        let date = match outcome {
            Ok(answer) => answer.server_time,
            Err(error) if error.server_time.is_some() => error.server_time,
            Err(_) => return,
        };
        let monotonic = self.services.clock.monotonic();
        self.services
            .conditions
            .observe_response(date, self.now(), monotonic);
    }

    /// Whether a failure is the whole daemon's matter. Then it is told once
    /// for all keys, and counts for none of them.
    pub(crate) async fn is_global_failure(&self, error: &ProviderError) -> bool {
        probe::is_global_failure(&self.services, error).await
    }

    /// Records that a rotation failed or could not be begun.
    pub(crate) fn back_off_key(&self, problem: &str, after: Option<Duration>) -> Change {
        let attempt = self.state.attempt.saturating_add(1);
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let creates = policy.map_or(1, |policy| policy.max_creates_per_day);
        let pause = key_backoff_delay(attempt, creates).max(after.unwrap_or_default());
        Change::from(KeyBackoff {
            attempt,
            retry_at: time::after(self.now(), pause),
            problem: problem.to_owned(),
        })
    }

    /// Records that the present step of a rotation failed.
    pub(crate) fn schedule_retry(
        &self,
        rotation: &RotationId,
        waiting: RetryClass,
        error: &str,
        after: Option<Duration>,
    ) -> Change {
        let attempt = self
            .state
            .rotation(rotation)
            .map_or(0, |found| found.attempt)
            + 1;
        let pause = backoff_delay(waiting, attempt).max(after.unwrap_or_default());
        Change::from(RetrySchedule {
            rotation: rotation.clone(),
            attempt,
            retry_at: time::after(self.now(), pause),
            error: error.to_owned(),
        })
    }

    /// From when an overlap counts that begins now.
    pub(crate) fn overlap_start(&self) -> Timestamp {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let now = clock.now();
        let from = conditions.overlap_start(now, clock.monotonic());
        time::next_whole_second(from.unwrap_or(now))
    }

    /// Whether the provider has told its time: before that nothing that counts
    /// from now is recorded, and nothing is revoked either.
    pub(crate) fn has_provider_time(&self) -> bool {
        let (conditions, clock) = (&self.services.conditions, &self.services.clock);
        let from = conditions.overlap_start(clock.now(), clock.monotonic());
        from.is_some()
    }

    pub(crate) fn overlap(&self) -> Duration {
        let managed = self.managed.as_deref();
        overlap_or_default(managed.map(|managed| managed.policy.as_ref()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }
}
