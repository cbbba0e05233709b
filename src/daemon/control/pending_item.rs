//! The part of a request that awaits the engine's work on one key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::duration;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::{KeyState, Rotation};
use crate::core::time;
use crate::daemon::control::command_outcome::{continuation, not_rotated_message, receive};
use crate::daemon::control::leak_wait::{LeakFollowUp, LeakWait};
use crate::daemon::control::protocol::Wait;
use crate::engine::Engine;
use crate::engine::operator_command::CommandError;

/// The part of a request for one key.
pub(super) struct PendingItem {
    pub(super) subject: String,
    pub(super) awaiting: WaitCondition,
    deadline: Instant,
    timeout: Duration,
    /// The name of a credential that a person has to confirm before it is adopted.
    pub(super) name_to_confirm: Option<String>,
    /// Since when the ledger is known to have a problem.
    ledger_failed_at: Option<Instant>,
}

/// The time for which what has begun may still end, once the ledger is known to have a
/// problem.
const LEDGER_GRACE: Duration = Duration::from_secs(2);

/// The event that completes an item.
pub(super) enum WaitCondition {
    /// A rotation with a greater sequence.
    Rotation {
        key: KeyName,
        previous_sequence: u64,
        /// When it was requested.
        requested_at: Timestamp,
    },
    /// A rotation after a leak, and the end of what may have leaked.
    Leak(LeakWait),
    /// The result of an operator command.
    Command {
        /// The key that executes it.
        key: KeyName,
        result: oneshot::Receiver<Result<String, CommandError>>,
        started: Arc<AtomicBool>,
    },
}

impl PendingItem {
    /// Returns an item that times out after `timeout`.
    pub(super) fn new(subject: String, awaiting: WaitCondition, timeout: Duration) -> Self {
        Self {
            subject,
            awaiting,
            deadline: Instant::now() + timeout,
            timeout,
            name_to_confirm: None,
            ledger_failed_at: None,
        }
    }

    /// Returns the key that the item waits for.
    pub(super) const fn key(&self) -> &KeyName {
        match &self.awaiting {
            WaitCondition::Rotation { key, .. } | WaitCondition::Command { key, .. } => key,
            WaitCondition::Leak(leak) => &leak.key,
        }
    }

    /// Returns the result, if the item is complete or has timed out.
    pub(super) fn poll(&mut self, engine: &Engine) -> Option<Result<String, String>> {
        let outcome = match &mut self.awaiting {
            WaitCondition::Rotation {
                key,
                previous_sequence,
                requested_at,
            } => rotation_result(engine, key, *previous_sequence, *requested_at),
            WaitCondition::Leak(leak) => leak.poll(engine),
            WaitCondition::Command { result, .. } => receive(result).map(|received| {
                received.map_err(|failure| {
                    self.name_to_confirm = failure.name_to_confirm;
                    failure.message
                })
            }),
        };
        if outcome.is_some() {
            return outcome;
        }
        if let Some(problem) = self.lasting_ledger_problem(engine) {
            return Some(Err(self.interrupted_message(engine, &problem)));
        }
        let is_timed_out = Instant::now() >= self.deadline;
        is_timed_out.then(|| self.timeout_result(engine)).flatten()
    }

    /// Returns the problem of a ledger that stops the item. What a worker has begun may
    /// still end for [`LEDGER_GRACE`].
    fn lasting_ledger_problem(&mut self, engine: &Engine) -> Option<String> {
        let Some(problem) = engine.ledger_problem() else {
            self.ledger_failed_at = None;
            return None;
        };
        let failed_at = *self.ledger_failed_at.get_or_insert_with(Instant::now);
        let is_parked = engine.state(self.key()).is_some();
        (is_parked || failed_at.elapsed() >= LEDGER_GRACE).then_some(problem)
    }

    /// Describes what a problem of the ledger has stopped.
    fn interrupted_message(&self, engine: &Engine, problem: &str) -> String {
        let key = self.key();
        match &self.awaiting {
            WaitCondition::Rotation { .. } => {
                let continuation = continuation(engine, key)
                    .unwrap_or_else(|| format!("hint: follow it with `rekeyd status {key}`"));
                format!("{key}: not rotated yet: {problem}; {continuation}")
            }
            WaitCondition::Leak(leak) => leak.unfinished_message(engine, problem),
            WaitCondition::Command { .. } => format!(
                "{problem}; the command may have been executed before that; hint: check `rekeyd \
                 history {key}` once that is resolved"
            ),
        }
    }

    /// Returns what the item waits for now.
    pub(super) fn awaited(&self, engine: &Engine) -> Option<Wait> {
        Some(Wait {
            about: self.subject.clone(),
            awaits: engine.awaited_by(self.key())?,
        })
    }

