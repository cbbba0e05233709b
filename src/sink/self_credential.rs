//! rekeyd's own admin credential: the file that it is read from at the next
//! start, and the credential in use.
//!
//! The file is replaced first. Whatever ends the process after that, the next
//! one starts with the new credential; whatever ends it before, with the old
//! one, which nobody revokes until a newer one was delivered.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::ids::SinkId;
use crate::core::secret::ActiveCredential;
use crate::core::state::CredentialMetadata;
use crate::sink::{DeliveryError, DriftCheck, Payload, Sink};

/// Replaces the credential that rekeyd works with.
pub struct SelfCredentialSink {
    file: Arc<dyn Sink>,
    active_credential: ActiveCredential,
}

impl SelfCredentialSink {
    /// `file` replaces the file that the credential is read from; `cell` is
    /// the one that the provider's client reads.
    #[must_use]
    pub fn new(file: Arc<dyn Sink>, cell: ActiveCredential) -> Self {
        Self {
            file,
            active_credential: cell,
        }
    }
}

#[async_trait]
impl Sink for SelfCredentialSink {
    fn id(&self) -> &SinkId {
        self.file.id()
    }

    async fn inspect(&self) -> Vec<String> {
        self.file.inspect().await
    }

    async fn preflight(&self) -> Result<(), String> {
        self.file.preflight().await
    }

    fn check_drift(&self, credential: &CredentialMetadata) -> DriftCheck {
        self.file.check_drift(credential)
    }

    fn rotates_own_credential(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Payload) -> Result<(), DeliveryError> {
        self.file.deliver(parcel).await?;
        let previous = parcel.previous.as_ref();
        let previous = previous.map(|previous| previous.id.clone());
        self.active_credential
            .switch_to(parcel.secret.clone(), previous);
        Ok(())
    }
}
