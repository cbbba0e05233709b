//! Secrets, and the cell that holds the credential in use.
//!
//! A secret lives in memory until it is delivered, and nowhere else. Its value is
//! wiped with its last handle, it has no `Display`, and its `Debug` hides the value.
//! This module lists every live secret, so that text from outside can be searched
//! for all of them before it is shown (see [`crate::core::redact`]).

mod fragments;

use std::fmt;
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use secrecy::{ExposeSecret, SecretString};

use self::fragments::Fragments;
use crate::core::ids::CredentialId;

/// The live secrets of this process, to redact them in error messages. The list holds
/// weak references, which keep no secret alive.
static LIVE_SECRETS: Mutex<Vec<Weak<SecretValue>>> = Mutex::new(Vec::new());

/// The length below which a secret is not redacted: replacing every `a` in a message
/// would hide the message and not the secret.
const MIN_MASKED_LEN: usize = 8;

/// A secret value. Cheap to clone; the value is wiped with the last clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretValue>);

struct SecretValue {
    value: SecretString,
    /// The fragments to search for, computed at the first search and wiped with the value.
    fragments: OnceLock<Fragments>,
}

impl Secret {
    /// Returns a secret with this value, and lists it among the live secrets.
    #[must_use]
    pub fn new(value: String) -> Self {
        let secret = Arc::new(SecretValue {
            value: SecretString::from(value),
            fragments: OnceLock::new(),
        });
        let mut live = LIVE_SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|other| other.strong_count() > 0);
        live.push(Arc::downgrade(&secret));
        Self(secret)
    }

    /// Returns the value, only for the request, the file or the signature that needs
    /// it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.value.expose_secret()
    }

    /// Returns whether both secrets have the same value.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Returns whether a secret may have this redacted value, such as `sk-admin...def`:
/// the provider keeps the end of a secret. None if the redacted value shows no end.
#[must_use]
pub fn matches_suffix(secret: &str, redacted_value: &str) -> Option<bool> {
    let suffix = redacted_value.rsplit(['.', '*', '…']).next()?;
    (!suffix.is_empty()).then(|| secret.ends_with(suffix))
}

/// A live secret that a text is searched for.
pub(crate) struct LiveSecret(Arc<SecretValue>);

impl LiveSecret {
    /// Returns the fragments that a text may hold of it.
    pub(crate) fn fragments(&self) -> &Fragments {
        let new = || Fragments::new(self.0.value.expose_secret());
        self.0.fragments.get_or_init(new)
    }
}

/// Returns every live secret of at least `MIN_MASKED_LEN` bytes.
pub(crate) fn live_secrets() -> Vec<LiveSecret> {
    let live = LIVE_SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let live = live.iter().filter_map(Weak::upgrade);
    let live = live.filter(|secret| secret.value.expose_secret().len() >= MIN_MASKED_LEN);
    live.map(LiveSecret).collect()
}

/// The admin credential that rekeyd authenticates with. The provider client reads it
/// at each request, so that a new one takes effect without a restart.
///
/// After a switch, the previous credential is kept until it is revoked: rekeyd falls
/// back to it if the provider refuses the new one.
#[derive(Debug, Clone, Default)]
pub struct ActiveCredential(Arc<RwLock<CredentialPair>>);

#[derive(Debug, Default)]
struct CredentialPair {
    in_use: Option<Secret>,
    previous: Option<PreviousCredential>,
}

#[derive(Debug)]
struct PreviousCredential {
    secret: Secret,
    id: Option<CredentialId>,
}

impl ActiveCredential {
    /// Returns a cell without a credential.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the credential in use.
    #[must_use]
    pub fn get(&self) -> Option<Secret> {
        self.read().in_use.clone()
    }

    /// Returns the credential that was in use before the last switch, until it is
    /// revoked.
    #[must_use]
    pub fn previous(&self) -> Option<Secret> {
        let pair = self.read();
        let previous = pair.previous.as_ref();
        previous.map(|previous| previous.secret.clone())
    }

    /// Returns whether the previous credential is in use again.
    #[must_use]
    pub fn is_using_previous(&self) -> bool {
        let pair = self.read();
        pair.previous.as_ref().is_some_and(|previous| {
            let used = pair.in_use.as_ref();
            used.is_some_and(|used| used.same_as(&previous.secret))
        })
    }

    /// Returns whether the credential in use may be the one with this redacted value,
    /// such as `sk-admin...def`.
    #[must_use]
    pub fn might_be(&self, redacted_value: &str) -> bool {
        self.get()
            .is_some_and(|used| matches_suffix(used.expose(), redacted_value) == Some(true))
    }

