//! Sends a create, once, and settles what became of it.

use crate::core::change::{Change, Moved};
use crate::core::names::{Label, RotationId};
use crate::core::policy::Waiting;
use crate::core::rotation::Event;
use crate::engine::effects::pause_of;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{Credential, NewCredential, Outcome, ProviderError};

impl Worker {
    fn label(&self, rotation: &RotationId) -> Result<Label, LedgerError> {
        let found = self.state.rotation(rotation);
        found
            .and_then(|found| found.label.clone())
            .ok_or_else(|| LedgerError::Corrupt(format!("no label for the rotation {rotation}")))
    }

    /// Sends the create, once.
    pub(crate) async fn create(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let expires_in = policy.and_then(|policy| policy.expires_after);
        if let Some(memory) = &mut self.memory {
            memory.sent = true;
        }
        let answer = self.parts.provider.create(&label, expires_in).await;
        self.hear(&answer);
        match answer {
            Ok(answer) => {
                if expires_in.is_some() && answer.value.facts.expires_at.is_none() {
                    self.tell_no_backstop();
                }
                self.created(rotation, answer.value).await
            }
            Err(error) if error.outcome == Outcome::NotDone => {
                self.not_done(rotation, &error).await
            }
            Err(error) => self.unclear(rotation, &label, &error).await,
        }
    }

    async fn created(
        &mut self,
        rotation: &RotationId,
        created: NewCredential,
    ) -> Result<(), LedgerError> {
        let event = if created.secret.is_some() {
            Event::Created
        } else {
            Event::SecretLost
        };
        if let Some(memory) = &mut self.memory {
            memory.secret = created.secret;
        }
        let moved = Moved {
            credential: Some(created.facts),
            ..Moved::new(rotation, event)
        };
        let mut changes = vec![Change::Moved(moved)];
        if event == Event::SecretLost {
            changes.push(self.deferred("the provider's answer had no secret", None));
        }
        self.record(changes).await
    }

    async fn not_done(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let mut changes = self.failed(rotation, Event::NotDone, error);
        if self.is_everybodys(error).await {
            // It counts for no key; the next one begins when it has passed.
            changes.truncate(1);
        }
        self.record(changes).await
    }

    /// It may have been made, and is never sent again: its label is looked for
    /// next.
    async fn unclear(
        &mut self,
        rotation: &RotationId,
        label: &Label,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let text = error.to_string();
        self.unclear = true;
        tracing::warn!(key = %self.state.key, %rotation, %label,
            "it is unclear whether {label} was made ({text}); looking for it");
        if self.is_everybodys(error).await {
            return Ok(());
        }
        let change = self.postponed(rotation, Waiting::Provider, &text, None);
        self.record(vec![change]).await
    }

    /// Looks for the label of an unclear create, and gives the rotation up
    /// either way: nobody has its secret.
    pub(crate) async fn find(
        &mut self,
        rotation: &RotationId,
        after_restart: bool,
    ) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        self.unclear = true;
        let answer = self.parts.provider.find(&label).await;
        self.hear(&answer);
        let found = match answer {
            Ok(answer) => answer.value,
            Err(error) if self.is_everybodys(&error).await => return Ok(()),
            Err(error) => {
                let text = error.to_string();
                let change = self.postponed(rotation, Waiting::Provider, &text, pause_of(&error));
                return self.record(vec![change]).await;
            }
        };
        if found.len() > 1 {
            return self.revoke_doubles(rotation, &found).await;
        }
        let (event, why) = match (found.first(), after_restart) {
            (Some(_), true) => (
                Event::LabelFoundAfterRestart,
                "its secret was lost in a restart",
            ),
            (Some(_), false) => (Event::LabelFound, "its secret was lost with the answer"),
            (None, _) => (
                Event::LabelNotFound,
                "the create was unclear and made nothing",
            ),
        };
        let moved = Moved {
            credential: found.into_iter().next().map(|credential| credential.facts),
            error: Some(why.to_owned()),
            ..Moved::new(rotation, event)
        };
        self.record(vec![Change::Moved(moved), self.deferred(why, None)])
            .await
    }

    /// More than one credential bears the label: something in between repeated
    /// the create. All of them are ours and nobody has their secrets. One of
    /// them goes now, and the label is looked for again.
    async fn revoke_doubles(
        &mut self,
        rotation: &RotationId,
        found: &[Credential],
    ) -> Result<(), LedgerError> {
        let Some(double) = found.last() else {
            return Ok(());
        };
        let change = self.revoke_double(rotation, &double.facts).await;
        match change {
            Ok(change) => self.record(vec![change]).await,
            Err(error) if self.is_everybodys(&error).await => Ok(()),
            Err(error) => {
                let text = format!("{} credentials bear its label; {error}", found.len());
                let change = self.postponed(rotation, Waiting::Provider, &text, pause_of(&error));
                self.record(vec![change]).await
            }
        }
    }

    fn tell_no_backstop(&self) {
        let conditions = &self.parts.conditions;
        if conditions.once("no-expiry") {
            tracing::warn!(
                "expires-after is set, but this provider gives its credentials no end; \
                 the backstop is off"
            );
        }
    }
}
