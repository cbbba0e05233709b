//! What the decision needs to know of the provider and of this process.

use jiff::Timestamp;

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
}

/// The provider's answer about one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// The provider does not have it.
    Gone,
    /// It is alive.
    Live {
        /// The last use that the provider recorded.
        last_used_at: Option<Timestamp>,
    },
}

/// Whether rekeyd itself authenticates with a credential. It is observed after a
/// request that makes rekeyd switch to a newer one if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialUsage {
    /// rekeyd does not use it.
    Unused,
    /// rekeyd used it before the one in use, which works, and would fall back to
    /// it.
    Previous,
    /// rekeyd uses it, or may.
    InUse,
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
}
