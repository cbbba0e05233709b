//! The contract between the engine and a sink. The engine's decisions rest on
//! its obligations.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::{DeliveryError, Drift, SinkError, SinkProblem};
use super::target_content::TargetContent;
use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::secret::Secret;
use crate::core::state::{CredentialMetadata, FileAccess, FileNote, LeftFile, ModeNarrowing};

/// A receiver of secrets.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Returns its name and target.
    fn id(&self) -> &SinkId;

    /// Returns the destination that its deliveries and preflights are counted
    /// at. The engine limits the concurrent ones of each destination
    /// separately.
    fn destination(&self) -> Destination;

    /// Lists every problem that this host can detect without writing to the
    /// target and without a connection: folders, permissions, files with
    /// secrets. Each message says how to repair it.
    async fn check(&self) -> Vec<SinkProblem>;

    /// Checks whether a delivery could succeed now: [`Sink::check`] and, for
    /// a remote target, a connection (TCP and TLS, no request). The engine
    /// calls it before it creates a credential.
    async fn preflight(&self) -> Result<(), SinkError>;

    /// Checks whether the target still holds the expected secret, as far
    /// as this host can read it. Returns `None` also where it cannot. Many
    /// sinks are checked concurrently; MUST return within the sink's timeout.
    async fn check_drift(&self, expected: &ExpectedSecret) -> Option<Drift> {
        let _ = expected;
        None
    }

    /// Returns the check of [`Sink::check_drift`] as work that blocks its thread, if it
    /// is short and needs no connection. It may hang with its file system.
    fn blocking_drift_check(&self, expected: &ExpectedSecret) -> Option<BlockingDriftCheck> {
        let _ = expected;
        None
    }

    /// Reads what the target holds, regardless of who wrote it, as far as this host can
    /// read it. MUST return within the sink's timeout.
    async fn inspect(&self) -> TargetContent {
        TargetContent::Unknown
    }

    /// Returns the inspection of what the target really holds as work that blocks its
    /// thread, if it is short and needs no connection. It may hang with its file system.
    fn blocking_inspection(&self) -> Option<BlockingInspection> {
        None
    }

    /// Whether an inspection of [`Sink::blocking_inspection`] may block. One that cannot
    /// runs without a thread of its own.
    fn inspection_may_block(&self) -> bool {
        true
    }

    /// Whether the folder of the target was exchanged for one of another owner, who decides
    /// what is in it. Blocks, and may hang with its file system.
    fn has_foreign_folder(&self) -> bool {
        false
    }

    /// Notes who could get the file that the last recorded delivery left. The owner of the
    /// present file gets a new secret only if the configuration names him, or if the file was
    /// his then.
    fn note_recorded_access(&self, recorded: Option<FileAccess>) {
        let _ = recorded;
    }

    /// Returns who can get the target's file, if no other user could have put it there.
    /// `None` also for a target that is no file. MUST return within the sink's timeout.
    async fn look_at_access(&self) -> Option<FileAccess> {
        None
    }

    /// Returns how owner, group and mode of the target's file differ from what the last
    /// delivery left, `recorded`, or from the configuration: as work that blocks its thread,
    /// and that changes nothing. `None` for a target that is no file.
    fn blocking_access_check(&self, recorded: Option<FileAccess>) -> Option<BlockingAccessCheck> {
        let _ = recorded;
        None
    }

    /// Narrows the mode of the target's file where it is wider than the configuration or
    /// `recorded` says, and returns that and every other difference. MUST return within the
    /// sink's timeout.
    async fn keep_access(&self, recorded: Option<FileAccess>) -> AccessReport {
        let _ = recorded;
        AccessReport::default()
    }

    /// Whether the sink replaces the credential that rekeyd itself works with.
    fn rotates_self_credential(&self) -> bool {
        false
    }

    /// Whether a program runs after each delivery. The sink has accepted a
    /// secret only when that program has succeeded.
    fn has_on_change(&self) -> bool {
        false
    }

    /// Runs the program of [`Sink::has_on_change`] once, within its own
    /// timeout.
    ///
    /// # Errors
    /// Why the program has to run again; masked.
    async fn run_on_change(&self, delivered: &DeliveredPayload) -> Result<(), SinkProblem> {
        let _ = delivered;
        Ok(())
    }

    /// Delivers once, within the sink's own timeout.
    ///
    /// # Errors
    /// Whether the sink may hold the secret; when in doubt, it may.
    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError>;

    /// Delivers as [`Sink::deliver`], and returns the file that it left, if it wrote one.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    async fn deliver_with_note(
        &self,
        payload: &Payload,
    ) -> Result<Option<LeftFile>, DeliveryError> {
        self.deliver(payload).await.map(|()| None)
    }

    /// Returns the keys in the target's file, if that is the file that a delivery left,
    /// unchanged. Anything else is unknown.
    async fn read_noted(&self, note: FileNote) -> TargetContent {
        let _ = note;
        TargetContent::Unknown
    }
}

/// Returns how a target differs from what its sink accepted. It blocks its thread.
pub type BlockingDriftCheck = Box<dyn FnOnce() -> Option<Drift> + Send>;

/// Returns how the access to a target's file differs. It blocks its thread.
pub type BlockingAccessCheck = Box<dyn FnOnce() -> AccessReport + Send>;

/// How owner, group and mode of a target's file differ from what a delivery left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessReport {
    /// The wider mode that is narrowed.
    pub narrowed: Option<ModeNarrowing>,
    /// What differs besides, and what to do about it.
    pub problem: Option<String>,
}

/// Returns what a target holds. It blocks its thread.
pub type BlockingInspection = Box<dyn FnOnce() -> TargetContent + Send>;

/// Where concurrent deliveries and preflights are counted and limited together: one
/// receiver that hangs delays no sinks of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A file of this host.
    File,
    /// A program of this host.
    Program,
    /// A receiver on the network.
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
    /// Returns the endpoint that requests to `url` connect to.
    #[must_use]
    pub fn from_url(url: &url::Url) -> Self {
        Self::Endpoint {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
        }
    }
}

/// The new credential of one rotation, the same in each attempt to deliver it.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The key.
    pub key: KeyName,
    /// The rotation.
    pub rotation: RotationId,
    /// The rotation's number; it grows with each rotation of the key.
    pub sequence: u64,
    /// The credential's name at the provider.
    pub label: Label,
    /// The credential's id, times and redacted value.
    pub credential: CredentialMetadata,
    /// The secret.
    pub secret: Secret,
    /// When a request with the secret succeeded: the webhook's `timestamp`.
    pub verified_at: Timestamp,
    /// The credential that was current when this one was verified.
    pub previous: Option<ReplacedCredential>,
}

/// A delivery that the sink accepted, without the secret, since another process
/// may have made it.
#[derive(Debug, Clone)]
pub struct DeliveredPayload {
    /// The key.
    pub key: KeyName,
    /// The rotation.
    pub rotation: RotationId,
    /// The rotation's number; it grows with each rotation of the key.
    pub sequence: u64,
    /// The credential.
    pub credential: CredentialMetadata,
}

/// The credential that a new one replaces.
#[derive(Debug, Clone)]
pub struct ReplacedCredential {
    /// Its id.
    pub id: CredentialId,
    /// The time before which the schedule does not revoke it.
    pub not_before: Timestamp,
}
