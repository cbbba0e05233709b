//! What is wrong with a sink, with a delivery, or with what a sink accepted.

use std::fmt;

use crate::platform::BlockingError;
use crate::platform::process::{ExitKind, ProcessExit};

/// One problem of a sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkProblem {
    /// What kind of problem it is.
    pub kind: SinkProblemKind,
    /// What failed, why, and what to do; masked, as it may quote a program or a
    /// receiver.
    pub message: String,
}

/// The kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkProblemKind {
    /// Files, folders, accounts or programs of this host are not as the sink
    /// needs them.
    Host,
    /// The target does not accept a connection.
    Unreachable,
    /// A program ran and failed.
    Program,
    /// A file system or a program gave no answer in time.
    TimedOut,
    /// Earlier work on the same target has not ended yet.
    Busy,
    /// A mistake in rekeyd.
    Internal,
}

impl SinkProblem {
    /// A problem of this host.
    #[must_use]
    pub const fn host(message: String) -> Self {
        Self {
            kind: SinkProblemKind::Host,
            message,
        }
    }

    /// A failed run of a program, described by `message`.
    #[must_use]
    pub const fn of_exit(exit: &ProcessExit, message: String) -> Self {
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

/// Why a sink would not accept a delivery now: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkError {
    /// Every problem that was found.
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

/// How a target differs from what was delivered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What kind of difference it is.
    pub kind: DriftKind,
    /// The difference, in words.
    pub message: String,
}

/// The kinds of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// The target is gone.
    Missing,
    /// Something else stands in its place, such as a symbolic link.
    Replaced,
    /// It holds something else than the secret that was delivered.
    OtherContent,
}

/// Why a delivery was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// What the sink did with the secret.
    pub acceptance: Acceptance,
    /// Why, in words, masked: it may quote the receiver.
    pub message: String,
}

impl DeliveryError {
    /// The sink certainly has not accepted the secret; the next try may help.
    #[must_use]
    pub const fn not_accepted(message: String) -> Self {
        Self {
            acceptance: Acceptance::NotAccepted,
            message,
        }
    }

    /// The sink may have accepted the secret.
    #[must_use]
    pub const fn uncertain(message: String) -> Self {
        Self {
            acceptance: Acceptance::Uncertain,
            message,
        }
    }
}

/// What a sink that did not accept did with the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Certainly nothing; trying again may help soon.
    NotAccepted,
    /// Certainly nothing, and it will not by being asked again soon.
    Rejected,
    /// It may have taken it.
    Uncertain,
}