    /// Describes the end of a process that has not finished this item, for `reason`, and
    /// whether the next process continues it.
    pub(super) fn unfinished_message(&self, engine: &Engine, reason: &str) -> String {
        match &self.awaiting {
            WaitCondition::Rotation { key, .. } => not_rotated_message(engine, key, reason),
            WaitCondition::Leak(leak) => leak.unfinished_message(engine, reason),
            WaitCondition::Command { .. } => reason.to_owned(),
        }
    }

    /// Returns what follows from a command that has just succeeded.
    pub(super) fn take_follow_up(&mut self) -> Option<LeakFollowUp> {
        match &mut self.awaiting {
            WaitCondition::Leak(leak) => leak.take_follow_up(),
            WaitCondition::Rotation { .. } | WaitCondition::Command { .. } => None,
        }
    }

    /// Returns the result after the timeout. A command that has started is
    /// never reported as not done.
    fn timeout_result(&self, engine: &Engine) -> Option<Result<String, String>> {
        let timeout = duration::to_text(self.timeout);
        match &self.awaiting {
            WaitCondition::Rotation { key, .. } if !engine.has_pending_request(key) => {
                Some(Err(format!(
                    "{key}: not delivered within {timeout}; hint: follow it with `rekeyd status \
                     {key}`"
                )))
            }
            WaitCondition::Leak(leak) => Some(Err(
                leak.unfinished_message(engine, &format!("not finished within {timeout}"))
            )),
            // It ends by the timeouts of its own requests.
            WaitCondition::Command { started, .. } if started.load(Ordering::Relaxed) => None,
            WaitCondition::Rotation { .. } | WaitCondition::Command { .. } => {
                Some(Err(format!("not finished within {timeout}")))
            }
        }
    }
}

/// Returns the result of a requested rotation; `None` while it is open.
fn rotation_result(
    engine: &Engine,
    key: &KeyName,
    previous_sequence: u64,
    requested_at: Timestamp,
) -> Option<Result<String, String>> {
    let state = engine.state(key)?;
    let condition = engine.conditions_before_request(key).into_iter().next();
    // A rotation that cannot start is reported at once.
    if engine.has_pending_request(key) && condition.is_none() || state.open_rotation().is_some() {
        return None;
    }
    let current = state.current();
    if let Some(current) = current.filter(|current| current.sequence > previous_sequence) {
        let done = describe_rotation(key, current, requested_at);
        return Some(Ok(format!("{done}{}", kept_warnings(engine, state))));
    }
    let held_back = || engine.conditions_before_work(key).into_iter().next();
    let problem = condition.or_else(held_back).map(|active| active.problem);
    let problem = problem.or_else(|| engine.request_problem(key).map(str::to_owned));
    let problem = problem.or_else(|| state.last_error.clone());
    let problem = problem.unwrap_or_else(|| "the rotation did not finish".to_owned());
    Some(Err(not_rotated_message(engine, key, &problem)))
}

/// Describes the rotation that answers a request. One that had started before it created its
/// credential before, which a person may have wanted to replace.
fn describe_rotation(key: &KeyName, current: &Rotation, requested_at: Timestamp) -> String {
    let requested_at = time::whole_seconds(requested_at);
    let created_at = current.credential().and_then(|created| created.created_at);
    // The create of an open rotation may have followed the request.
    if current.started_at >= requested_at || created_at.is_some_and(|at| at >= requested_at) {
        return format!("{key}: rotated");
    }
    format!(
        "{key}: completed the rotation that was already open, which started at {}; hint: run \
         `rekeyd rotate {key}` again for a credential that is created now",
        time::to_text(current.started_at)
    )
}

/// Returns a line of warning for each credential that was to end with this rotation, and
/// stays.
fn kept_warnings(engine: &Engine, state: &KeyState) -> String {
    let kept = state.live.iter();
    let kept = kept.filter(|row| row.revoke_now && !row.phase.is_open());
    let warnings = kept.filter_map(|row| {
        let id = &row.credential()?.id;
        let why = why_kept(engine, state, row, id);
        Some(format!("\nwarning: {id} stays live{why}"))
    });
    warnings.collect()
}

fn why_kept(engine: &Engine, state: &KeyState, row: &Rotation, id: &CredentialId) -> String {
    let key = &state.key;
    let is_held = row.hold(engine.now()).is_some();
    if let Some(error) = row.error.as_ref().filter(|_| !is_held) {
        return format!(": {error}");
    }
    let others = engine.other_keys_of(id, key);
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (also used by {})", join_few(others)),
    };
    if is_held {
        format!(" until its hold ends{others}; hint: `rekeyd release {id}` ends it")
    } else {
        format!(" for now{others}; hint: `rekeyd status {key}` shows what it waits for")
    }
}
