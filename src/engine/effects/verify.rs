//! Asks whether a new secret works.

use crate::core::names::RotationId;
use crate::core::policy::Waiting;
use crate::core::rotation::Event;
use crate::core::{conclude, time};
use crate::engine::effects::pause_of;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{Cause, ProviderError};

impl Worker {
    /// Asks the provider for something harmless with the new secret. It must
    /// work twice; it may be refused for as long as `verify-for`.
    pub(crate) async fn verify(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let secret = self
            .memory
            .as_ref()
            .and_then(|memory| memory.secret.clone());
        let Some(secret) = secret else {
            return Ok(());
        };
        let answer = self.parts.provider.verify(&secret).await;
        self.hear(&answer);
        match answer {
            Ok(_) => self.worked(rotation).await,
            Err(error) if matches!(error.cause, Cause::CredentialRefused | Cause::Forbidden) => {
                self.refused(rotation, &error).await
            }
            Err(error) => {
                // An outage says nothing about the secret and counts for nothing.
                if let Some(memory) = self.memory.as_mut() {
                    memory.refused_at = None;
                }
                if self.is_everybodys(&error).await {
                    return Ok(());
                }
                let text = error.to_string();
                let change = self.postponed(rotation, Waiting::Provider, &text, pause_of(&error));
                self.record(vec![change]).await
            }
        }
    }

    async fn worked(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let now = self.now();
        let (Some(found), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Ok(());
        };
        let current = self.state.current();
        let current = current.and_then(|current| current.credential.as_ref());
        let not_before = time::after(now, managed.policy.overlap);
        let previous = current.map(|credential| (credential.id.clone(), not_before));
        let Some(memory) = self.memory.as_mut() else {
            return Ok(());
        };
        memory.refused_at = None;
        if memory.worked_at.is_none() {
            memory.worked_at = Some(now);
            return Ok(());
        }
        memory.verified_at = Some(now);
        memory.previous = previous;
        self.record(conclude::worked(&found)).await
    }

    async fn refused(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let now = self.now();
        let patience = self
            .managed
            .as_ref()
            .map(|managed| managed.policy.verify_for);
        let Some(memory) = self.memory.as_mut() else {
            return Ok(());
        };
        memory.worked_at = None;
        if let Some(before) = memory.refused_at.replace(now) {
            memory.refused_for += time::until(before, now);
        }
        let changes = if patience.is_none_or(|patience| memory.refused_for >= patience) {
            self.failed(rotation, Event::Refused, error)
        } else {
            let text = error.to_string();
            vec![self.postponed(rotation, Waiting::Verification, &text, None)]
        };
        self.record(changes).await
    }
}
