//! Finds out whether a credential that the provider does not show is really gone.
//!
//! A 404 proves little: a gateway may hide a credential from a caller, a replica may lag,
//! and the admin key of another organization sees none of this ledger's credentials. A
//! live credential that was recorded as revoked would be unknown from then on.

use crate::core::condition::Condition;
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, Label};
use crate::core::state::{CredentialMetadata, Rotation};
use crate::engine::worker::Worker;
use crate::provider::{Effect, ErrorKind, ListedCredential, ProviderError, RetryAdvice};

impl Worker {
    /// Checks, after the provider answered 404 for a credential, that it is gone: the list
    /// lacks it as well, and the provider shows another credential of the key, if there is
    /// one. With `label`, no other credential may have that name, either: the answer to the
    /// create may have shown an id that no credential has.
    ///
    /// # Errors
    /// The list contradicts the 404, the provider shows none of the key's credentials, or
    /// it does not answer.
    pub(super) async fn confirm_absence(
        &self,
        id: &CredentialId,
        label: Option<&Label>,
    ) -> Result<(), ProviderError> {
        let listed = self.list_without(id).await?;
        let namesake = label.and_then(|label| {
            let mut listed = listed.iter();
            listed.find(|listed| listed.name.as_deref() == Some(label.as_str()))
        });
        if let Some(namesake) = namesake {
            return Err(unproven(
                id,
                format!(
                    "the provider answers 404 for {id}, but its list contains {} with the same \
                     name; hint: that one may be what was created, so revoke it at the provider",
                    namesake.metadata.id
                ),
            ));
        }
        let conditions = &self.services.conditions;
        if conditions.is_active_in(&self.context.scope, Condition::Organization) {
            return Err(unproven(
                id,
                format!(
                    "the provider does not show {id}, but the admin key may belong to \
                     another organization"
                ),
            ));
        }
        let live = self.state.live.iter().rev();
        let others = live.filter_map(Rotation::credential);
        let others: Vec<_> = others.filter(|other| other.id != *id).collect();
        let Some(newest) = others.first() else {
            return Ok(());
        };
        let is_listed = |other: &&CredentialMetadata| {
            let mut listed = listed.iter();
            listed.any(|listed| listed.metadata.id == other.id)
        };
        // A list may lag behind a create.
        if others.iter().any(is_listed) || self.retrieve(newest).await?.value.is_some() {
            return Ok(());
        }
        Err(unproven(
            id,
            format!(
                "the provider shows neither {id} nor {}; hint: check whether the admin key \
                 belongs to another organization",
                newest.id
            ),
        ))
    }

    /// Returns the list of this scope, which must lack a credential.
    ///
    /// # Errors
    /// The list contains the credential, or the provider does not answer.
    async fn list_without(
        &self,
        id: &CredentialId,
    ) -> Result<Vec<ListedCredential>, ProviderError> {
        let answer = self.services.provider.list(&self.context.scope).await;
        self.observe_response(&answer);
        let listed = answer?.value;
        if listed.iter().any(|listed| listed.metadata.id == *id) {
            return Err(unproven(
                id,
                format!("the provider answers 404 for {id}, but its list contains it"),
            ));
        }
        Ok(listed)
    }
}

fn unproven(id: &CredentialId, message: String) -> ProviderError {
    ProviderError {
        operation: format!("prove that {id} is gone"),
        effect: Effect::NotApplied,
        retry: RetryAdvice::Later(None),
        kind: ErrorKind::NotFound,
        message,
        class: RequestClass::Read,
        code: None,
        request_id: None,
        server_time: None,
    }
}
