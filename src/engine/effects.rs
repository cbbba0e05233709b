//! The steps that touch the outside, each followed by one commit.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Answered, Change, Intent, Moved};
use crate::core::conclude;
use crate::core::names::{Label, RotationId, SinkId};
use crate::core::policy::{Waiting, back_off};
use crate::core::record::{CredentialFacts, DeliveryState, Rotation, Trigger};
use crate::core::rotation::{Event, Phase};
use crate::core::step::Memory;
use crate::core::time;
use crate::engine::worker::{ManagedKey, Worker};
use crate::ledger::LedgerError;
use crate::provider::{Cause, Credential, Outcome, ProviderError, Retry};
use crate::sink::{DeliveryError, Parcel, Previous, Taken};

/// A provider whose clock differs from ours by more is not believed, and
/// neither are we.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How long to wait for something that will not pass before a person acts.
const HOPELESS_PAUSE: Duration = Duration::from_secs(3_600);

impl Worker {
    /// Probes the required sinks, then records the intent of a rotation.
    pub(crate) async fn intend(
        &mut self,
        managed: &Arc<ManagedKey>,
        trigger: Trigger,
        scheduled_for: Option<Timestamp>,
        reason: Option<String>,
    ) -> Result<(), LedgerError> {
        self.wish = None;
        for (sink, required) in &managed.sinks {
            if *required && let Err(problem) = sink.preflight().await {
                let problem = format!("no rotation begun: sink {}: {problem}", sink.id().name);
                return self.record(vec![self.deferred(&problem, None)]).await;
            }
        }
        let (mut id, mut tail) = ([0; 8], [0; 3]);
        let filled = self
            .parts
            .chance
            .fill(&mut id)
            .and_then(|()| self.parts.chance.fill(&mut tail));
        if let Err(error) = filled {
            return self
                .record(vec![self.deferred(&error.to_string(), None)])
                .await;
        }
        let rotation = RotationId::new(id);
        let sinks = managed
            .sinks
            .iter()
            .map(|(sink, required)| (sink.id().clone(), *required));
        let intent = Intent {
            rotation: rotation.clone(),
            label: Label::new(&managed.name, self.now(), tail),
            trigger,
            scheduled_for,
            sinks: sinks.collect(),
            reason,
        };
        self.record(vec![Change::Intended(intent)]).await?;
        self.memory = Some(Memory::new(rotation));
        Ok(())
    }

    fn label(&self, rotation: &RotationId) -> Result<Label, LedgerError> {
        let found = self.state.rotation(rotation);
        found
            .and_then(|found| found.label.clone())
            .ok_or_else(|| LedgerError::Corrupt(format!("no label for the rotation {rotation}")))
    }