    /// Returns whether the previous credential may be the one with this redacted value.
    #[must_use]
    pub fn previous_might_be(&self, redacted_value: &str) -> bool {
        self.previous()
            .is_some_and(|previous| matches_suffix(previous.expose(), redacted_value) == Some(true))
    }

    /// Sets the credential in use.
    pub fn set(&self, secret: Secret) {
        self.write().in_use = Some(secret);
    }

    /// Replaces the credential in use, whose id is `replaced`, and keeps it as the
    /// previous one.
    pub fn switch_to(&self, secret: Secret, replaced: Option<CredentialId>) {
        let mut pair = self.write();
        let used = pair.in_use.take().filter(|used| !used.same_as(&secret));
        if let Some(used) = used {
            pair.previous = Some(PreviousCredential {
                secret: used,
                id: replaced,
            });
        }
        pair.in_use = Some(secret);
    }

    /// Drops the previous credential if it is the revoked one.
    pub fn forget_revoked(&self, revoked: &CredentialId) {
        let mut pair = self.write();
        let previous = pair.previous.as_ref();
        if previous.is_some_and(|previous| previous.id.as_ref() == Some(revoked)) {
            pair.previous = None;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, CredentialPair> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, CredentialPair> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_value() {
        let secret = Secret::new("sk-admin-debug-form".to_owned());
        let cell = ActiveCredential::new();
        cell.set(secret.clone());
        let text = format!("{secret:?} {cell:?}");
        assert!(text.starts_with("Secret(…)"), "{text}");
        assert!(!text.contains("debug-form"), "{text}");
    }

    #[test]
    fn redacted_value_matches_by_suffix() {
        assert_eq!(
            matches_suffix("sk-admin-abcdef", "sk-admin...def"),
            Some(true)
        );
        assert_eq!(
            matches_suffix("sk-admin-abcdef", "sk-admin***xyz"),
            Some(false)
        );
        assert_eq!(matches_suffix("sk-admin-abcdef", "sk-admin..."), None);
    }

    fn is_listed(value: &str) -> bool {
        let live = live_secrets();
        live.iter()
            .any(|secret| secret.0.value.expose_secret() == value)
    }

    #[test]
    fn dropped_secret_is_not_listed() {
        let secret = Secret::new("sk-admin-forgotten-later".to_owned());
        assert!(is_listed("sk-admin-forgotten-later"));
        drop(secret);
        // A search in another test may hold it for a moment longer.
        assert!((0..1_000_000).any(|_| {
            std::thread::yield_now();
            !is_listed("sk-admin-forgotten-later")
        }));
    }

    fn secret(value: &str) -> Secret {
        Secret::new(value.to_owned())
    }

    fn id(text: &str) -> CredentialId {
        CredentialId::new(text.to_owned())
    }

    #[test]
    fn short_values_are_not_masked() {
        let secrets = [secret("7letter"), secret("8letters")];
        assert!(is_listed("8letters"));
        assert!(!is_listed("7letter"));
        drop(secrets);
    }

    #[test]
    fn previous_credential_is_held_until_it_is_revoked() {
        let cell = ActiveCredential::new();
        assert!(cell.get().is_none() && cell.previous().is_none() && !cell.is_using_previous());
        assert!(!cell.might_be("sk-admin...one"));
        cell.set(secret("sk-admin-one"));
        assert!(cell.might_be("sk-admin...one") && !cell.might_be("sk-admin...two"));
        assert!(!cell.previous_might_be("sk-admin...one"), "there is none");
        assert!(!cell.might_be("sk-admin..."));
        cell.switch_to(secret("sk-admin-two"), Some(id("key_1")));
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
        assert_eq!(cell.previous().unwrap().expose(), "sk-admin-one");
        assert!(cell.previous_might_be("sk-admin...one"));
        assert!(!cell.previous_might_be("sk-admin...two"));
        assert!(!cell.is_using_previous());
        // The same credential again is no switch.
        cell.switch_to(secret("sk-admin-two"), Some(id("key_2")));
        assert_eq!(cell.previous().unwrap().expose(), "sk-admin-one");
        // rekeyd falls back to the previous one for a while.
        cell.set(secret("sk-admin-one"));
        assert!(cell.is_using_previous());
        cell.set(secret("sk-admin-two"));
        cell.forget_revoked(&id("key_2"));
        assert!(cell.previous().is_some(), "another one was revoked");
        cell.forget_revoked(&id("key_1"));
        assert!(cell.previous().is_none());
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
    }

    #[test]
    fn previous_credential_without_id_is_never_forgotten() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-one"));
        cell.switch_to(secret("sk-admin-two"), None);
        cell.forget_revoked(&id("key_1"));
        assert!(cell.previous().is_some());
    }
}
