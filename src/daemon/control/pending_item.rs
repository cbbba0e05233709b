//! The part of a request that awaits the engine's work on one key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::core::duration;
use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::daemon::control::command_outcome::{continuation, receive};
use crate::daemon::control::leak_wait::{LeakFollowUp, LeakWait};
use crate::engine::Engine;
use crate::engine::operator_command::CommandError;

/// The part of a request for one key.
pub(super) struct PendingItem {
    pub(super) subject: String,
    pub(super) awaiting: WaitCondition,
    deadline: Instant,
    timeout: Duration,
}

/// The event that completes an item.
pub(super) enum WaitCondition {
    /// A rotation with a greater sequence.
    Rotation {
        key: KeyName,
        previous_sequence: u64,
    },
    /// A rotation after a leak, and the end of what may have leaked.
    Leak(LeakWait),
    /// The result of an operator command.
    Command {
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
        }
    }

    /// Returns the result, if the item is complete or has timed out.
    pub(super) fn poll(&mut self, engine: &Engine) -> Option<Result<String, String>> {
        let outcome = match &mut self.awaiting {
            WaitCondition::Rotation {
                key,
                previous_sequence,
            } => rotation_result(engine, key, *previous_sequence),
            WaitCondition::Leak(leak) => leak.poll(engine),
            WaitCondition::Command { result, .. } => receive(result),
        };
        let is_timed_out = || Instant::now() >= self.deadline;
        outcome.or_else(|| {
            is_timed_out()
                .then(|| self.timeout_result(engine))
                .flatten()
        })
    }

    /// Describes the end of a process that has not finished this item, for `reason`, and
    /// whether the next process goes on with it.
    pub(super) fn unfinished_message(&self, engine: &Engine, reason: &str) -> String {
        match &self.awaiting {
            WaitCondition::Rotation { key, .. } if engine.pending_rotation(key).is_some() => {
                format!(
                    "{key} is not rotated yet: {reason}; the next `rekeyd run` or `rekeyd once` \
                     goes on with it"
                )
            }
            WaitCondition::Leak(leak) => leak.unfinished_message(engine, reason),
            WaitCondition::Rotation { .. } | WaitCondition::Command { .. } => reason.to_owned(),
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
                    "{key} was not delivered within {timeout}; `rekeyd status {key}` shows what becomes \
                 of it"
                )))
            }
            WaitCondition::Leak(leak) => Some(Err(
                leak.unfinished_message(engine, &format!("not done within {timeout}"))
            )),
            // It ends by the timeouts of its own requests.
            WaitCondition::Command { started, .. } if started.load(Ordering::Relaxed) => None,
            WaitCondition::Rotation { .. } | WaitCondition::Command { .. } => {
                Some(Err(format!("not done within {timeout}")))
            }
        }
    }
}

/// Returns the result of a requested rotation; `None` while it is open.
fn rotation_result(
    engine: &Engine,
    key: &KeyName,
    previous_sequence: u64,
) -> Option<Result<String, String>> {
    let state = engine.state(key)?;
    let condition = engine.active_conditions_of(key).into_iter().next();
    // A rotation that cannot start is reported at once.
    if engine.has_pending_request(key) && condition.is_none() || state.open_rotation().is_some() {
        return None;
    }
    if state
        .current()
        .is_some_and(|current| current.sequence > previous_sequence)
    {
        return Some(Ok(format!("{key}: rotated{}", hold_warning(engine, state))));
    }
    let problem = condition.map(|active| active.problem);
    let problem = problem.or_else(|| engine.request_problem(key).map(str::to_owned));
    let problem = problem.or_else(|| state.last_error.clone());
    let problem = problem.unwrap_or_else(|| "its rotation did not end".to_owned());
    Some(Err(match continuation(engine, key) {
        Some(continuation) => format!("{key} is not rotated yet: {problem}; {continuation}"),
        None => format!("{key} was not rotated: {problem}"),
    }))
}

/// Returns a warning of the credentials that this rotation would revoke and
/// that are held.
fn hold_warning(engine: &Engine, state: &KeyState) -> String {
    let now = engine.now();
    let live = state.live.iter();
    let held = live.filter(|rotation| {
        rotation.revoke_now && rotation.hold_until.is_some_and(|until| until > now)
    });
    let ids: Vec<_> = held
        .filter_map(|rotation| rotation.credential.as_ref())
        .map(|credential| credential.id.as_str())
        .collect();
    if ids.is_empty() {
        return String::new();
    }
    format!(
        "\nwarning: {} stays until its hold is over; `rekeyd release {}` ends it",
        ids.join(", "),
        state.key
    )
}
