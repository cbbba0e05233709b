//! The failure of a command, and its exit code.

use crate::cli::unproven_daemon::UnprovenDaemon;
use crate::config::{Problem, ProblemKind};
use crate::core::os_error;
use crate::daemon::error::ServiceError;
use crate::ledger::LedgerError;

/// The failure of a command, by the exit codes that it may lead to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration or the host has problems.
    #[error("{}", join_lines(problems))]
    Problems {
        /// All of them.
        problems: Vec<Problem>,
        /// How they are printed.
        format: ProblemFormat,
    },
    /// The running daemon has refused the configuration.
    #[error("{0}")]
    Configuration(String),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The event loop cannot start or continue.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Another process has the ledger, and may do the work of the command if it is asked to.
    #[error("{0}; if that process is the daemon, `rekeyd rotate KEY` has it rotate a key now")]
    OtherWriter(LedgerError),
    /// The running daemon has no time for an answer now.
    #[error("{0}")]
    Busy(String),
    /// The process at the control socket may be another one than the daemon.
    #[error(transparent)]
    Unproven(Box<UnprovenDaemon>),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
    /// A failure whose message is already printed.
    #[error("")]
    Reported,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(os_error::describe(&error))
    }
}

/// The forms in which the problems of a configuration are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProblemFormat {
    /// With a snippet of the line on a terminal, otherwise as `short`
    #[default]
    Auto,
    /// One line per problem: FILE:LINE: OPTION: MESSAGE; HINT
    Short,
}

fn join_lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Whether nothing but an edit of the file repairs the problem.
fn needs_edit(problem: &Problem) -> bool {
    problem.kind == ProblemKind::Configuration
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
    pub(super) fn from_problems(problems: Vec<Problem>) -> Self {
        Self::Problems {
            problems,
            format: ProblemFormat::Auto,
        }
    }

    /// Returns the failure, with its problems printed in this form.
    pub(super) fn in_format(mut self, wanted: ProblemFormat) -> Self {
        if let Self::Problems { format, .. } = &mut self {
            *format = wanted;
        }
        self
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Problems { problems, .. } if problems.iter().any(needs_edit) => {
                exit_code::CONFIGURATION
            }
            Self::Problems { .. } => exit_code::FAILED,
            Self::Configuration(_) | Self::Service(ServiceError::UnfitNames(_)) => {
                exit_code::CONFIGURATION
            }
            Self::Ledger(error)
            | Self::OtherWriter(error)
            | Self::Service(ServiceError::Ledger(error)) => ledger_exit_code(error),
            Self::Service(
                ServiceError::Scheduler(_)
                | ServiceError::Signals(_)
                | ServiceError::Metrics(_)
                | ServiceError::ExposedLedger(_)
                | ServiceError::WrongLedgerOwner(_),
            )
            | Self::Busy(_)
            | Self::Unproven(_)
            | Self::Other(_)
            | Self::Reported => exit_code::FAILED,
        }
    }
}

fn ledger_exit_code(error: &LedgerError) -> u8 {
    match error {
        LedgerError::Locked { .. } => exit_code::TRY_AGAIN,
        LedgerError::IdentityMismatch { .. }
        | LedgerError::OtherHost { .. }
        | LedgerError::OtherConfiguration { .. } => exit_code::CONFIGURATION,
        LedgerError::LockFile { .. }
        | LedgerError::LocksUnsupported { .. }
        | LedgerError::NewerVersion { .. }
        | LedgerError::NotMigrated { .. }
        | LedgerError::Migration { .. }
        | LedgerError::KeptFile { .. }
        | LedgerError::Copy { .. }
        | LedgerError::Archive { .. }
        | LedgerError::NotADatabase { .. }
        | LedgerError::NotFound { .. }
        | LedgerError::Gone { .. }
        | LedgerError::Emptied { .. }
        | LedgerError::FolderMissing { .. }
        | LedgerError::Open { .. }
        | LedgerError::ForeignLog { .. }
        | LedgerError::ForeignObject { .. }
        | LedgerError::MissingObject { .. }
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
