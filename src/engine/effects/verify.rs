//! Verifies that a new secret works.

use crate::core::decide::outcome;
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::RetryClass;
use crate::core::state::Rotation;
use crate::core::time;
use crate::engine::effects::retry_delay;
use crate::engine::probe::requested_pause;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{ErrorKind, ProviderError};

impl Worker {
    /// Sends a harmless request with the new secret. The secret must work twice; the
    /// provider may refuse it for as long as `verify-timeout`.
    pub(crate) async fn verify(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let secret = self
            .in_flight
            .as_ref()
            .and_then(|in_flight| in_flight.secret.clone());
        let Some(secret) = secret else {
            return Ok(());
        };
        let response = self.services.provider.verify(&secret).await;
        self.observe_response(&response);
        match response {
            Ok(_) => self.handle_working_secret(rotation).await,
            Err(error)
                if matches!(
                    error.kind,
                    ErrorKind::CredentialRefused | ErrorKind::Forbidden
                ) =>
            {
                self.handle_refused_secret(rotation, &error).await
            }
            Err(error) => {
                // An outage says nothing about the secret, and does not count towards
                // `verify-timeout`.
                if let Some(in_flight) = self.in_flight.as_mut() {
                    in_flight.last_refused_at = None;
                }
                if self.is_global_failure(&error).await {
                    return Ok(());
                }
                let text = error.to_string();
                let change =
                    self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(&error));
                self.record(vec![change]).await
            }
        }
    }

    async fn handle_working_secret(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let now = self.now();
        let (Some(row), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Ok(());
        };
        let current = self.state.current();
        let current = current.and_then(|current| current.credential.as_ref());
        let not_before = time::after(now, managed.policy.overlap);
        let previous = current.map(|credential| (credential.id.clone(), not_before));
        let Some(in_flight) = self.in_flight.as_mut() else {
            return Ok(());
        };
        in_flight.last_refused_at = None;
        if in_flight.first_verified_at.is_none() {
            in_flight.first_verified_at = Some(now);
            return Ok(());
        }
        if !self.check_new_end(&row).await? {
            return Ok(());
        }
        let (row, now) = (
            self.state.rotation(rotation).cloned().unwrap_or(row),
            self.now(),
        );
        let Some(in_flight) = self.in_flight.as_mut() else {
            return Ok(());
        };
        in_flight.verified_at = Some(now);
        in_flight.previous = previous;
        if row.has_wrong_redaction {
            self.distrust_redacted_values(&row);
        }
        let next_sink = self.place_for_next_delivery(&row);
        self.record(outcome::finish_verification(&row, next_sink.as_ref()))
            .await?;
        self.note_unattempted(&row, next_sink);
        Ok(())
    }

    /// Takes no redacted value as proof any more: this secret works, and the provider
    /// redacts it to another end than it has.
    fn distrust_redacted_values(&self, rotation: &Rotation) {
        self.services.provider.distrust_redacted_values();
        let conditions = &self.services.conditions;
        if conditions.is_first_occurrence("redacted-value") {
            let credential = rotation.credential.as_ref();
            let credential = credential.map_or("a credential", |credential| credential.id.as_str());
            tracing::warn!(
                key = %self.state.key, rotation = %rotation.id, credential,
                "{}: the provider's redacted value of {credential} does not match its secret; \
                 rekeyd no longer recognizes secrets by such values", self.state.key
            );
        }
    }

    async fn handle_refused_secret(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let now = self.now();
        let timeout = self
            .managed
            .as_ref()
            .map(|managed| managed.policy.verify_timeout);
        let Some(in_flight) = self.in_flight.as_mut() else {
            return Ok(());
        };
        in_flight.first_verified_at = None;
        if let Some(previous) = in_flight.last_refused_at.replace(now) {
            in_flight.refused_for += time::until(previous, now);
        }
        let changes = if timeout.is_none_or(|timeout| in_flight.refused_for >= timeout) {
            self.failure_changes(rotation, LifecycleEvent::VerificationFailed, error)
        } else {
            let text = error.to_string();
            let pause = requested_pause(error);
            vec![self.schedule_retry(rotation, RetryClass::Verification, &text, pause)]
        };
        self.record(changes).await
    }
}
