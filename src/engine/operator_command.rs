//! Commands of an operator about a key or one of its credentials.
//! `effects/operator.rs` executes them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, oneshot};

use crate::core::authority::Authority;
use crate::core::change::OperatorNote;
use crate::core::duration;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::reported_time::ReportedTime;
use crate::core::shell;
use crate::core::time;
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

/// What becomes of a credential that neither its name nor a working key in a sink's file
/// shows to be one of the key that is to adopt it, or that another key has recorded under
/// another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrecognized {
    /// It is not adopted.
    Refused,
    /// It is adopted if this is the name that the provider shows, and held until a person
    /// releases it.
    Named(Option<String>),
    /// It is adopted like any other, for a caller that knows whose it is.
    Adopted,
}

/// The name under which a key has recorded a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedName {
    /// The key.
    pub key: KeyName,
    /// The name.
    pub name: String,
}

impl fmt::Display for RecordedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} recorded it as {:?}", self.key, self.name)
    }
}

/// A credential that a person has to confirm before a key adopts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrecognizedCredential {
    /// The key.
    pub key: KeyName,
    /// The credential.
    pub credential: CredentialId,
    /// The name that the provider shows, empty if there is none.
    pub name: String,
    /// The other name that another key has recorded, if that is why it has to be confirmed.
    pub recorded: Option<RecordedName>,
    /// The other credentials whose secrets end as the key that a sink's file holds.
    pub same_end: Vec<CredentialId>,
    /// Whether the command was given with `--force`.
    pub force: bool,
    /// Its owner, as the provider shows it.
    pub owner: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it was used last.
    pub last_used: ReportedTime,
    /// The present time.
    pub now: Timestamp,
}

/// Describes why a credential with this name is not recognized as one of `key`. A sink's file
/// may hold the secret of any of those in `same_end`.
pub(super) fn describe_unrecognized(
    key: &KeyName,
    name: &str,
    same_end: &[CredentialId],
) -> String {
    let no_label = format!("its name {name:?} does not look like a label of {key}");
    if same_end.is_empty() {
        return format!("{no_label}, and no file of its sinks holds its secret");
    }
    format!(
        "{no_label}, and the key in a file of its sinks ends like the secrets of other credentials \
         too ({})",
        join_few(same_end)
    )
}

impl fmt::Display for UnrecognizedCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, credential, name) = (&self.key, &self.credential, &self.name);
        let ago = |at: Timestamp| {
            let age = duration::to_human_text(time::until(at, self.now));
            format!("at {} ({age} ago)", time::to_text(at))
        };
        let belongs = match &self.owner {
            Some(owner) => format!("that it belongs to {owner},"),
            None => "no owner, and that it".to_owned(),
        };
        let created = self.created_at.map(ago);
        let created = created.as_deref().unwrap_or("at an unknown time");
        let used = match self.last_used {
            ReportedTime::At(at) => format!("last used {}", ago(at)),
            ReportedTime::None => "never used".to_owned(),
            ReportedTime::Unreadable => "last used at an unknown time".to_owned(),
        };
        let why = match &self.recorded {
            Some(recorded) => format!(
                "the provider shows it as {name:?}, but {recorded}, so it may be another \
                 credential now"
            ),
            None => describe_unrecognized(key, name, &self.same_end),
        };
        let force = if self.force { " --force" } else { "" };
        write!(
            formatter,
            "{credential} was not adopted: {why}; the provider shows {belongs} was created {created} \
             and was {used}; hint: if rekeyd is to revoke it one day, run `rekeyd adopt {key} \
             {credential}{force} --name {} --yes`; it is held until `rekeyd release {credential}`",
            shell::quote(name)
        )
    }
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
        /// What the operator may do.
        authority: Authority,
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
        /// What the operator may do.
        authority: Authority,
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
        /// What the operator may do.
        authority: Authority,
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
    /// Retire the key: never rotate it, and revoke its credentials one overlap later.
    Retire {
        /// Whether its credentials are revoked at once instead.
        is_immediate: bool,
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Rotate a retired key again.
    UndoRetirement {
        /// The operator of the request, and the reason.
        operator: Option<OperatorNote>,
    },
    /// Adopt a credential that was created manually.
    Adopt {
        /// The credential.
        credential: CredentialId,
        /// Whether to adopt it although a sink's target holds another key.
        force: bool,
        /// What becomes of it if nothing shows that it is a key's own.
        unrecognized: Unrecognized,
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
            Self::Retire { is_immediate, .. } => *is_immediate,
            Self::Hold { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::UndoRetirement { .. } => false,
        }
    }
}

/// The reason why an operator's command failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The state of the key or the credential does not allow it.
    #[error("{0}")]
    Rejected(String),
    /// A person has to confirm the credential first.
    #[error("{0}")]
    Unrecognized(Box<UnrecognizedCredential>),
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
