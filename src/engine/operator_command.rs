//! Commands of an operator about a key or one of its credentials.
//! `effects/operator.rs` executes them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::OperatorNote;
use crate::core::ids::CredentialId;
use crate::ledger::LedgerError;
use crate::provider::ProviderError;

/// A command about a key or one of its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorCommand {
    /// Revoke a credential now; with `force` even if a sink may hold it.
    Revoke {
        /// The credential.
        credential: CredentialId,
        /// Whether sinks may be left with a revoked credential.
        force: bool,
        /// Who requested it, and why.
        operator: Option<OperatorNote>,
    },
    /// Keep the schedule from revoking a credential before `until`; with none, let
    /// it revoke the credential again. Without a credential: all that are alive.
    Hold {
        /// The credential.
        credential: Option<CredentialId>,
        /// Not before this.
        until: Option<Timestamp>,
        /// Who requested it, and why.
        operator: Option<OperatorNote>,
    },
    /// Start no scheduled rotation before `until`; with none, before
    /// [`OperatorCommand::Resume`].
    Pause {
        /// Not before this.
        until: Option<Timestamp>,
        /// Who requested it, and why.
        operator: Option<OperatorNote>,
    },
    /// Start scheduled rotations again.
    Resume {
        /// Who requested it, and why.
        operator: Option<OperatorNote>,
    },
    /// Adopt a credential that was created manually.
    Adopt {
        /// The credential.
        credential: CredentialId,
        /// Who requested it, and why.
        operator: Option<OperatorNote>,
    },
}

impl OperatorCommand {
    /// Whether it sends requests to the provider.
    pub(super) const fn uses_provider(&self) -> bool {
        match self {
            Self::Revoke { .. } | Self::Adopt { .. } => true,
            Self::Hold { .. } | Self::Pause { .. } | Self::Resume { .. } => false,
        }
    }
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
    /// The command.
    pub command: OperatorCommand,
    /// Set when execution starts: from then on the caller is never told that it was
    /// not done.
    pub started: Arc<AtomicBool>,
    /// Receives what was done, or why it was not.
    pub reply: oneshot::Sender<Result<String, CommandError>>,
}
