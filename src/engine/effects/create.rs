//! Sends a create, once, and resolves one whose outcome is unknown.

use crate::core::change::{Change, RevokedDuplicate, Transition};
use crate::core::decide::revocation::RevocationReason;
use crate::core::ids::{Label, RotationId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::RetryClass;
use crate::core::time;
use crate::engine::effects::retry_delay;
use crate::engine::effects::revoke::{RECONFIGURED, RevocationOutcome, STILL_SHOWN};
use crate::engine::probe::requested_pause;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{CreatedCredential, Effect, ListedCredential, ProviderError};

impl Worker {
    fn label(&self, rotation: &RotationId) -> Result<Label, LedgerError> {
        let row = self.state.rotation(rotation);
        row.and_then(|row| row.label.clone())
            .ok_or_else(|| LedgerError::Corrupt(format!("no label for the rotation {rotation}")))
    }

    /// Sends the create, once.
    pub(crate) async fn create(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let expires_in = policy.and_then(|policy| policy.expires_after);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.create_sent = true;
        }
        let answer = self.services.provider.create(&label, expires_in).await;
        self.observe_response(&answer);
        match answer {
            Ok(answer) => {
                if expires_in.is_some() && answer.value.metadata.expires_at.is_none() {
                    self.log_missing_expiry();
                }
                self.record_created(rotation, answer.value).await
            }
            Err(error) if error.effect == Effect::NotApplied => {
                self.record_not_applied(rotation, &error).await
            }
            Err(error) => self.handle_unknown_create(rotation, &label, &error).await,
        }
    }

    async fn record_created(
        &mut self,
        rotation: &RotationId,
        created: CreatedCredential,
    ) -> Result<(), LedgerError> {
        let event = if created.secret.is_some() {
            LifecycleEvent::Created
        } else {
            LifecycleEvent::SecretLost
        };
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.secret = created.secret;
        }
        let transition = Transition {
            credential: Some(created.metadata),
            ..Transition::new(rotation, event)
        };
        let mut changes = vec![Change::from(transition)];
        if event == LifecycleEvent::SecretLost {
            changes.push(self.back_off_key("the provider's answer had no secret", None));
        }
        self.record(changes).await
    }

    async fn record_not_applied(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let mut changes = self.failure_changes(rotation, LifecycleEvent::NotCreated, error);
        if self.is_global_failure(error).await {
            // The failure counts for no key: the next rotation starts when the condition
            // ends.
            changes.truncate(1);
        }
        self.record(changes).await
    }

    /// Handles a create that may have been applied. It is never sent again: the next
    /// step searches for its label.
    async fn handle_unknown_create(
        &mut self,
        rotation: &RotationId,
        label: &Label,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let text = error.to_string();
        self.needs_follow_up = true;
        tracing::warn!(key = %self.state.key, %rotation, %label,
            "it is unclear whether {label} was made ({text}); looking for it");
        if self.is_global_failure(error).await {
            return Ok(());
        }
        let change = self.schedule_retry(
            rotation,
            RetryClass::Provider,
            &text,
            requested_pause(error),
        );
        self.record(vec![change]).await
    }

    /// Searches for the label of an unclear create. The rotation ends either way, because
    /// its secret is lost.
    pub(crate) async fn find(
        &mut self,
        rotation: &RotationId,
        after_restart: bool,
    ) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        self.needs_follow_up = true;
        let answer = self
            .services
            .provider
            .find(&self.context.scope, &label)
            .await;
        self.observe_response(&answer);
        let found = match answer {
            Ok(answer) => answer.value,
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => {
                let text = error.to_string();
                let change =
                    self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(&error));
                return self.record(vec![change]).await;
            }
        };
        if found.len() > 1 {
            return self.revoke_duplicates(rotation, &found).await;
        }
        let (event, reason) = match (found.first(), after_restart) {
            (Some(_), true) => (
                LifecycleEvent::LabelFoundAfterRestart,
                "its secret was lost in a restart",
            ),
            (Some(_), false) => (
                LifecycleEvent::LabelFound,
                "its secret was lost with the answer",
            ),
            (None, _) => (
                LifecycleEvent::LabelNotFound,
                "the create was unclear and made nothing",
            ),
        };
        let transition = Transition {
            credential: found
                .into_iter()
                .next()
                .map(|credential| credential.metadata),
            error: Some(reason.to_owned()),
            ..Transition::new(rotation, event)
        };
        let backoff = self.back_off_key(reason, None);
        self.record(vec![Change::from(transition), backoff]).await
    }

    /// Revokes one of several credentials with the label, and schedules another search. A
    /// proxy repeated the create: rekeyd created all of them, and their secrets are lost.
    async fn revoke_duplicates(
        &mut self,
        rotation: &RotationId,
        found: &[ListedCredential],
    ) -> Result<(), LedgerError> {
        let Some(duplicate) = found.last() else {
            return Ok(());
        };
        let credential = &duplicate.metadata;
        let reason = RevocationReason::DuplicateLabel;
        let (problem, after) = match self.revoke_if_allowed(credential, None, reason).await {
            Ok(RevocationOutcome::Deleted) => {
                let revoked = RevokedDuplicate {
                    rotation: rotation.clone(),
                    credential: credential.id.clone(),
                };
                return self.record(vec![Change::from(revoked)]).await;
            }
            Ok(RevocationOutcome::AlreadyGone) => ("the list is an old one".to_owned(), None),
            Ok(RevocationOutcome::StillShown) => (STILL_SHOWN.to_owned(), None),
            Ok(RevocationOutcome::Reconfigured) => (RECONFIGURED.to_owned(), None),
            Ok(RevocationOutcome::Deferred(deferral)) => {
                let pause = time::until(self.now(), deferral.until);
                (deferral.message(), Some(pause))
            }
            Ok(RevocationOutcome::Blocked(_)) => {
                (format!("{} has a row of its own", credential.id), None)
            }
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => (error.to_string(), retry_delay(&error)),
        };
        let text = format!("{} credentials bear its label; {problem}", found.len());
        let change = self.schedule_retry(rotation, RetryClass::Provider, &text, after);
        self.record(vec![change]).await
    }

    fn log_missing_expiry(&self) {
        let conditions = &self.services.conditions;
        if conditions.is_first_occurrence("no-expiry") {
            tracing::warn!(
                "expires-after is set, but this provider gives its credentials no end; \
                 the backstop is off"
            );
        }
    }
}
