//! Revokes credentials: makes the observations that the decision needs, and sends the
//! deletion.

use std::sync::atomic::Ordering;

use crate::core::change::{Change, MissingCredential, RevocationDeferral, Transition};
use crate::core::condition::Condition;
use crate::core::decide::revocation::{
    Blocker, Candidate, CredentialUsage, DeferReason, Deferral, Observation, ObservationPart,
    RemoteAnswer, Revocation, RevocationReason, decide,
};
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::RetryClass;
use crate::core::state::{CredentialMetadata, Rotation};
use crate::engine::conditions::clock_mismatch_message;
use crate::engine::effects::{redacted_value_of, retry_delay};
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{ListedCredential, ProviderError, ProviderResponse};

/// The error of a deletion that must be sent again.
pub(super) const STILL_SHOWN: &str = "the provider still shows it after deleting it";

/// The reason why a deletion is not sent yet.
pub(super) const RECONFIGURED: &str = "the configuration has changed";

/// The outcome of a revocation.
pub(super) enum RevocationOutcome {
    /// The credential was deleted, and the provider does not have it any more.
    Deleted,
    /// The provider did not have the credential.
    AlreadyGone,
    /// The provider still shows the credential after deleting it.
    StillShown,
    /// The revocation is decided again later.
    Deferred(Deferral),
    /// The credential is not revoked.
    Blocked(Blocker),
    /// The configuration changed after the observation: the revocation is decided again
    /// by the new one.
    Reconfigured,
}

/// A decision with its observations.
pub(super) struct DecidedRevocation {
    pub(super) revocation: Revocation,
    pub(super) observation: Observation,
    /// The redacted value that the credential was compared by.
    redacted: String,
}

