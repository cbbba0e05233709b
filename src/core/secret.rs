//! Secrets, and the cell that holds the credential in use.
//!
//! A secret lives in memory until it is delivered, and nowhere else. It is
//! wiped when the last copy of the handle goes, it has no `Display`, and its
//! `Debug` shows nothing. Every living secret is known to this module, so that
//! text from outside can be searched for all of them before it is shown
//! (see [`crate::core::redact`]).

use std::fmt;
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use secrecy::{ExposeSecret, SecretString};

use crate::core::ids::CredentialId;

/// The secrets alive in this process, so that none of them can pass through an
/// error message unseen. Weak, so that being listed keeps none alive.
static LIVE_SECRETS: Mutex<Vec<Weak<SecretValue>>> = Mutex::new(Vec::new());

/// Below this length a text is no secret worth masking: replacing every `a` in
/// a message would hide the message and not the secret.
const MIN_MASKED_LEN: usize = 8;

/// A secret value. Cheap to clone; the value is wiped with the last clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretValue>);

struct SecretValue {
    value: SecretString,
    /// What to look for where it may have been written in another form. Made
    /// when a text is searched for the first time, and wiped with the value.
    encoded_forms: OnceLock<Vec<SecretString>>,
}

impl Secret {
    /// Takes a value into keeping.
    #[must_use]
    pub fn new(value: String) -> Self {
        let kept = Arc::new(SecretValue {
            value: SecretString::from(value),
            encoded_forms: OnceLock::new(),
        });
        let mut alive = LIVE_SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|other| other.strong_count() > 0);
        alive.push(Arc::downgrade(&kept));
        Self(kept)
    }

    /// The value itself: for the request, the file or the signature that needs
    /// it, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.value.expose_secret()
    }

    /// Whether both hold the same value.
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

/// Whether a secret may be the one with this redacted value, such as
/// `sk-admin...def`: the provider keeps its end. None if the redacted value
/// shows no end.
#[must_use]
pub fn matches_suffix(secret: &str, redacted_value: &str) -> Option<bool> {
    let shown = redacted_value.rsplit(['.', '*', '…']).next()?;
    (!shown.is_empty()).then(|| secret.ends_with(shown))
}

/// Calls `visit` with every form of every living secret long enough to be one.
/// `forms` makes them of a secret, itself included, once.
pub(crate) fn for_each_live(forms: fn(&str) -> Vec<SecretString>, mut visit: impl FnMut(&str)) {
    let alive: Vec<_> = {
        let alive = LIVE_SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
        alive.iter().filter_map(Weak::upgrade).collect()
    };
    for secret in alive {
        let value = secret.value.expose_secret();
        if value.len() < MIN_MASKED_LEN {
            continue;
        }
        for form in secret.encoded_forms.get_or_init(|| forms(value)) {
            visit(form.expose_secret());
        }
    }
}

/// The admin credential that rekeyd itself works with. The provider reads it
/// at each request, so that another one takes effect without a restart.
///
/// After a change over the former one is kept until it is revoked: should the
/// new one be refused, there is something to fall back to.
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
    /// An empty cell: no credential has been found yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The credential in use, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<Secret> {
        self.read().in_use.clone()
    }

    /// The one that was in use before a change over, until it is revoked.
    #[must_use]
    pub fn previous(&self) -> Option<Secret> {
        let held = self.read();
        held.previous.as_ref().map(|former| former.secret.clone())
    }

    /// Whether the former one is in use again.
    #[must_use]
    pub fn is_using_previous(&self) -> bool {
        let held = self.read();
        held.previous.as_ref().is_some_and(|former| {
            let used = held.in_use.as_ref();
            used.is_some_and(|used| used.same_as(&former.secret))
        })
    }

    /// Whether the credential in use may be the one with this redacted value,
    /// such as `sk-admin...def`: the provider keeps the end of the secret.
    #[must_use]
    pub fn might_be(&self, redacted_value: &str) -> bool {
        self.get()
            .is_some_and(|used| matches_suffix(used.expose(), redacted_value) == Some(true))
    }

    /// Whether the one that was in use before may be the one with this redacted
    /// value.
    #[must_use]
    pub fn previous_might_be(&self, redacted_value: &str) -> bool {
        self.previous()
            .is_some_and(|previous| matches_suffix(previous.expose(), redacted_value) == Some(true))
    }

    /// Puts another credential to use.
    pub fn set(&self, secret: Secret) {
        self.write().in_use = Some(secret);
    }

    /// Puts the one to use that replaces the one in use, and keeps that one
    /// until it is forgotten by its id.
    pub fn switch_to(&self, secret: Secret, replaced: Option<CredentialId>) {
        let mut held = self.write();
        let used = held.in_use.take().filter(|used| !used.same_as(&secret));
        if let Some(used) = used {
            held.previous = Some(PreviousCredential {
                secret: used,
                id: replaced,
            });
        }
        held.in_use = Some(secret);
    }

    /// Drops the former one, if that is what was revoked.
    pub fn forget_revoked(&self, revoked: &CredentialId) {
        let mut held = self.write();
        let former = held.previous.as_ref();
        if former.is_some_and(|former| former.id.as_ref() == Some(revoked)) {
            held.previous = None;
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
        let shown = format!("{secret:?} {cell:?}");
        assert!(shown.starts_with("Secret(…)"), "{shown}");
        assert!(!shown.contains("debug-form"), "{shown}");
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

    fn identity_form(value: &str) -> Vec<SecretString> {
        vec![SecretString::from(value)]
    }

    #[test]
    fn dropped_secret_is_not_listed() {
        let seen = |wanted: &str| {
            let mut found = false;
            for_each_live(identity_form, |value| found |= value == wanted);
            found
        };
        let secret = Secret::new("sk-admin-forgotten-later".to_owned());
        assert!(seen("sk-admin-forgotten-later"));
        drop(secret);
        assert!(!seen("sk-admin-forgotten-later"));
    }

    fn secret(value: &str) -> Secret {
        Secret::new(value.to_owned())
    }

    fn id(text: &str) -> CredentialId {
        CredentialId::new(text.to_owned())
    }

    #[test]
    fn short_values_are_not_masked() {
        let kept = [secret("7letter"), secret("8letters")];
        let mut seen = Vec::new();
        for_each_live(identity_form, |value| seen.push(value.to_owned()));
        assert!(seen.contains(&"8letters".to_owned()));
        assert!(!seen.contains(&"7letter".to_owned()));
        drop(kept);
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
        // The same once more is no change over.
        cell.switch_to(secret("sk-admin-two"), Some(id("key_2")));
        assert_eq!(cell.previous().unwrap().expose(), "sk-admin-one");
        // Back to the former one, for a while.
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
