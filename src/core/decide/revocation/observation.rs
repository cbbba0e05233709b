//! What the decision needs to know of the provider and of this process.

use jiff::Timestamp;

use crate::core::active_credential::CredentialUsage;
use crate::core::reported_time::ReportedTime;

/// The observations for one decision. A part that was not observed yet is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// The provider's answer about the credential.
    pub credential: Option<RemoteAnswer>,
    /// The provider's time in that answer, if the answer had one.
    pub server_time: Option<Timestamp>,
    /// Whether rekeyd authenticates with the credential.
    pub usage: Option<CredentialUsage>,
    /// Whether the provider has the credential that replaced it.
    pub successor_exists: Option<bool>,
    /// What the files of the configured sinks show of it, although no row says so.
    pub files: Option<FileEvidence>,
}

/// What the files of configured sinks show of a credential that no row has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileEvidence {
    /// None of them holds it.
    Absent,
    /// One that cannot be seen may hold it.
    Unseen,
    /// One of them holds it.
    Holding,
}

/// The provider's answer about one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// The provider does not have it.
    Gone,
    /// It is alive.
    Live {
        /// The last use that the provider recorded.
        last_use: ReportedTime,
        /// Whether it is the credential of its row, by its name.
        identity: Identity,
    },
}

/// Whether a credential that the provider shows is that of its row: an id in a row may
/// come from an answer that was not true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// It bears the recorded name, or none and has the recorded time of its creation,
    /// which proves it.
    Confirmed,
    /// It bears another name, which an operator has confirmed.
    ConfirmedByOperator,
    /// It bears another name.
    OtherName,
    /// It bears no name, and nothing else shows what it is.
    Unproven,
}

impl Identity {
    /// Compares the recorded name and time of creation of a credential with those that
    /// the provider shows. `confirmed` is the name that an operator has confirmed.
    #[must_use]
    pub fn compare(
        recorded: (Option<&str>, Option<Timestamp>),
        shown: (Option<&str>, Option<Timestamp>),
        confirmed: Option<&str>,
    ) -> Self {
        let is_same_time = recorded.1.is_some() && recorded.1 == shown.1;
        match (recorded.0, shown.0) {
            (Some(recorded), Some(shown)) if recorded == shown => Self::Confirmed,
            (_, None) if is_same_time => Self::Confirmed,
            (_, shown) if confirmed.is_some() && confirmed == Some(shown.unwrap_or_default()) => {
                Self::ConfirmedByOperator
            }
            (_, Some(_)) => Self::OtherName,
            (_, None) => Self::Unproven,
        }
    }
}

/// A part of an [`Observation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservationPart {
    /// [`Observation::credential`] and [`Observation::server_time`].
    Credential,
    /// [`Observation::usage`].
    Usage,
    /// [`Observation::successor_exists`].
    Successor,
    /// [`Observation::files`].
    Files,
}
