//! Recognizes the secret of a credential without keeping it.

use std::hash::{BuildHasher as _, RandomState};

use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::core::state::CredentialMetadata;

/// What is known of the secret of a credential: the end that its redacted value shows,
/// and, if it came to this process in the answer to its create, its digest.
#[derive(Debug, Clone)]
pub struct ExpectedSecret {
    credential: CredentialMetadata,
    digest: Option<SecretDigest>,
}

/// The digest of a secret, keyed with a random key of this process, so that it says
/// nothing elsewhere.
#[derive(Debug, Clone)]
struct SecretDigest {
    hasher: RandomState,
    value: u64,
}

impl ExpectedSecret {
    /// Returns what the provider shows of a credential's secret.
    #[must_use]
    pub const fn from_metadata(credential: CredentialMetadata) -> Self {
        Self {
            credential,
            digest: None,
        }
    }

    /// Adds the digest of the secret, as `hasher` computes it.
    #[must_use]
    pub fn with_digest(self, hasher: RandomState, value: u64) -> Self {
        Self {
            digest: Some(SecretDigest { hasher, value }),
            ..self
        }
    }

    /// Returns the credential.
    #[must_use]
    pub const fn credential(&self) -> &CredentialMetadata {
        &self.credential
    }

    /// Returns whether a secret is that of the credential. Where its redacted value shows
    /// no end, the digest decides.
    #[must_use]
    pub fn compare(&self, secret: &str) -> EndMatch {
        let is_same = self
            .digest
            .as_ref()
            .map(|digest| digest.hasher.hash_one(secret) == digest.value);
        let redacted = self.credential.redacted_value.as_deref();
        match (is_same, compare_end(secret, redacted)) {
            (Some(true), _) => EndMatch::Same,
            (Some(false), EndMatch::Unknown) => EndMatch::Different,
            (Some(false) | None, compared) => compared,
        }
    }

    /// Returns whether one of `keys` is the secret of the credential.
    #[must_use]
    pub fn is_among(&self, keys: &[Secret]) -> bool {
        let mut keys = keys.iter();
        keys.any(|key| self.compare(key.expose()) == EndMatch::Same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::CredentialId;

    #[test]
    fn digest_decides_where_no_end_is_shown() {
        let (own, other) = ("sk-admin-kept-secret-1234", "sk-admin-other-value-5678");
        for (redacted, is_known, of_own, of_other) in [
            (None, false, EndMatch::Unknown, EndMatch::Unknown),
            (None, true, EndMatch::Same, EndMatch::Different),
            (Some("[hidden]"), true, EndMatch::Same, EndMatch::Different),
            (
                Some("sk-admin-..."),
                true,
                EndMatch::Same,
                EndMatch::Different,
            ),
            (
                Some("sk-admin...1234"),
                false,
                EndMatch::Same,
                EndMatch::Different,
            ),
            (
                Some("sk-admin...1234"),
                true,
                EndMatch::Same,
                EndMatch::Different,
            ),
            // The provider shows another end than that of the secret.
            (
                Some("sk-admin...5678"),
                true,
                EndMatch::Same,
                EndMatch::Same,
            ),
        ] {
            let hasher = RandomState::new();
            let digest = hasher.hash_one(own);
            let by_end = ExpectedSecret::from_metadata(CredentialMetadata {
                id: CredentialId::new("key_a"),
                redacted_value: redacted.map(str::to_owned),
                created_at: None,
                expires_at: None,
            });
            let expected = if is_known {
                by_end.with_digest(hasher, digest)
            } else {
                by_end
            };
            let compared = (expected.compare(own), expected.compare(other));
            assert_eq!(compared, (of_own, of_other), "{redacted:?} {is_known}");
        }
    }
}
