//! Deletes credentials, looks for those that are missing, and heeds what a
//! sweep has found.

use std::time::Duration;

use crate::core::change::{
    Change, FoundCredential, MissingCredential, RevocationDeferral, RevokedDuplicate, Transition,
};
use crate::core::condition::Condition;
use crate::core::ids::RotationId;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{
    CHECKS_UNTIL_GONE, MISSING_CHECK_INTERVAL, RetryClass, SinkHold, sink_hold,
};
use crate::core::state::{CredentialMetadata, MissingSince, Rotation};
use crate::core::time;
use crate::engine::conditions::{clock_mismatch_message, clocks_agree};
use crate::engine::effects::{redacted_value_of, retry_delay};
use crate::engine::worker::Worker;
use crate::ledger::{Discrepancy, LedgerError, RemoteState};
use crate::provider::{ListedCredential, ProviderError, ProviderResponse};

/// How soon a credential that is still used is looked at again.
const IN_USE_RECHECK_PAUSE: Duration = Duration::from_secs(15 * 60);

/// A person is told so long before a credential that is still used goes.
const FINAL_WARNING_LEAD: Duration = time::DAY;

/// What a fresh look at the provider says about a revocation.
enum RevocationDecision {
    /// It is still there and goes.
    Delete,
    /// It is gone already.
    AlreadyGone,
    /// It stays for now, and this is recorded.
    Defer(Vec<Change>),
}

