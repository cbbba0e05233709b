//! Handles the discrepancies that a reconciliation found, and checks for missing
//! credentials.

use crate::core::change::{
    Change, FoundCredential, MissingCredential, RevokedDuplicate, Transition,
};
use crate::core::condition::Condition;
use crate::core::creation_time::existed_before;
use crate::core::decide::revocation::{DeferReason, RevocationReason, sink_overlaps};
use crate::core::ids::{Label, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{CHECKS_UNTIL_GONE, SinkHold, delivery_hold};
use crate::core::state::{CredentialMetadata, MissingSince, Rotation};
use crate::core::time;
use crate::engine::effects::revoke::{
    ExpectedName, LEDGER_CHANGED, OwnIdentity, RECONFIGURED, RevocationOutcome, STILL_SHOWN,
};
use crate::engine::worker::Worker;
use crate::ledger::{Discrepancy, LedgerError, RemoteState};
use crate::provider::{ProviderError, ProviderResponse};

impl Worker {
    /// Returns the record of a missing credential after one more check. While most
    /// credentials are missing at once, the count starts over.
    pub(crate) fn missing_since(&self, rotation: &Rotation) -> MissingSince {
        let restarts = self
            .services
            .conditions
            .is_active_in(&self.context.scope, Condition::Organization);
        match rotation.missing {
            Some(previous) if !restarts => MissingSince {
                since: previous.since,
                checks: previous.checks + 1,
            },
            Some(_) | None => MissingSince {
                since: time::whole_seconds(self.now()),
                checks: 1,
            },
        }
    }

    /// Checks whether a credential still exists. Three answers of 404 over a quarter of
    /// an hour, and what `confirm_absence` asks for after them, prove that it does not.
    pub(crate) async fn check_presence(
        &mut self,
        rotation: &RotationId,
    ) -> Result<(), LedgerError> {
        let row = self.state.rotation(rotation).cloned();
        let Some((row, credential)) = row.and_then(|row| {
            let credential = row.credential.clone();
            credential.map(|credential| (row, credential))
        }) else {
            return Ok(());
        };
        let change = match self.retrieve(&credential).await {
            Ok(answer) if answer.value.is_some() && row.missing.is_some() => {
                Change::from(FoundCredential {
                    rotation: rotation.clone(),
                })
            }
            Ok(answer) if answer.value.is_some() => return Ok(()),
            Ok(_) => match self.missing_since(&row) {
                missing if missing.checks < CHECKS_UNTIL_GONE => Change::from(MissingCredential {
                    rotation: rotation.clone(),
                    missing,
                }),
                missing => match self.confirm_absence(&credential.id, None).await {
                    Ok(()) => Change::from(Transition::new(rotation, LifecycleEvent::FoundDeleted)),
                    Err(error) if self.is_global_failure(&error).await => return Ok(()),
                    Err(error) => {
                        tracing::warn!(key = %self.state.key, %rotation, "{error}");
                        Change::from(MissingCredential {
                            rotation: rotation.clone(),
                            missing: MissingSince {
                                since: time::whole_seconds(self.now()),
                                checks: missing.checks - 1,
                            },
                        })
                    }
                },
            },
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            // Without an answer, the next reconciliation checks again; for a credential
            // that is missing already, the next step does.
            Err(error) => {
                tracing::warn!(key = %self.state.key, %rotation, "{error}");
                match row.missing {
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

    /// Handles a discrepancy of one rotation of this key.
    pub(crate) async fn handle_discrepancy(
        &mut self,
        discrepancy: Discrepancy,
    ) -> Result<(), LedgerError> {
        let Discrepancy {
            rotation,
            remote_state,
            ..
        } = discrepancy;
        let row = self.state.rotation(&rotation);
        match remote_state {
            RemoteState::AsExpected(_) if row.is_some_and(|row| row.missing.is_some()) => {
                self.check_presence(&rotation).await
            }
            RemoteState::AsExpected(_) => Ok(()),
            RemoteState::OtherEnd(_, end) => self.learn_end(&rotation, end).await,
            RemoteState::Absent if row.is_some_and(can_be_missing) => {
                self.check_presence(&rotation).await
            }
            RemoteState::Absent => Ok(()),
            RemoteState::UnexpectedlyLive(credential) if row.is_none() => {
                self.handle_live_credential(&rotation, credential).await
            }
            RemoteState::UnexpectedlyLive(_) => Ok(()),
            // The row may have received its credential since the list was made.
            RemoteState::DuplicateLabel(credential)
                if self.has_credential(&credential) || row.is_some_and(is_create_pending) =>
            {
                Ok(())
            }
            RemoteState::DuplicateLabel(credential) => {
                self.handle_duplicate(&rotation, &credential).await
            }
        }
    }

    fn has_credential(&self, credential: &CredentialMetadata) -> bool {
        let mut live = self.state.live.iter();
        live.any(|rotation| {
            let recorded = rotation.credential.as_ref();
            recorded.is_some_and(|recorded| recorded.id == credential.id)
        })
    }

    /// Revokes a credential with the label of a rotation that is not the one of its row.
    /// If that fails, the next reconciliation finds it again.
    async fn handle_duplicate(
        &mut self,
        rotation: &RotationId,
        credential: &CredentialMetadata,
    ) -> Result<(), LedgerError> {
        let reason = RevocationReason::DuplicateLabel;
        let ledger = &self.services.ledger;
        let Some(row) = ledger.rotation(&self.state.key, rotation).await? else {
            return Ok(());
        };
        if !row.phase.is_ended() {
            match self.identify_own(&row).await {
                Ok(OwnIdentity::Confirmed) => {}
                Ok(shown @ (OwnIdentity::OtherName | OwnIdentity::Absent)) => {
                    let answer = match shown {
                        OwnIdentity::Absent => "does not have",
                        OwnIdentity::OtherName | OwnIdentity::Confirmed => "has another name for",
                    };
                    let own = row.credential.as_ref().map(|own| own.id.to_string());
                    tracing::error!(key = %self.state.key, %rotation, credential = %credential.id,
                        "{}: {} has the label of {rotation}, but the provider {answer} {}, the \
                         credential of that rotation; revoking neither; hint: compare them at the \
                         provider", self.state.key, credential.id, own.unwrap_or_default());
                    return Ok(());
                }
                Err(error) => return self.handle_discrepancy_error(rotation, &error).await,
            }
        }
        if self.may_be_delivered(&row) {
            self.needs_follow_up = true;
            tracing::warn!(key = %self.state.key, %rotation, credential = %credential.id,
                "{}: {} has the label of {rotation}, whose own credential is gone, and may be what \
                 its sinks received; not revoking it before an overlap after they accept another \
                 one", self.state.key, credential.id);
            return Ok(());
        }
        let name = ExpectedName {
            recorded: row.label.as_ref().map(Label::as_str),
            ..ExpectedName::default()
        };
        let lock = self.lock_credential(&credential.id).await?;
        let revoked = self.revoke_if_allowed(&lock, credential, None, reason, name);
        let problem = match revoked.await {
            Ok(RevocationOutcome::Deleted) => {
                let revoked = RevokedDuplicate {
                    rotation: rotation.clone(),
                    credential: credential.id.clone(),
                };
                return self.record(vec![Change::from(revoked)]).await;
            }
            // The list was stale.
            Ok(RevocationOutcome::AlreadyGone | RevocationOutcome::Blocked(_)) => return Ok(()),
            Ok(RevocationOutcome::OtherName(other)) => {
                self.log_left_duplicate(rotation, credential, &other.message());
                return Ok(());
            }
            Ok(RevocationOutcome::Deferred(deferral))
                if deferral.reason == DeferReason::MayBeInUse =>
            {
                self.log_left_duplicate(rotation, credential, &deferral.message());
                return Ok(());
            }
            Ok(RevocationOutcome::HeldElsewhere(held)) => held.message(),
            Ok(RevocationOutcome::StillShown) => STILL_SHOWN.to_owned(),
            Ok(RevocationOutcome::Reconfigured) => RECONFIGURED.to_owned(),
            Ok(RevocationOutcome::LedgerChanged) => LEDGER_CHANGED.to_owned(),
            Ok(RevocationOutcome::Deferred(deferral)) => deferral.message(),
            Err(error) => return self.handle_discrepancy_error(rotation, &error).await,
        };
        self.needs_follow_up = true;
        tracing::warn!(key = %self.state.key, %rotation, credential = %credential.id,
            "{}: {} has the label of another credential and is not revoked yet: {problem}",
            self.state.key, credential.id);
        Ok(())
    }

    /// Returns whether what bears the label of an ended rotation may be what its sinks
    /// received, and still hold: an answer to a create that showed an id of its own. The
    /// removal of sinks is not recorded in an ended row.
    fn may_be_delivered(&self, row: &Rotation) -> bool {
        if !row.phase.is_ended() || row.revoke_now || row.deadline.is_some() {
            return false;
        }
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let configured = self.managed.as_ref().map(|managed| managed.all_sinks());
        let overlaps = sink_overlaps(policy);
        let removed = row.revoked_at.map_or(SinkHold::None, |at| {
            SinkHold::Until(time::after(at, overlaps.after_removal))
        });
        let deliveries = row.deliveries.iter().filter(|one| one.required);
        let holds = deliveries.map(|delivery| {
            let mut sinks = configured.iter().flatten();
            let held = delivery_hold(delivery, row, &self.state, overlaps);
            if sinks.any(|(sink, _)| *sink == delivery.sink) {
                held
            } else {
                held.min(removed)
            }
        });
        match holds.max() {
            None | Some(SinkHold::None) => false,
            Some(SinkHold::Until(at)) => at > self.now(),
            Some(SinkHold::Indefinite) => true,
        }
    }

    /// Logs a duplicate whose owner only a person can find out: rekeyd requests no further
    /// list for it.
    fn log_left_duplicate(
        &self,
        rotation: &RotationId,
        credential: &CredentialMetadata,
        problem: &str,
    ) {
        tracing::warn!(key = %self.state.key, %rotation, credential = %credential.id,
            "{}: {} has the same name as another credential in the list; rekeyd leaves it alone: \
             {problem}; hint: inspect it at the provider, and delete it there if nothing \
             uses it", self.state.key, credential.id);
    }

    /// Logs a failure; the next reconciliation finds the discrepancy again.
    async fn handle_discrepancy_error(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        self.needs_follow_up = true;
        if !self.is_global_failure(error).await {
            tracing::warn!(
                key = %self.state.key, %rotation,
                "{}: cannot resolve a difference to the provider's list: {error}; retrying at the \
                 next reconciliation",
                self.state.key
            );
        }
        Ok(())
    }

    /// Records that a credential is alive that was recorded as revoked, after another
    /// request for it: the list may be stale.
    async fn handle_live_credential(
        &mut self,
        rotation: &RotationId,
        credential: CredentialMetadata,
    ) -> Result<(), LedgerError> {
        match self.retrieve(&credential).await {
            Ok(ProviderResponse {
                value: Some(listed),
                ..
            }) => {
                let ledger = &self.services.ledger;
                let Some(ended_row) = ledger.rotation(&self.state.key, rotation).await? else {
                    // It was pruned since the comparison, and the next one returns its row.
                    return Ok(());
                };
                // A row without a credential claims this one, whose name the provider may have
                // changed.
                let claims = ended_row.credential.is_none();
                // Nobody else knows the label: what bears it in this answer is not older.
                let is_older = |row: &Rotation| {
                    listed.name.as_deref() != row.label.as_ref().map(Label::as_str)
                        && existed_before(listed.metadata.created_at, row.earliest_creation())
                };
                if claims && is_older(&ended_row) {
                    tracing::warn!(key = %self.state.key, %rotation, credential = %credential.id,
                        "{}: a list shows {} under the label of {rotation}, but it is older and \
                         has another name; not revoking it", self.state.key, credential.id);
                    return Ok(());
                }
                let transition = Transition {
                    credential: Some(credential),
                    name: listed.name.filter(|_| claims),
                    ended_row: Some(Box::new(ended_row)),
                    ..Transition::new(rotation, LifecycleEvent::FoundAlive)
                };
                self.record(vec![Change::from(transition)]).await?;
                // While it was recorded as gone, the removal of its sinks was not.
                self.needs_sink_sync = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.handle_discrepancy_error(rotation, &error).await,
        }
    }
}

/// Returns whether a credential's absence from the list must be checked.
fn can_be_missing(rotation: &Rotation) -> bool {
    rotation.missing.is_none()
        && matches!(
            rotation.phase,
            Phase::Current | Phase::Stranded | Phase::Retired
        )
}

/// Returns whether the outcome of the create is not recorded yet.
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
        let mut interrupted = created(1);
        interrupted.push(transitioned(1, LifecycleEvent::Interrupted));
        for (changes, may) in [
            (current(1), true),
            (interrupted, true),
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
            assert!(!can_be_missing(&rotation), "it is being checked already");
        }
    }
}
