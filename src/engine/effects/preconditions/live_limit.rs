//! Whether `max-live-credentials` leaves a place for a rotation, and which credential
//! makes room for it.

use crate::core::change::{Change, ImmediateRevocation, Transition};
use crate::core::decide::revocation::{Revocation, RevocationReason, is_evictable};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::Rotation;
use crate::core::time;
use crate::engine::credential_locks::LockedCredential;
use crate::engine::effects::preconditions::Readiness;
use crate::engine::effects::retry_delay;
use crate::engine::effects::revoke::ExpectedName;
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::ProviderError;

impl Worker {
    /// Checks `max-live-credentials`. At the limit, it evicts a credential that was
    /// stranded before any delivery started and was never used, so that a crash loop
    /// does not block the key for ever.
    pub(super) async fn enforce_live_limit(
        &mut self,
        managed: &ManagedKey,
        is_requested: bool,
    ) -> Result<Readiness, LedgerError> {
        let live = self.state.live.iter();
        let live = live
            .filter(|rotation| rotation.credential.is_some())
            .count();
        if live < managed.policy.max_live_credentials {
            return Ok(Readiness::Ready);
        }
        let problem = format!(
            "{live} live credentials reach max-live-credentials = {}",
            managed.policy.max_live_credentials
        );
        if is_requested {
            self.exceeded_limits.push(problem);
            return Ok(Readiness::Ready);
        }
        let live = self.state.live.iter();
        let candidates = live.filter(|rotation| is_evictable(rotation));
        let candidates: Vec<_> = candidates.cloned().collect();
        for candidate in candidates {
            let Some(credential) = &candidate.credential else {
                continue;
            };
            let lock = self.lock_credential(&credential.id).await?;
            match self.can_evict(&lock, &candidate).await {
                Ok(true) => {
                    self.evict(&candidate).await?;
                    return Ok(Readiness::Deferred);
                }
                Ok(false) => {}
                Err(error) if self.is_global_failure(&error).await => {
                    return Ok(Readiness::Blocked);
                }
                Err(error) => {
                    self.record_backoff(&error.to_string(), retry_delay(&error))
                        .await?;
                    return Ok(Readiness::Deferred);
                }
            }
        }
        let problem = format!(
            "{problem}; hint: `rekeyd status` shows what holds them; revoke those that nothing \
             needs with `rekeyd revoke`"
        );
        self.record_backoff(&problem, None).await?;
        Ok(Readiness::Deferred)
    }

    async fn can_evict(
        &self,
        lock: &LockedCredential,
        rotation: &Rotation,
    ) -> Result<bool, ProviderError> {
        let Some(credential) = &rotation.credential else {
            return Ok(false);
        };
        let reason = RevocationReason::Eviction;
        let decided = self
            .decide_revocation(
                lock,
                credential,
                Some(rotation),
                reason,
                ExpectedName::of_rotation(rotation, &self.services.conditions),
            )
            .await?;
        Ok(match decided.revocation {
            Revocation::Delete | Revocation::AlreadyGone => true,
            Revocation::Defer(_) | Revocation::Blocked(_) | Revocation::Observe(_) => false,
        })
    }

    /// Retires a credential to evict. Its deletion is the next step, for which the
    /// revocation is decided again.
    async fn evict(&mut self, rotation: &Rotation) -> Result<(), LedgerError> {
        let retired = Transition {
            revoke_after: Some(time::next_whole_second(self.now())),
            error: Some(
                "never delivered and never used; revoked because of max-live-credentials"
                    .to_owned(),
            ),
            ..Transition::new(&rotation.id, LifecycleEvent::Replaced)
        };
        let changes = vec![
            Change::from(retired),
            Change::from(ImmediateRevocation {
                rotation: rotation.id.clone(),
            }),
        ];
        self.record(changes).await
    }
}

#[cfg(test)]
mod tests;