impl Worker {
    /// Deletes a credential after a fresh look, and asks whether it is gone.
    pub(crate) async fn revoke(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let found = self.state.rotation(rotation).cloned();
        let Some((found, credential)) = found.and_then(|found| {
            let credential = found.credential.clone();
            credential.map(|credential| (found, credential))
        }) else {
            return Err(LedgerError::Corrupt(format!(
                "no credential for the rotation {rotation}"
            )));
        };
        let done = match self.decide_revocation(&found, &credential).await {
            Ok(RevocationDecision::Delete) => self.delete(&credential).await,
            Ok(RevocationDecision::AlreadyGone) => Ok(true),
            Ok(RevocationDecision::Defer(changes)) => return self.record(changes).await,
            Err(error) => Err(error),
        };
        let change = match done {
            Ok(true) => Change::from(Transition::new(rotation, LifecycleEvent::Deleted)),
            Ok(false) => {
                let text = "the provider still shows it after deleting it";
                self.schedule_retry(rotation, RetryClass::Provider, text, None)
            }
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => {
                let text = error.to_string();
                self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(&error))
            }
        };
        self.record(vec![change]).await
    }

    /// Deletes, and asks whether it is gone.
    pub(crate) async fn delete(
        &self,
        credential: &CredentialMetadata,
    ) -> Result<bool, ProviderError> {
        let deleted = self.services.provider.delete(&credential.id).await;
        self.observe_response(&deleted);
        deleted?;
        let after = self.retrieve(credential).await?;
        Ok(after.value.is_none())
    }

    pub(crate) async fn retrieve(
        &self,
        credential: &CredentialMetadata,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        let answer = self.services.provider.retrieve(&credential.id).await;
        self.observe_response(&answer);
        answer
    }

    async fn decide_revocation(
        &self,
        rotation: &Rotation,
        credential: &CredentialMetadata,
    ) -> Result<RevocationDecision, ProviderError> {
        let answer = self.retrieve(credential).await?;
        let Some(seen) = &answer.value else {
            return Ok(RevocationDecision::AlreadyGone);
        };
        if self
            .is_own_credential(redacted_value_of(Some(seen), credential))
            .await?
        {
            let reason = "rekeyd itself works with it";
            return Ok(self.defer_revocation(rotation, IN_USE_RECHECK_PAUSE, reason, false));
        }
        let now = self.now();
        if self.is_time_based(rotation)
            && !answer
                .server_time
                .is_some_and(|date| clocks_agree(date, now))
        {
            let problem = clock_mismatch_message(answer.server_time, now);
            self.services.conditions.raise(Condition::Clock, &problem);
            return Ok(RevocationDecision::Defer(Vec::new()));
        }
        if rotation.phase != Phase::Retired || rotation.revoke_now {
            return Ok(RevocationDecision::Delete);
        }
        if let Some(verdict) = self.defer_while_in_use(rotation, seen) {
            return Ok(verdict);
        }
        self.check_successor(rotation).await
    }

    /// Whether it goes because a time has come, which a wrong clock may only say.
    fn is_time_based(&self, rotation: &Rotation) -> bool {
        let is_held = || sink_hold(rotation, &self.state, self.overlap()) != SinkHold::None;
        let by_itself = rotation.phase == Phase::Retired || is_held();
        rotation.hold_until.is_some() || (by_itself && !rotation.revoke_now)
    }

    /// Whether rekeyd itself works with this credential, although it asked
    /// for a reason to leave it.
    async fn is_own_credential(&self, redacted: &str) -> Result<bool, ProviderError> {
        let provider = &self.services.provider;
        if !provider.may_be_in_use(redacted) {
            return Ok(false);
        }
        // It may have fallen back to it; a check tries what is newer.
        let answer = provider.check().await;
        self.observe_response(&answer);
        answer?;
        Ok(provider.may_be_in_use(redacted))
    }

    fn defer_revocation(
        &self,
        rotation: &Rotation,
        pause: Duration,
        reason: &str,
        final_warning: bool,
    ) -> RevocationDecision {
        RevocationDecision::Defer(vec![Change::from(RevocationDeferral {
            rotation: rotation.id.clone(),
            retry_at: time::after(self.now(), pause),
            reason: reason.to_owned(),
            final_warning,
        })])
    }

    /// `revoke-when-idle-for`: somebody may read its sink late.
    fn defer_while_in_use(
        &self,
        rotation: &Rotation,
        seen: &ListedCredential,
    ) -> Option<RevocationDecision> {
        let policy = &self.managed.as_ref()?.policy;
        let (used, now) = (seen.last_used_at?, self.now());
        // What was used before it was delivered everywhere was used by our own
        // verification.
        let by_others = rotation.current_at.is_none_or(|at| used > at);
        let recent = by_others && time::until(used, now) < policy.revoke_when_idle_for;
        let end = time::after(rotation.revoke_after?, policy.max_revoke_delay);
        if !recent || now >= end {
            return None;
        }
        let (used, last) = (time::to_text(used), time::to_text(end));
        let mut reason = format!("it was used at {used}; it goes at {last} at the latest");
        let final_warning = time::until(now, end) <= FINAL_WARNING_LEAD;
        if final_warning {
            reason.push_str("; see that its consumers read the new one");
        }
        let pause = IN_USE_RECHECK_PAUSE.min(time::until(now, end));
        Some(self.defer_revocation(rotation, pause, &reason, final_warning))
    }

    /// The newest that works is never revoked: what replaced this one is
    /// looked at as well.
    async fn check_successor(
        &self,
        rotation: &Rotation,
    ) -> Result<RevocationDecision, ProviderError> {
        let current = self.state.current();
        let Some((current, credential)) = current.and_then(|current| {
            let credential = current.credential.as_ref();
            credential.map(|credential| (current, credential))
        }) else {
            return Ok(RevocationDecision::Defer(Vec::new()));
        };
        if self.retrieve(credential).await?.value.is_some() {
            return Ok(RevocationDecision::Delete);
        }
        let reason = "what replaced it is missing at the provider";
        let deferred = self.defer_revocation(rotation, MISSING_CHECK_INTERVAL, reason, false);
        let mut changes = match deferred {
            RevocationDecision::Defer(changes) => changes,
            RevocationDecision::Delete | RevocationDecision::AlreadyGone => Vec::new(),
        };
        if current.missing.is_none() {
            changes.push(Change::from(MissingCredential {
                rotation: current.id.clone(),
                missing: self.missing_since(current),
            }));
        }
        Ok(RevocationDecision::Defer(changes))
    }

    /// That it is missing once more.
    fn missing_since(&self, rotation: &Rotation) -> MissingSince {
        let start_over = self.services.conditions.is_active(Condition::Organization);
        match rotation.missing {
            Some(before) if !start_over => MissingSince {
                since: before.since,
                checks: before.checks + 1,
            },
            Some(_) | None => MissingSince {
                since: time::whole_seconds(self.now()),
                checks: 1,
            },
        }
    }

    /// Asks for a credential that may be gone. Three answers of 404 over a
    /// quarter of an hour prove it; a list proves nothing.
    pub(crate) async fn check_presence(
        &mut self,
        rotation: &RotationId,
    ) -> Result<(), LedgerError> {
        let found = self.state.rotation(rotation).cloned();
        let Some((found, credential)) = found.and_then(|found| {
            let credential = found.credential.clone();
            credential.map(|credential| (found, credential))
        }) else {
            return Ok(());
        };
        let change = match self.retrieve(&credential).await {
            Ok(answer) if answer.value.is_some() && found.missing.is_some() => {
                Change::from(FoundCredential {
                    rotation: rotation.clone(),
                })
            }
            Ok(answer) if answer.value.is_some() => return Ok(()),
            Ok(_) => {
                let missing = self.missing_since(&found);
                if missing.checks >= CHECKS_UNTIL_GONE {
                    Change::from(Transition::new(rotation, LifecycleEvent::FoundDeleted))
                } else {
                    Change::from(MissingCredential {
                        rotation: rotation.clone(),
                        missing,
                    })
                }
            }
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            // Not an answer: it is asked again with the next sweep, or at once
            // where it is missing already.
            Err(error) => {
                tracing::warn!(key = %self.state.key, %rotation, "{error}");
                match found.missing {
                    Some(missing) => Change::from(MissingCredential {
                        rotation: rotation.clone(),
                        missing: MissingSince {
                            since: time::whole_seconds(self.now()),
                            checks: missing.checks,
                        },
                    }),
                    None => return Ok(()),
                }
            }
        };
        self.record(vec![change]).await
    }

    /// What a sweep found about one rotation of this key.
    pub(crate) async fn handle_discrepancy(
        &mut self,
        finding: Discrepancy,
    ) -> Result<(), LedgerError> {
        let Discrepancy {
            rotation,
            remote_state: seen,
            ..
        } = finding;
        let row = self.state.rotation(&rotation);
        match seen {
            RemoteState::AsExpected(_) => Ok(()),
            RemoteState::Absent if row.is_some_and(can_be_missing) => {
                self.check_presence(&rotation).await
            }
            RemoteState::Absent => Ok(()),
            RemoteState::UnexpectedlyLive(facts) if row.is_none() => {
                self.handle_live_credential(&rotation, facts).await
            }
            RemoteState::UnexpectedlyLive(_) => Ok(()),
            // The row may have got its credential since the list was made.
            RemoteState::DuplicateLabel(facts)
                if self.is_known_credential(&facts) || row.is_some_and(is_create_pending) =>
            {
                Ok(())
            }
            RemoteState::DuplicateLabel(facts) => self.handle_duplicate(&rotation, &facts).await,
        }
    }

    fn is_known_credential(&self, facts: &CredentialMetadata) -> bool {
        let mut live = self.state.live.iter();
        live.any(|rotation| {
            let known = rotation.credential.as_ref();
            known.is_some_and(|known| known.id == facts.id)
        })
    }

    async fn handle_duplicate(
        &mut self,
        rotation: &RotationId,
        facts: &CredentialMetadata,
    ) -> Result<(), LedgerError> {
        match self.revoke_duplicate(rotation, facts).await {
            Ok(change) => self.record(vec![change]).await,
            Err(error) => self.handle_discrepancy_error(rotation, &error).await,
        }
    }

    /// The next sweep finds it again.
    async fn handle_discrepancy_error(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        self.needs_follow_up = true;
        if !self.is_global_failure(error).await {
            tracing::warn!(key = %self.state.key, %rotation, "{error}; it is tried again");
        }
        Ok(())
    }

    /// A list may be old: that it is alive is asked again before it is
    /// believed.
    async fn handle_live_credential(
        &mut self,
        rotation: &RotationId,
        facts: CredentialMetadata,
    ) -> Result<(), LedgerError> {
        match self.retrieve(&facts).await {
            Ok(answer) if answer.value.is_some() => {
                let moved = Transition {
                    credential: Some(facts),
                    ..Transition::new(rotation, LifecycleEvent::FoundAlive)
                };
                self.record(vec![Change::from(moved)]).await?;
                // While it was taken for gone no sink was taken from it.
                self.needs_sink_sync = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.handle_discrepancy_error(rotation, &error).await,
        }
    }

    /// Deletes a credential that bears the label of a rotation and is not the
    /// one of its row.
    pub(crate) async fn revoke_duplicate(
        &self,
        rotation: &RotationId,
        double: &CredentialMetadata,
    ) -> Result<Change, ProviderError> {
        let deleted = self.services.provider.delete(&double.id).await;
        self.observe_response(&deleted);
        deleted?;
        Ok(Change::from(RevokedDuplicate {
            rotation: rotation.clone(),
            credential: double.id.clone(),
        }))
    }
}

