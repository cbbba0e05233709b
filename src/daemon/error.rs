//! The errors of a process that works on keys.

use crate::core::os_error;
use crate::daemon::exposure::ExposedLedger;
use crate::daemon::key_names::UnfitNames;
use crate::daemon::ownership::LedgerOwnerError;
use crate::ledger::LedgerError;

/// The error that keeps a process from starting to work on keys, or from continuing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The ledger cannot be opened, read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The scheduler that wakes the event loop does not start.
    #[error("cannot start the scheduler: {0}")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// The metrics cannot be registered.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The ledger belongs to another user.
    #[error(transparent)]
    WrongLedgerOwner(#[from] LedgerOwnerError),
    /// Another user could exchange the ledger.
    #[error(transparent)]
    ExposedLedger(#[from] ExposedLedger),
    /// The configuration has names that do not fit the ledger.
    #[error(transparent)]
    UnfitNames(#[from] UnfitNames),
    /// Signal handlers cannot be installed.
    #[error("cannot listen for signals: {}", os_error::describe(.0))]
    Signals(#[from] std::io::Error),
}
