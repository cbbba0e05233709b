//! rekeyd's own admin credential: the file that it is read from at the next
//! start, and the credential in use.
//!
//! The file is replaced first. Whatever ends the process after that, the next
//! one starts with the new credential; whatever ends it before, with the old
//! one, which nobody revokes until a newer one was delivered.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::names::SinkId;
use crate::core::record::CredentialFacts;
use crate::core::secret::CredentialCell;
use crate::sink::{DeliveryError, Look, Parcel, Sink};

/// Replaces the credential that rekeyd works with.
pub struct OwnCredential {
    file: Arc<dyn Sink>,
    cell: CredentialCell,
}

impl OwnCredential {
    /// `file` replaces the file that the credential is read from; `cell` is
    /// the one that the provider's client reads.
    #[must_use]
    pub fn new(file: Arc<dyn Sink>, cell: CredentialCell) -> Self {
        Self { file, cell }
    }
}

#[async_trait]
impl Sink for OwnCredential {
    fn id(&self) -> &SinkId {
        self.file.id()
    }

    async fn inspect(&self) -> Vec<String> {
        self.file.inspect().await
    }

    async fn preflight(&self) -> Result<(), String> {
        self.file.preflight().await
    }

    fn lost(&self, credential: &CredentialFacts) -> Look {
        self.file.lost(credential)
    }

    fn is_own(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<(), DeliveryError> {
        self.file.deliver(parcel).await?;
        let previous = parcel.previous.as_ref();
        let previous = previous.map(|previous| previous.id.clone());
        self.cell.change_over(parcel.secret.clone(), previous);
        Ok(())
    }
}
