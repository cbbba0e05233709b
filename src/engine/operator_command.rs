//! Commands of an operator about a key or one of its credentials.
//! `effects/operator.rs` executes them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, oneshot};

use crate::core::change::OperatorNote;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::ledger::LedgerError;
use crate::provider::{ListedCredential, ProviderError};

/// The provider's credentials, listed once for the commands of many keys.
pub type SharedListing = Arc<OnceCell<Vec<ListedCredential>>>;

/// A key whose files hold a credential that it did not adopt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHolder {
    /// The key.
    pub key: KeyName,
    /// The credential.
    pub credential: CredentialId,
    /// The sinks whose files hold it, and whether each is required.
    pub sinks: Vec<(SinkId, bool)>,
}

/// A command about a key or one of its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorCommand {
    /// Revoke a credential now; with `force` even if a sink may hold it.
    Revoke {
        /// The credential.
        credential: CredentialId,
        /// Whether sinks may be left with a revoked credential.
        force: bool,
        /// The name that root has confirmed of a credential that the provider shows under
        /// another name than the recorded one.
        name: Option<String>,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// End every present credential of the key at a deadline, because it may have leaked,
    /// and rotate it.
    EndPresent {
        /// The time until the deadline.
        within: Duration,
        /// Whether to end also what rekeyd may work with, what is held, and what the
        /// provider shows under another name.
        force: bool,
        /// Whether the rotation may replace keys that this ledger did not write.
        may_replace: bool,
        /// The other keys whose files hold one of the credentials, although they did not
        /// adopt it: they adopt it, and are rotated.
        holders: Vec<FileHolder>,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Keep the schedule from revoking a credential before `until`; with none, end such
    /// a hold. Without a credential, it applies to all live ones.
    Hold {
        /// The credential; none for all live ones.
        credential: Option<CredentialId>,
        /// The end of the hold.
        until: Option<Timestamp>,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Start no scheduled rotation before `until`; with none, before
    /// [`OperatorCommand::Resume`].
    Pause {
        /// The end of the pause.
        until: Option<Timestamp>,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Start scheduled rotations again.
    Resume {
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Adopt a credential that was created manually.
    Adopt {
        /// The credential.
        credential: CredentialId,
        /// Whether to adopt it although a sink's target holds another key.
        force: bool,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Adopt the credentials whose secrets the key's sinks hold.
    AdoptFromSinks {
        /// Whether to adopt them, instead of only naming them.
        apply: bool,
        /// The provider's credentials, listed once for all keys.
        listing: SharedListing,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
}

impl OperatorCommand {
    /// Returns whether the command sends requests to the provider.
    pub(super) const fn uses_provider(&self) -> bool {
        match self {
            Self::Revoke { .. }
            | Self::EndPresent { .. }
            | Self::Adopt { .. }
            | Self::AdoptFromSinks { .. } => true,
            Self::Hold { .. } | Self::Pause { .. } | Self::Resume { .. } => false,
        }
    }
}

/// The reason why an operator's command failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The state of the key or the credential does not allow it.
    #[error("{0}")]
    Rejected(String),
    /// The provider failed.
    #[error("{0}; hint: try again")]
    Provider(#[from] ProviderError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger could not be written before the command: its condition is active, with
    /// this problem.
    #[error("nothing was changed: {0}")]
    LedgerCondition(String),
}

/// A command whose caller waits for its result.
pub struct PendingCommand {
    /// The command.
    pub command: OperatorCommand,
    /// Set when execution starts: from then on the caller does not report that the
    /// command was not executed.
    pub started: Arc<AtomicBool>,
    /// Receives the result, as text for people.
    pub reply: oneshot::Sender<Result<String, CommandError>>,
}
