//! Handles what a reconciliation found, and looks for credentials that are
//! missing.

use crate::core::change::{
    Change, FoundCredential, MissingCredential, RevokedDuplicate, Transition,
};
use crate::core::condition::Condition;
use crate::core::decide::revocation::RevocationReason;
use crate::core::ids::RotationId;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::CHECKS_UNTIL_GONE;
use crate::core::state::{CredentialMetadata, MissingSince, Rotation};
use crate::core::time;
use crate::engine::effects::revoke::{RevocationOutcome, STILL_SHOWN};
use crate::engine::worker::Worker;
use crate::ledger::{Discrepancy, LedgerError, RemoteState};
use crate::provider::ProviderError;

impl Worker {
    /// Returns since when a credential is missing, one check later.
    pub(crate) fn missing_since(&self, rotation: &Rotation) -> MissingSince {
        let start_over = self
            .services
            .conditions
            .is_active_in(&self.context.scope, Condition::Organization);
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

    /// Checks whether a credential still exists. Three answers of 404 over a
    /// quarter of an hour prove that it does not; a list proves nothing.
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
            // No answer: the next reconciliation checks again, or the next step
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

    /// Handles what a reconciliation found about one rotation of this key.
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
            // The row may have received its credential since the list was made.
            RemoteState::DuplicateLabel(facts)
                if self.has_credential(&facts) || row.is_some_and(is_create_pending) =>
            {
                Ok(())
            }
            RemoteState::DuplicateLabel(facts) => self.handle_duplicate(&rotation, &facts).await,
        }
    }

    fn has_credential(&self, facts: &CredentialMetadata) -> bool {
        let mut live = self.state.live.iter();
        live.any(|rotation| {
            let known = rotation.credential.as_ref();
            known.is_some_and(|known| known.id == facts.id)
        })
    }

    /// Revokes a credential that bears the label of a rotation and is not the one
    /// of its row. What is not revoked now, the next reconciliation finds again.
    async fn handle_duplicate(
        &mut self,
        rotation: &RotationId,
        facts: &CredentialMetadata,
    ) -> Result<(), LedgerError> {
        let reason = RevocationReason::DuplicateLabel;
        let problem = match self.revoke_if_allowed(facts, None, reason).await {
            Ok(RevocationOutcome::Deleted) => {
                let revoked = RevokedDuplicate {
                    rotation: rotation.clone(),
                    credential: facts.id.clone(),
                };
                return self.record(vec![Change::from(revoked)]).await;
            }
            // The list was stale.
            Ok(RevocationOutcome::AlreadyGone | RevocationOutcome::Blocked(_)) => return Ok(()),
            Ok(RevocationOutcome::StillShown) => STILL_SHOWN.to_owned(),
            Ok(RevocationOutcome::Deferred(deferral)) => deferral.message(),
            Err(error) => return self.handle_discrepancy_error(rotation, &error).await,
        };
        self.needs_follow_up = true;
        tracing::warn!(key = %self.state.key, %rotation, credential = %facts.id,
            "{} bears the label of another credential and is not revoked yet: {problem}", facts.id);
        Ok(())
    }

    /// Logs a failure; the next reconciliation finds the discrepancy again.
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

    /// Records a credential as alive that was recorded as revoked, after asking
    /// the provider once more: a list may be stale.
    async fn handle_live_credential(
        &mut self,
        rotation: &RotationId,
        facts: CredentialMetadata,
    ) -> Result<(), LedgerError> {
        match self.retrieve(&facts).await {
            Ok(answer) if answer.value.is_some() => {
                let ledger = &self.services.ledger;
                let ended_row = ledger.rotation(&self.state.key, rotation).await?;
                let moved = Transition {
                    credential: Some(facts),
                    ended_row: ended_row.map(Box::new),
                    ..Transition::new(rotation, LifecycleEvent::FoundAlive)
                };
                self.record(vec![Change::from(moved)]).await?;
                // While it was recorded as gone, removed sinks were not recorded.
                self.needs_sink_sync = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.handle_discrepancy_error(rotation, &error).await,
        }
    }
}

/// Returns whether absence from a list is a reason to ask the provider.
fn can_be_missing(rotation: &Rotation) -> bool {
    rotation.missing.is_none()
        && matches!(
            rotation.phase,
            Phase::Current | Phase::Stranded | Phase::Retired
        )
}

/// Returns whether the create has no answer yet.
fn is_create_pending(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Intended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunMode;
    use crate::engine::tests::fake::{Fakes, at, key};
    use crate::engine::tests::rotation_changes::{created, current, intended, transitioned};

    /// Returns the one rotation that these changes lead to.
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
