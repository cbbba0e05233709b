//! A credential whose revocation is decided.

use std::sync::Arc;

use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::ids::CredentialId;
use crate::core::policy::KeyPolicy;
use crate::core::state::{KeyState, Rotation, Trigger};

/// A credential to revoke, with the facts that need no request to the provider.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The key that it belongs to.
    pub key: &'a KeyState,
    /// Its rotation; none for a duplicate, which has no row.
    pub rotation: Option<&'a Rotation>,
    /// Its id.
    pub credential: &'a CredentialId,
    /// The key's policy; none for a key that is not configured any more.
    pub policy: Option<&'a KeyPolicy>,
    /// The rows that other keys have of it.
    pub others: &'a [OtherHolder],
    /// The reason to revoke it.
    pub reason: RevocationReason,
    /// Whether no clock condition is active.
    pub is_clock_trusted: bool,
}

impl Candidate<'_> {
    /// Whether a key adopted it: a person made it, and may have given it to anybody.
    #[must_use]
    pub fn was_adopted(&self) -> bool {
        let others = self.others.iter().map(|other| &other.rotation);
        let mut rows = self.rotation.into_iter().chain(others);
        rows.any(|row| row.trigger == Trigger::Adopted)
    }
}

/// Another key with a live row of the credential.
#[derive(Debug, Clone)]
pub struct OtherHolder {
    /// The key.
    pub key: KeyState,
    /// Its row.
    pub rotation: Rotation,
    /// The key's policy; none for a key that is not configured any more.
    pub policy: Option<Arc<KeyPolicy>>,
}