impl Worker {
    /// Revokes the credential of a rotation that is due.
    pub(crate) async fn revoke(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let row = self.state.rotation(rotation).cloned();
        let Some((row, credential, reason)) = row.and_then(|row| {
            let credential = row.credential.clone()?;
            let reason = RevocationReason::of_rotation(&row)?;
            Some((row, credential, reason))
        }) else {
            return Err(LedgerError::Corrupt(format!(
                "no credential to revoke for the rotation {rotation}"
            )));
        };
        // A returned sink still holds its credential, and its return is recorded only
        // once the provider's time is known.
        if self.needs_sink_sync
            && self.retrieve(&credential).await.is_ok()
            && self.has_provider_time()
        {
            return Ok(());
        }
        let outcome = self
            .revoke_if_allowed(&credential, Some(&row), reason)
            .await;
        let change = match outcome {
            Ok(RevocationOutcome::Deleted | RevocationOutcome::AlreadyGone) => {
                Change::from(Transition::new(rotation, LifecycleEvent::Deleted))
            }
            Ok(RevocationOutcome::StillShown) => {
                self.schedule_retry(rotation, RetryClass::Provider, STILL_SHOWN, None)
            }
            Ok(RevocationOutcome::Deferred(deferral)) => {
                let changes = self.deferral_changes(rotation, &deferral);
                return self.record(changes).await;
            }
            // A change of the ledger or of a condition leads to another decision, and
            // so may the new configuration.
            Ok(RevocationOutcome::Blocked(_) | RevocationOutcome::Reconfigured) => return Ok(()),
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => {
                let text = error.to_string();
                self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(&error))
            }
        };
        self.record(vec![change]).await
    }

    /// Decides whether a credential is revoked, and deletes it if it is. Every deletion
    /// passes through here.
    pub(super) async fn revoke_if_allowed(
        &self,
        credential: &CredentialMetadata,
        rotation: Option<&Rotation>,
        reason: RevocationReason,
    ) -> Result<RevocationOutcome, ProviderError> {
        let decided = self.decide_revocation(credential, rotation, reason).await?;
        match decided.revocation {
            Revocation::Delete => self.send_deletion(credential, reason, &decided).await,
            Revocation::AlreadyGone => Ok(RevocationOutcome::AlreadyGone),
            Revocation::Defer(deferral) => Ok(RevocationOutcome::Deferred(deferral)),
            Revocation::Blocked(blocker) => Ok(RevocationOutcome::Blocked(blocker)),
            // `decide_revocation` never returns this variant.
            Revocation::Observe(_) => Ok(RevocationOutcome::Blocked(Blocker::NotDue(None))),
        }
    }

    /// Makes the observations that the decision needs, one by one, until it is made.
    pub(super) async fn decide_revocation(
        &self,
        credential: &CredentialMetadata,
        rotation: Option<&Rotation>,
        reason: RevocationReason,
    ) -> Result<DecidedRevocation, ProviderError> {
        let mut observation = Observation::default();
        let mut redacted = redacted_value_of(None, credential).to_owned();
        loop {
            let candidate = self.candidate(credential, rotation, reason);
            let revocation = decide(&candidate, &observation, self.now());
            match revocation {
                Revocation::Observe(ObservationPart::Credential) => {
                    let answer = self.retrieve(credential).await?;
                    let listed = answer.value.as_ref();
                    redacted = redacted_value_of(listed, credential).to_owned();
                    observation.server_time = answer.server_time;
                    observation.credential =
                        Some(
                            listed.map_or(RemoteAnswer::Gone, |listed| RemoteAnswer::Live {
                                last_used_at: listed.last_used_at,
                            }),
                        );
                }
                Revocation::Observe(ObservationPart::Usage) => {
                    observation.usage = Some(self.observe_usage(&redacted).await?);
                }
                Revocation::Observe(ObservationPart::Successor) => {
                    observation.successor_exists = Some(self.successor_exists().await?);
                }
                Revocation::Delete
                | Revocation::AlreadyGone
                | Revocation::Defer(_)
                | Revocation::Blocked(_) => {
                    if revocation == Revocation::Blocked(Blocker::Clock) {
                        let problem = clock_mismatch_message(observation.server_time, self.now());
                        self.services.conditions.raise(Condition::Clock, &problem);
                    }
                    return Ok(DecidedRevocation {
                        revocation,
                        observation,
                        redacted,
                    });
                }
            }
        }
    }

    pub(super) fn candidate<'a>(
        &'a self,
        credential: &'a CredentialMetadata,
        rotation: Option<&'a Rotation>,
        reason: RevocationReason,
    ) -> Candidate<'a> {
        Candidate {
            key: &self.state,
            rotation,
            credential: &credential.id,
            policy: self.managed.as_ref().map(|managed| managed.policy.as_ref()),
            reason,
            is_clock_trusted: self
                .services
                .conditions
                .permits(&self.context.scope)
                .can_trust_clock,
        }
    }

    pub(crate) async fn retrieve(
        &self,
        credential: &CredentialMetadata,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        let answer = self.services.provider.retrieve(&credential.id).await;
        self.observe_response(&answer);
        answer
    }

    /// Sends a deletion, and checks that the credential is gone. No other function of
    /// rekeyd sends one.
    ///
    /// A fall-back or a reload may have taken the credential into use since the
    /// observation, so its usage is checked once more. No `.await` separates this check
    /// from the start of the request: `delete` reads the credential that it authenticates
    /// with before it first waits. A reload may also have returned a sink that holds the
    /// credential, or set a longer overlap.
    async fn send_deletion(
        &self,
        credential: &CredentialMetadata,
        reason: RevocationReason,
        decided: &DecidedRevocation,
    ) -> Result<RevocationOutcome, ProviderError> {
        let (id, reason) = (&credential.id, reason.as_str());
        tracing::trace!(key = %self.state.key, credential = %id, "deleting {id} ({reason})");
        let observed = decided.observation.usage;
        let usage = self.credential_usage(&decided.redacted);
        if usage != CredentialUsage::Unused && Some(usage) != observed {
            let deferral = Deferral::self_credential(self.now());
            return Ok(RevocationOutcome::Deferred(deferral));
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Ok(RevocationOutcome::Reconfigured);
        }
        let deleted = self.services.provider.delete(&credential.id).await;
        self.observe_response(&deleted);
        deleted?;
        let after = self.retrieve(credential).await?;
        Ok(if after.value.is_none() {
            RevocationOutcome::Deleted
        } else {
            RevocationOutcome::StillShown
        })
    }

    /// Observes whether rekeyd authenticates with a credential. rekeyd may have fallen
    /// back to it, or may have to: a check request makes it switch to a newer one that
    /// works.
    async fn observe_usage(&self, redacted: &str) -> Result<CredentialUsage, ProviderError> {
        if self.credential_usage(redacted) == CredentialUsage::Unused {
            return Ok(CredentialUsage::Unused);
        }
        let answer = self.services.provider.check().await;
        self.observe_response(&answer);
        answer?;
        Ok(self.credential_usage(redacted))
    }

    fn credential_usage(&self, redacted: &str) -> CredentialUsage {
        let provider = &self.services.provider;
        if provider.may_be_in_use(redacted) {
            CredentialUsage::InUse
        } else if provider.may_be_previous(redacted) {
            CredentialUsage::Previous
        } else {
            CredentialUsage::Unused
        }
    }

    /// Returns whether the provider has the key's current credential.
    async fn successor_exists(&self) -> Result<bool, ProviderError> {
        let current = self.state.current();
        let Some(credential) = current.and_then(|current| current.credential.as_ref()) else {
            return Ok(false);
        };
        Ok(self.retrieve(credential).await?.value.is_some())
    }

    fn deferral_changes(&self, rotation: &RotationId, deferral: &Deferral) -> Vec<Change> {
        let mut changes = vec![Change::from(RevocationDeferral {
            rotation: rotation.clone(),
            retry_at: deferral.until,
            reason: deferral.message(),
            final_warning: deferral.final_warning,
        })];
        if deferral.reason == DeferReason::SuccessorMissing
            && let Some(current) = self.state.current()
            && current.missing.is_none()
        {
            changes.push(Change::from(MissingCredential {
                rotation: current.id.clone(),
                missing: self.missing_since(current),
            }));
        }
        changes
    }
}
