//! The failure of a command, and its exit code.

use crate::config::{Problem, ProblemKind};
use crate::daemon::error::ServiceError;
use crate::ledger::LedgerError;

/// The failure of a command, by the exit codes that it may lead to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration has problems; the text lists them.
    #[error("{0}")]
    Configuration(String),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The event loop cannot start or continue.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
    /// A failure whose message is already printed.
    #[error("")]
    Reported,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// The exit codes of the contract.
pub(super) mod exit_code {
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const TRY_AGAIN: u8 = 75;
    pub(crate) const CONFIGURATION: u8 = 78;
}

impl Failure {
    /// Returns the failure for the problems of a configuration. It counts as
    /// one of the configuration if nothing but an edit repairs one of them.
    pub(super) fn from_problems(problems: &[Problem]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let text = lines.join("\n");
        if problems
            .iter()
            .any(|problem| problem.kind == ProblemKind::Configuration)
        {
            Self::Configuration(text)
        } else {
            Self::Other(text)
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => exit_code::CONFIGURATION,
            Self::Ledger(error) | Self::Service(ServiceError::Ledger(error)) => {
                ledger_exit_code(error)
            }
            Self::Service(
                ServiceError::Scheduler(_)
                | ServiceError::Signals(_)
                | ServiceError::Metrics(_)
                | ServiceError::WrongLedgerOwner(_),
            )
            | Self::Other(_)
            | Self::Reported => exit_code::FAILED,
        }
    }
}

pub(super) fn ledger_exit_code(error: &LedgerError) -> u8 {
    match error {
        LedgerError::Locked { .. } => exit_code::TRY_AGAIN,
        LedgerError::IdentityMismatch { .. } | LedgerError::OtherHost { .. } => {
            exit_code::CONFIGURATION
        }
        LedgerError::LockFile { .. }
        | LedgerError::LocksUnsupported { .. }
        | LedgerError::NewerVersion { .. }
        | LedgerError::NotMigrated { .. }
        | LedgerError::Migration { .. }
        | LedgerError::KeptFile { .. }
        | LedgerError::Copy { .. }
        | LedgerError::NotADatabase { .. }
        | LedgerError::NotFound { .. }
        | LedgerError::Open { .. }
        | LedgerError::ForeignLog { .. }
        | LedgerError::Damaged { .. }
        | LedgerError::NoRoom { .. }
        | LedgerError::CheckpointNote(_)
        | LedgerError::Corrupt(_)
        | LedgerError::Rejected(_)
        | LedgerError::Database(_)
        | LedgerError::BatchAborted(_)
        | LedgerError::WriterStopped => exit_code::FAILED,
    }
}
