//! Decides deferred revocations again as soon as what they wait for may be over
//! ([`RecheckCause`]), instead of at their time.

use jiff::Timestamp;

use crate::core::decide::revocation::RecheckCause;
use crate::engine::scheduler::Engine;

impl Engine {
    /// Wakes the keys with deferred revocations whose reason may be over. A key that a
    /// worker has is checked when it returns: it may be deciding its first deferral.
    pub(super) fn recheck_deferrals(&mut self, now: Timestamp) {
        let version = self.services.provider.own_credential_version();
        if version != self.rechecks.credential_version {
            self.rechecks.credential_version = version;
            self.rechecks.add(RecheckCause::OwnCredential);
        }
        let causes = self.rechecks.take_due(now);
        if causes.is_empty() {
            return;
        }
        let mut affected = Vec::new();
        for key in &self.deferring {
            if let Some(entry) = self.keys.get_mut(key)
                && entry.recheck_deferrals(&causes, now)
            {
                affected.push(key.clone());
            }
        }
        if causes.contains(&RecheckCause::Targets) && !affected.is_empty() {
            self.rechecks.by_targets_at = Some(now);
        }
        for key in affected {
            self.wake(&key, now);
        }
    }
}
