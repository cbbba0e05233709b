//! Why a command failed, and its exit code.

use crate::config::{Problem, ProblemKind};
use crate::daemon::error::ServiceError;
use crate::ledger::LedgerError;

/// Why a command failed, with what the exit code depends on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration has problems; they are printed.
    #[error("{0}")]
    Configuration(String),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The daemon's loop cannot go on.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Any other failure, in words.
    #[error("{0}")]
    Other(String),
    /// A problem that is reported already.
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
    /// Returns the failure of a configuration with problems. Only a problem that
    /// nothing but an edit repairs counts as one of the configuration.
    pub(super) fn from_problems(problems: &[Problem]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let text = lines.join("\n");
        if problems
            .iter()
            .any(|one| one.kind == ProblemKind::Configuration)
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
        | LedgerError::NewerVersion { .. }
        | LedgerError::NotMigrated { .. }
        | LedgerError::Migration { .. }
        | LedgerError::KeptFile { .. }
        | LedgerError::NotADatabase { .. }
        | LedgerError::NotFound { .. }
        | LedgerError::Open { .. }
        | LedgerError::Corrupt(_)
        | LedgerError::Rejected(_)
        | LedgerError::Database(_)
        | LedgerError::BatchAborted(_)
        | LedgerError::WriterStopped => exit_code::FAILED,
    }
}
