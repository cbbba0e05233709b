//! What an operator asks to be done with a key or one of its credentials,
//! beside the schedule. `effects/operator.rs` does it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::OperatorNote;
use crate::core::ids::CredentialId;
use crate::ledger::LedgerError;
use crate::provider::ProviderError;

/// Something to do with one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorCommand {
    /// Revoke it now; with `force` also when a sink may hold it.
    Revoke {
        /// The credential.
        credential: CredentialId,
        /// Whether a sink may be left with a dead one.
        force: bool,
        /// Who asked, and why.
        operator: Option<OperatorNote>,
    },
    /// The schedule does not revoke it before `until`, or with none that it
    /// may again. Without a credential: all that are alive.
    Hold {
        /// The credential.
        credential: Option<CredentialId>,
        /// Not before this.
        until: Option<Timestamp>,
        /// Who asked, and why.
        operator: Option<OperatorNote>,
    },
    /// Begin nothing by schedule before `until`, or with none before a
    /// [`OperatorCommand::Resume`].
    Pause {
        /// Not before this.
        until: Option<Timestamp>,
        /// Who asked, and why.
        operator: Option<OperatorNote>,
    },
    /// Rotate by schedule again.
    Resume {
        /// Who asked, and why.
        operator: Option<OperatorNote>,
    },
    /// Take a credential made by hand into the ledger.
    Adopt {
        /// The credential.
        credential: CredentialId,
        /// Who asked, and why.
        operator: Option<OperatorNote>,
    },
}

/// Why an operator's command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The state of the key or the credential does not allow it.
    #[error("{0}")]
    Rejected(String),
    /// The provider failed.
    #[error("{0}; try again")]
    Provider(#[from] ProviderError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A command, and the caller that waits for its result.
pub struct PendingCommand {
    /// What is to be done.
    pub command: OperatorCommand,
    /// Set once it is being done: from then on it cannot be told as not done.
    pub started: Arc<AtomicBool>,
    /// What was done, or why not.
    pub reply: oneshot::Sender<Result<String, CommandError>>,
}
