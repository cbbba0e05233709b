//! Why the ledger could not be opened, read or written.

use std::path::PathBuf;
use std::sync::Arc;

use crate::core::rotation::IllegalTransition;

/// Why the ledger could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Another process is the writer.
    #[error("cannot become the writer of {}: {holder} holds it; \
             stop it first, or ask it to do this", .path.display())]
    Held {
        /// The ledger.
        path: PathBuf,
        /// Who holds it, as it said itself.
        holder: String,
    },
    /// The lock file cannot be made or opened.
    #[error("cannot open the lock file {}: {why}; rekeyd must be able to write in that folder", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It was written by a newer rekeyd.
    #[error("the ledger {} has version {found}, and this rekeyd knows versions up to {known}; \
             install the newer rekeyd again: a ledger is never taken back", .path.display())]
    Newer {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// It belongs to another provider or organization.
    #[error("the ledger {} belongs to {theirs}, and the configuration names {ours}; \
             set base-url and organization back, or give this provider a ledger of its own", .path.display())]
    Foreign {
        /// The ledger.
        path: PathBuf,
        /// Whom it belongs to.
        theirs: String,
        /// Whom the configuration names.
        ours: String,
    },
    /// It was last written on another machine.
    #[error("the ledger {} was last written on another machine; if that one has stopped for good, \
             `rekeyd run --take-over` makes it this one's; two machines with one ledger revoke \
             each other's keys", .path.display())]
    OtherMachine {
        /// The ledger.
        path: PathBuf,
    },
    /// The file is no SQLite database.
    #[error("{} is not a ledger: it is no SQLite database; move it away or correct [ledger] path", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// It has no rows yet, or the file is missing, and only reading was asked.
    #[error("there is no ledger at {}; `rekeyd run` makes it", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be opened or prepared.
    #[error("cannot open the ledger {}: {why}", .path.display())]
    Open {
        /// The ledger.
        path: PathBuf,
        /// What SQLite or the system said.
        why: String,
    },
    /// Something recorded cannot be what this program recorded.
    #[error("the ledger says what rekeyd never writes: {0}; restore it from a backup")]
    Corrupt(String),
    /// A change that the table of transitions does not know.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// SQLite refused to read or write.
    #[error("cannot write the ledger: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// SQLite ended the transaction that this change was part of.
    #[error("cannot write the ledger: a change beside this one ended the transaction ({0})")]
    BatchLost(String),
    /// The writer is gone: the process is ending.
    #[error("cannot write the ledger: its writer has stopped")]
    Stopped,
}

impl LedgerError {
    /// Whether it is about what stands in the ledger, and not about whether it
    /// can be written at all.
    #[must_use]
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Illegal(_) => true,
            Self::Sqlite(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
            }
            Self::Held { .. }
            | Self::Lock { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::OtherMachine { .. }
            | Self::NotADatabase { .. }
            | Self::Missing { .. }
            | Self::Open { .. }
            | Self::BatchLost(_)
            | Self::Stopped => false,
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}
