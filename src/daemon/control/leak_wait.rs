//! The part of a request that awaits the end of what may have leaked of one key, and the
//! rotation that replaces it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::core::condition::Condition;
use crate::core::decide::revocation::{LeakWait as Wait, describe_leak, leak_wait};
use crate::core::health::most_urgent_error;
use crate::core::ids::KeyName;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;
use crate::daemon::control::command_outcome::{continuation, receive};
use crate::engine::operator_command::CommandError;
use crate::engine::{Engine, RotationRequest};

/// How long after a deadline its revocations may take before the reply says what they wait
/// for.
const REPORT_DELAY: Duration = Duration::from_secs(3);

/// Another key that shares a leaked credential, and is rotated by the same request.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    pub(super) key: KeyName,
    /// The sequence of its current rotation before the request.
    pub(super) previous_sequence: u64,
}

/// What follows when the deadline is set.
pub(super) struct LeakFollowUp {
    pub(super) within: Duration,
    pub(super) followers: Vec<Follower>,
    pub(super) request: RotationRequest,
    pub(super) no_wait: bool,
}

/// The end of what may have leaked of one key.
pub(super) struct LeakWait {
    pub(super) key: KeyName,
    previous_sequence: u64,
    /// The command that sets the deadline, until it has ended.
    command: Option<oneshot::Receiver<Result<String, CommandError>>>,
    /// What follows when it has succeeded.
    follow_up: Option<LeakFollowUp>,
    has_succeeded: bool,
    no_wait: bool,
    /// When the reply mentions a delivery that is still pending.
    report_at: Instant,
    /// Whether the key only shares a credential of the one that leaked.
    is_follower: bool,
}

impl LeakWait {
    /// Returns the part that begins with a command.
    pub(super) fn of_command(
        key: KeyName,
        previous_sequence: u64,
        within: Duration,
        command: oneshot::Receiver<Result<String, CommandError>>,
        follow_up: LeakFollowUp,
    ) -> Self {
        Self {
            report_at: Instant::now() + within + REPORT_DELAY,
            key,
            previous_sequence,
            command: Some(command),
            has_succeeded: false,
            no_wait: follow_up.no_wait,
            follow_up: Some(follow_up),
            is_follower: false,
        }
    }

    /// Returns the part of a key that shares a credential of another one.
    pub(super) fn of_follower(follower: Follower, within: Duration) -> Self {
        Self {
            report_at: Instant::now() + within + REPORT_DELAY,
            key: follower.key,
            previous_sequence: follower.previous_sequence,
            command: None,
            follow_up: None,
            has_succeeded: true,
            no_wait: false,
            is_follower: true,
        }
    }

    /// Returns what follows, once, when the command has succeeded.
    pub(super) fn take_follow_up(&mut self) -> Option<LeakFollowUp> {
        self.follow_up.take_if(|_| self.has_succeeded)
    }

    /// Returns the result, if it is known.
    pub(super) fn poll(&mut self, engine: &Engine) -> Option<Result<String, String>> {
        if let Some(command) = &mut self.command {
            let result = receive(command)?.map_err(|failure| failure.message);
            self.command = None;
            let message = match result {
                Ok(message) => message,
                Err(problem) => return Some(Err(problem)),
            };
            self.has_succeeded = true;
            if self.no_wait {
                let key = &self.key;
                return Some(Ok(format!(
                    "{message}; hint: follow it with `rekeyd status {key}`"
                )));
            }
        }
        self.result(engine)
    }

    fn result(&self, engine: &Engine) -> Option<Result<String, String>> {
        // None while a worker has the key.
        let state = engine.state(&self.key)?;
        let current = state.current().map_or(0, |current| current.sequence);
        let is_rotated = current > self.previous_sequence;
        let is_ended = leaked(state).next().is_none();
        if is_rotated && is_ended {
            let key = &self.key;
            let ended = if self.is_follower {
                "the shared credentials are revoked"
            } else {
                "its earlier credentials are revoked"
            };
            return Some(Ok(format!("{key}: rotated, and {ended}")));
        }
        // A command that works by itself delivers until its time is over.
        if is_ended && engine.is_scheduling() && Instant::now() >= self.report_at {
            let problem = most_urgent_error(state);
            let problem = problem.unwrap_or_else(|| "the sinks have not accepted it".to_owned());
            return Some(Err(self.unfinished_message(
                engine,
                &format!(
                    "its earlier credentials are revoked, but the new one is not delivered: \
                     {problem}"
                ),
            )));
        }
        if !is_rotated && let Some(problem) = self.start_problem(engine, state) {
            return Some(Err(self.unfinished_message(engine, &problem)));
        }
        let is_kept = self.is_overdue(engine, state);
        is_kept.then(|| Err(self.unfinished_message(engine, "the deadline has passed")))
    }

    /// Returns why the new credential is not made yet, if it waits for something else than
    /// its next step.
    fn start_problem(&self, engine: &Engine, state: &KeyState) -> Option<String> {
        if state.open_rotation().is_some() {
            return None;
        }
        let mut conditions = engine.conditions_before_work(&self.key).into_iter();
        let blocking = conditions.find(|active| match active.condition {
            Condition::Clock | Condition::Reconciliation | Condition::DeleteLimit => false,
            Condition::Ledger
            | Condition::Credential
            | Condition::Organization
            | Condition::Provider
            | Condition::Quota
            | Condition::CreateRefusal
            | Condition::CreateLimit
            | Condition::ReadLimit => true,
        });
        if let Some(active) = blocking {
            return Some(active.problem);
        }
        if engine.has_pending_request(&self.key) {
            return None;
        }
        if let Some(problem) = engine.request_problem(&self.key) {
            return Some(problem.to_owned());
        }
        let is_waiting = state.retry_at.is_some_and(|at| at > engine.now());
        state.last_error.clone().filter(|_| is_waiting)
    }

    /// Returns whether a credential is alive well after its deadline, and not because it
    /// is being revoked. A command that works by itself waits for its rotation first.
    fn is_overdue(&self, engine: &Engine, state: &KeyState) -> bool {
        let now = engine.now();
        if !engine.is_scheduling() && state.open_rotation().is_some() {
            return false;
        }
        leaked(state).any(|row| {
            let is_past = row
                .deadline
                .is_some_and(|deadline| time::after(deadline.at, REPORT_DELAY) <= now);
            is_past && leak_wait(row, state, now) != Some(Wait::Request)
        })
    }

    /// Describes what is not done, for `reason`: what each credential waits for, and
    /// whether rekeyd continues.
    pub(super) fn unfinished_message(&self, engine: &Engine, reason: &str) -> String {
        let key = &self.key;
        if !self.has_succeeded {
            return reason.to_owned();
        }
        let mut message = format!("{key}: not finished yet: {reason}");
        if let Some(state) = engine.state(key) {
            let now = engine.now();
            for line in leaked(state).filter_map(|row| describe_leak(row, state, now)) {
                message.push_str(&format!("; {line}"));
            }
        }
        let continuation = continuation(engine, key);
        let continuation = continuation.unwrap_or_else(|| {
            let continues = if engine.is_scheduling() {
                "rekeyd continues"
            } else {
                "the next `rekeyd run` or `rekeyd once` continues"
            };
            format!("{continues}; hint: follow it with `rekeyd status {key}`")
        });
        format!("{message}; {continuation}")
    }
}

fn leaked(state: &KeyState) -> impl Iterator<Item = &Rotation> {
    state.live.iter().filter(|row| row.deadline.is_some())
}
