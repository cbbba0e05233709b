//! The problems of a sink, of a delivery and of a target that has drifted.

use std::fmt;
use std::time::Duration;

use crate::platform::BlockingError;
use crate::platform::process::{ExitKind, ProcessExit};

/// One problem of a sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkProblem {
    /// The kind of problem.
    pub kind: SinkProblemKind,
    /// The failure, its reason and its remedy; masked, as it may quote a program
    /// or a receiver.
    pub message: String,
}

/// The kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkProblemKind {
    /// Files, folders, accounts or programs of this host do not satisfy the
    /// sink.
    Host,
    /// The target does not accept a connection.
    Unreachable,
    /// A program ran and failed.
    Program,
    /// A file system or a program did not respond in time.
    TimedOut,
    /// Earlier work on the same target is still running.
    Busy,
    /// A bug in rekeyd.
    Internal,
}

impl SinkProblem {
    /// Returns a problem of this host.
    #[must_use]
    pub const fn host(message: String) -> Self {
        Self {
            kind: SinkProblemKind::Host,
            message,
        }
    }

    /// Returns the problem of a failed run of a program, described by
    /// `message`.
    #[must_use]
    pub const fn from_exit(exit: &ProcessExit, message: String) -> Self {
        let kind = match exit.kind {
            ExitKind::NotStarted(_) => SinkProblemKind::Host,
            ExitKind::Code(_) | ExitKind::Signal(_) | ExitKind::Failed(_) => {
                SinkProblemKind::Program
            }
            ExitKind::TimedOut => SinkProblemKind::TimedOut,
        };
        Self { kind, message }
    }
}

impl From<BlockingError> for SinkProblem {
    fn from(error: BlockingError) -> Self {
        let kind = match error {
            BlockingError::TimedOut { .. } | BlockingError::Exhausted { .. } => {
                SinkProblemKind::TimedOut
            }
            BlockingError::Panicked { .. } => SinkProblemKind::Internal,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

/// At least one problem that makes a sink reject deliveries now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkError {
    /// Every problem found.
    pub problems: Vec<SinkProblem>,
}

impl SinkError {
    /// Fails if there is a problem.
    ///
    /// # Errors
    /// With all of them.
    pub fn if_any(problems: Vec<SinkProblem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self { problems })
        }
    }
}

impl From<SinkProblem> for SinkError {
    fn from(problem: SinkProblem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SinkError {}

/// The difference between a target and the secret delivered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The kind of difference.
    pub kind: DriftKind,
    /// A description of the difference.
    pub message: String,
}

/// The kinds of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// The target is gone.
    Missing,
    /// The path is now another kind of file, such as a symbolic link.
    Replaced,
    /// It does not hold the secret that was delivered.
    OtherContent,
}

/// The failure of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// Whether the sink may hold the secret.
    pub acceptance: Acceptance,
    /// The reason; masked, as it may quote the receiver.
    pub message: String,
    /// The pause that the receiver asks for before the next attempt.
    pub retry_after: Option<Duration>,
}

impl DeliveryError {
    /// Returns an error without a pause.
    #[must_use]
    pub const fn new(acceptance: Acceptance, message: String) -> Self {
        Self {
            acceptance,
            message,
            retry_after: None,
        }
    }

    /// Returns the error of a sink that certainly does not hold the secret and
    /// may accept it at the next attempt.
    #[must_use]
    pub const fn not_accepted(message: String) -> Self {
        Self::new(Acceptance::NotAccepted, message)
    }

    /// Returns the error of a sink that may hold the secret.
    #[must_use]
    pub const fn uncertain(message: String) -> Self {
        Self::new(Acceptance::Uncertain, message)
    }
}

/// Whether a sink may hold the secret after a failed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It certainly does not; a retry may succeed soon.
    NotAccepted,
    /// It certainly does not, and a retry will not succeed soon.
    Rejected,
    /// It may.
    Uncertain,
}