    /// Sends the create, once.
    pub(crate) async fn create(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        if let Some(memory) = &mut self.memory {
            memory.sent = true;
        }
        match self.parts.provider.create(&label, None).await {
            Ok(answer) => {
                let created = answer.value;
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
            Err(error) if error.outcome == Outcome::NotDone => {
                let changes = self.failed(rotation, Event::NotDone, &error);
                self.record(changes).await
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(key = %self.state.key, %rotation, %label,
                    "it is unclear whether {label} was made ({text}); looking for it");
                self.record(vec![self.postponed(
                    rotation,
                    Waiting::Provider,
                    &text,
                    None,
                )])
                .await
            }
        }
    }

    /// Looks for the label of an unclear create, and gives the rotation up
    /// either way: nobody has its secret.
    pub(crate) async fn find(
        &mut self,
        rotation: &RotationId,
        after_restart: bool,
    ) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        let found = match self.parts.provider.find(&label).await {
            Ok(answer) => answer.value,
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
    /// the create. All of them are ours and nobody has their secrets; all but
    /// the first go at once, and the label is looked for again.
    async fn revoke_doubles(
        &mut self,
        rotation: &RotationId,
        found: &[Credential],
    ) -> Result<(), LedgerError> {
        let mut error = format!("{} credentials bear its label", found.len());
        for double in found.iter().skip(1) {
            if let Err(failure) = self.parts.provider.delete(&double.facts.id).await {
                error = format!("{error}; {failure}");
            }
        }
        self.record(vec![self.postponed(
            rotation,
            Waiting::Provider,
            &error,
            None,
        )])
        .await
    }

    /// Asks whether the new secret works.
    pub(crate) async fn verify(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let (Some(found), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Err(LedgerError::Corrupt(format!(
                "no rotation {rotation} to verify"
            )));
        };
        let Some(secret) = self
            .memory
            .as_ref()
            .and_then(|memory| memory.secret.clone())
        else {
            return Ok(());
        };
        let answer = self.parts.provider.verify(&secret).await;
        let now = self.now();
        let current = self
            .state
            .current()
            .and_then(|current| current.credential.as_ref());
        let not_before = time::after(now, managed.policy.overlap);
        let previous = current.map(|credential| (credential.id.clone(), not_before));
        let Some(memory) = self.memory.as_mut() else {
            return Ok(());
        };
        match answer {
            Ok(_) => {
                memory.refused_at = None;
                if memory.worked_at.is_none() {
                    memory.worked_at = Some(now);
                    return Ok(());
                }
                memory.verified_at = Some(now);
                memory.previous = previous;
                self.record(conclude::worked(&found)).await
            }
            Err(error) if matches!(error.cause, Cause::CredentialRefused | Cause::Forbidden) => {
                memory.worked_at = None;
                if let Some(before) = memory.refused_at.replace(now) {
                    memory.refused_for += time::until(before, now);
                }
                let changes = if memory.refused_for >= managed.policy.verify_for {
                    self.failed(rotation, Event::Refused, &error)
                } else {
                    let text = error.to_string();
                    vec![self.postponed(rotation, Waiting::Verification, &text, None)]
                };
                self.record(changes).await
            }
            Err(error) => {
                // An outage says nothing about the secret and counts for nothing.
                memory.refused_at = None;
                let text = error.to_string();
                let change = self.postponed(rotation, Waiting::Provider, &text, pause_of(&error));
                self.record(vec![change]).await
            }
        }
    }

    /// Delivers to one sink.
    pub(crate) async fn deliver(
        &mut self,
        rotation: &RotationId,
        sink: &SinkId,
    ) -> Result<(), LedgerError> {
        let Some(found) = self.state.rotation(rotation).cloned() else {
            return Err(LedgerError::Corrupt(format!(
                "no rotation {rotation} to deliver"
            )));
        };
        let Some(managed) = self.managed.clone() else {
            return Ok(());
        };
        let Some((parcel, target)) = self.parcel(&found, &managed).zip(managed.sink(sink)) else {
            return Ok(());
        };
        let outcome = target.deliver(&parcel).await;
        let now = self.now();
        let answer = match outcome {
            Ok(()) => Answered {
                rotation: rotation.clone(),
                sink: sink.clone(),
                state: DeliveryState::Accepted,
                retry_at: None,
                error: None,
            },
            Err(error) => self.not_accepted(&found, &managed, sink, &error),
        };
        let changes = conclude::answered(&found, answer, &self.state, managed.policy.overlap, now);
        self.record(changes).await
    }

    fn not_accepted(
        &self,
        rotation: &Rotation,
        managed: &ManagedKey,
        sink: &SinkId,
        error: &DeliveryError,
    ) -> Answered {
        let now = self.now();
        let before = rotation
            .deliveries
            .iter()
            .find(|delivery| delivery.sink == *sink);
        let attempts = before.map_or(0, |delivery| delivery.attempts);
        let maybe_before = before.is_some_and(|delivery| delivery.maybe_taken);
        let state = match error.taken {
            Taken::Maybe => DeliveryState::Uncertain,
            Taken::No | Taken::Refused if maybe_before => DeliveryState::Uncertain,
            Taken::No | Taken::Refused => DeliveryState::Refused,
        };
        let late = now >= time::after(rotation.started_at, managed.policy.deliver_for);
        let waiting = match error.taken {
            Taken::Refused => Waiting::StubbornSink,
            Taken::No | Taken::Maybe if late => Waiting::StubbornSink,
            Taken::No | Taken::Maybe => Waiting::Sink,
        };
        Answered {
            rotation: rotation.id.clone(),
            sink: sink.clone(),
            state,
            retry_at: Some(time::after(now, back_off(waiting, attempts + 1))),
            error: Some(error.message.clone()),
        }
    }

    fn parcel(&self, rotation: &Rotation, managed: &ManagedKey) -> Option<Parcel> {
        let memory = self
            .memory
            .as_ref()
            .filter(|memory| memory.rotation == rotation.id)?;
        let verified_at = memory.verified_at?;
        Some(Parcel {
            key: managed.name.clone(),
            rotation: rotation.id.clone(),
            sequence: rotation.sequence,
            label: rotation.label.clone()?,
            credential: rotation.credential.clone()?,
            secret: memory.secret.clone()?,
            verified_at,
            previous: memory
                .previous
                .clone()
                .map(|(id, not_before)| Previous { id, not_before }),
        })
    }

    /// Deletes a credential, after a fresh look where time decides.
    pub(crate) async fn revoke(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let found = self.state.rotation(rotation).cloned();
        let Some((found, credential)) = found.and_then(|found| {
            found
                .credential
                .clone()
                .map(|credential| (found, credential))
        }) else {
            return Err(LedgerError::Corrupt(format!(
                "no credential for the rotation {rotation}"
            )));
        };
        let outcome = match self.look_again(&found, &credential).await {
            Ok(true) => self
                .parts
                .provider
                .delete(&credential.id)
                .await
                .map_err(Trouble::Provider),
            Ok(false) => Ok(crate::provider::Answer {
                value: (),
                date: None,
            }),
            Err(trouble) => Err(trouble),
        };
        let change = match outcome {
            Ok(_) => Change::Moved(Moved::new(rotation, Event::Deleted)),
            Err(Trouble::Provider(error)) => {
                let text = error.to_string();
                self.postponed(rotation, Waiting::Provider, &text, pause_of(&error))
            }
            Err(Trouble::Clock(text)) => self.postponed(rotation, Waiting::Provider, &text, None),
        };
        self.record(vec![change]).await
    }

    /// Whether the credential is still there. A retired one is revoked because
    /// of a time, so the provider's clock must agree with ours.
    async fn look_again(
        &self,
        rotation: &Rotation,
        credential: &CredentialFacts,
    ) -> Result<bool, Trouble> {
        if rotation.phase != Phase::Retired {
            return Ok(true);
        }
        let answer = self
            .parts
            .provider
            .retrieve(&credential.id)
            .await
            .map_err(Trouble::Provider)?;
        let now = self.now();
        let agrees = answer.date.is_some_and(|date| {
            time::until(date, now).max(time::until(now, date)) <= CLOCK_TOLERANCE
        });
        if !agrees {
            let theirs = answer.date.map_or("no time".to_owned(), time::to_text);
            return Err(Trouble::Clock(format!(
                "not revoked: this host's clock says {} and the provider's says {theirs}; \
                 set the clock of this host",
                time::to_text(now)
            )));
        }
        Ok(answer.value.is_some())
    }

    /// The rotation failed; the next one waits.
    fn failed(&self, rotation: &RotationId, event: Event, error: &ProviderError) -> Vec<Change> {
        let text = error.to_string();
        let moved = Moved {
            error: Some(text.clone()),
            ..Moved::new(rotation, event)
        };
        vec![Change::Moved(moved), self.deferred(&text, pause_of(error))]
    }
}

enum Trouble {
    Provider(ProviderError),
    Clock(String),
}

/// What the provider asks for, or what its kind of refusal needs at least.
fn pause_of(error: &ProviderError) -> Option<Duration> {
    match error.retry {
        Retry::Later(after) => after,
        Retry::Never => Some(HOPELESS_PAUSE),
    }
}