/// Whether absence from a list is a reason to look.
fn can_be_missing(rotation: &Rotation) -> bool {
    rotation.missing.is_none()
        && matches!(
            rotation.phase,
            Phase::Current | Phase::Stranded | Phase::Retired
        )
}

/// Whether its create has no answer yet.
fn is_create_pending(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Intended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunMode;
    use crate::engine::tests::fake::{Fakes, at, key};
    use crate::engine::tests::rotation_changes::{created, current, intended, transitioned};

    /// The one rotation that these changes lead to.
    async fn rotation_after(changes: Vec<Change>) -> Rotation {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(vec![(key(), changes)]).await;
        let managed = fakes.managed_key(key(), |_| {});
        let engine = fakes.open_engine(vec![managed], RunMode::Command).await;
        engine.state(&key()).unwrap().live[0].clone()
    }

    #[tokio::test]
    async fn only_existing_credentials_not_yet_missing_can_be_missing() {
        let mut found_open = created(1);
        found_open.push(transitioned(1, LifecycleEvent::Interrupted));
        for (changes, may) in [
            (current(1), true),
            (found_open, true),
            (intended(1), false),
            (created(1), false),
        ] {
            let mut rotation = rotation_after(changes).await;
            assert_eq!(can_be_missing(&rotation), may, "{}", rotation.phase);
            assert_eq!(
                is_create_pending(&rotation),
                rotation.phase == Phase::Intended
            );
            rotation.missing = Some(MissingSince {
                since: at(),
                checks: 1,
            });
            assert!(!can_be_missing(&rotation), "it is looked for already");
        }
    }
}
