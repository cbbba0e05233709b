//! A lock for each credential, held from the decision to delete it until the deletion is
//! recorded: a credential may have rows of several keys, each with a worker of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::core::decide::revocation::OtherHolder;
use crate::core::ids::CredentialId;

/// The locks of all credentials. Cheap to clone; clones share the locks.
#[derive(Clone, Default)]
pub(crate) struct CredentialLocks(Arc<Mutex<BTreeMap<CredentialId, Weak<tokio::sync::Mutex<()>>>>>);

/// A locked credential, with the rows that other keys have of it.
#[must_use = "a lock that is dropped is free again"]
pub(crate) struct LockedCredential {
    _guard: OwnedMutexGuard<()>,
    /// The other keys' live rows, as recorded since it was locked.
    pub(crate) others: Vec<OtherHolder>,
}

impl CredentialLocks {
    /// Waits for the lock of a credential.
    pub(crate) async fn lock(&self, credential: &CredentialId) -> OwnedMutexGuard<()> {
        let lock = self.lock_of(credential);
        lock.lock_owned().await
    }

    fn lock_of(&self, credential: &CredentialId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(credential).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(credential.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl LockedCredential {
    pub(crate) const fn new(guard: OwnedMutexGuard<()>, others: Vec<OtherHolder>) -> Self {
        Self {
            _guard: guard,
            others,
        }
    }
}
