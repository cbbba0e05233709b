//! What the engine asks of a sink, with the obligations that its decisions rest
//! on.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::{DeliveryError, Drift, SinkError, SinkProblem};
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::secret::Secret;
use crate::core::state::CredentialMetadata;

/// A place that takes secrets.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Its name and target.
    fn id(&self) -> &SinkId;

    /// What its deliveries and preflights wait for: the places of each
    /// destination are limited apart.
    fn destination(&self) -> Destination;

    /// What is wrong with it as far as this host can see without writing to it
    /// or connecting anywhere: folders, rights, files with secrets. Every
    /// problem at once, each in words that say what would be right.
    async fn inspect(&self) -> Vec<SinkProblem>;

    /// Whether a delivery would have a chance now: [`Sink::inspect`] and, for
    /// a remote one, a connection (TCP and TLS, nothing sent). Asked before a
    /// credential is made.
    async fn preflight(&self) -> Result<(), SinkError>;

    /// Checks whether the target still holds the secret of `credential`, as far
    /// as that can be seen from here. None also where nothing can be seen. Many
    /// sinks are checked at one time; MUST return within the sink's timeout.
    async fn check_drift(&self, credential: &CredentialMetadata) -> Option<Drift> {
        let _ = credential;
        None
    }

    /// Whether it replaces the credential that rekeyd itself works with.
    fn rotates_self_credential(&self) -> bool {
        false
    }

    /// Whether something is to run once it has taken a secret: until that has
    /// ended well, nothing is accepted.
    fn has_on_change(&self) -> bool {
        false
    }

    /// Runs that, within its own timeout. The error says in words, masked, why
    /// it is to be run again.
    async fn run_on_change(&self, taken: &DeliveredPayload) -> Result<(), SinkProblem> {
        let _ = taken;
        Ok(())
    }

    /// Delivers once, within the sink's own timeout. The error says whether
    /// the sink may have taken it; when in doubt, it may.
    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError>;
}

/// What a delivery waits for while it runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A file of this host.
    File,
    /// A program of this host.
    Program,
    /// A receiver, by what one connection goes to.
    Endpoint {
        /// The URL's scheme.
        scheme: String,
        /// The URL's host.
        host: String,
        /// The URL's port, or the scheme's.
        port: u16,
    },
}

impl Destination {
    /// The endpoint that requests to `url` go to.
    #[must_use]
    pub fn of_url(url: &url::Url) -> Self {
        Self::Endpoint {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
        }
    }
}

/// What is delivered: one rotation's new credential. The same for each try.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The key.
    pub key: KeyName,
    /// The rotation.
    pub rotation: RotationId,
    /// Grows with each rotation of the key.
    pub sequence: u64,
    /// The credential's name at the provider.
    pub label: Label,
    /// What is known of the credential.
    pub credential: CredentialMetadata,
    /// The secret.
    pub secret: Secret,
    /// When the secret was seen to work: the webhook's `timestamp`.
    pub verified_at: Timestamp,
    /// The credential that was current when this one was verified.
    pub previous: Option<ReplacedCredential>,
}

/// What a sink has taken, without the secret: it may have been another process
/// that delivered it.
#[derive(Debug, Clone)]
pub struct DeliveredPayload {
    /// The key.
    pub key: KeyName,
    /// The rotation.
    pub rotation: RotationId,
    /// Grows with each rotation of the key.
    pub sequence: u64,
    /// The credential.
    pub credential: CredentialMetadata,
}

/// The credential that a new one replaces.
#[derive(Debug, Clone)]
pub struct ReplacedCredential {
    /// Its id.
    pub id: CredentialId,
    /// It is not revoked by the schedule before this.
    pub not_before: Timestamp,
}
