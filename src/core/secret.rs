//! Secrets, and the cell that holds the credential in use.
//!
//! A secret lives in memory until it is delivered, and nowhere else. It is
//! wiped when the last copy of the handle goes, it has no `Display`, and its
//! `Debug` shows nothing. Every living secret is known to this module, so that
//! text from outside can be searched for all of them before it is shown
//! (see [`crate::core::outside`]).

use std::fmt;
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use secrecy::{ExposeSecret, SecretString};

use crate::core::names::CredentialId;

/// The secrets alive in this process, so that none of them can pass through an
/// error message unseen. Weak, so that being listed keeps none alive.
static ALIVE: Mutex<Vec<Weak<Kept>>> = Mutex::new(Vec::new());

/// Below this length a text is no secret worth masking: replacing every `a` in
/// a message would hide the message and not the secret.
const SHORTEST_MASKED: usize = 8;

/// A secret value. Cheap to clone; the value is wiped with the last clone.
#[derive(Clone)]
pub struct Secret(Arc<Kept>);

struct Kept {
    value: SecretString,
    /// What to look for where it may have been written in another form. Made
    /// when a text is searched for the first time, and wiped with the value.
    forms: OnceLock<Vec<SecretString>>,
}

impl Secret {
    /// Takes a value into keeping.
    #[must_use]
    pub fn new(value: String) -> Self {
        let kept = Arc::new(Kept {
            value: SecretString::from(value),
            forms: OnceLock::new(),
        });
        let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
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
pub fn ends_as(secret: &str, redacted_value: &str) -> Option<bool> {
    let shown = redacted_value.rsplit(['.', '*', '…']).next()?;
    (!shown.is_empty()).then(|| secret.ends_with(shown))
}

/// Calls `visit` with every form of every living secret long enough to be one.
/// `forms` makes them of a secret, itself included, once.
pub(crate) fn each_alive(forms: fn(&str) -> Vec<SecretString>, mut visit: impl FnMut(&str)) {
    let alive: Vec<_> = {
        let alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
        alive.iter().filter_map(Weak::upgrade).collect()
    };
    for secret in alive {
        let value = secret.value.expose_secret();
        if value.len() < SHORTEST_MASKED {
            continue;
        }
        for form in secret.forms.get_or_init(|| forms(value)) {
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
pub struct CredentialCell(Arc<RwLock<Held>>);

#[derive(Debug, Default)]
struct Held {
    in_use: Option<Secret>,
    former: Option<Former>,
}

#[derive(Debug)]
struct Former {
    secret: Secret,
    id: Option<CredentialId>,
}

impl CredentialCell {
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
    pub fn former(&self) -> Option<Secret> {
        let held = self.read();
        held.former.as_ref().map(|former| former.secret.clone())
    }

    /// Whether the former one is in use again.
    #[must_use]
    pub fn has_fallen_back(&self) -> bool {
        let held = self.read();
        held.former.as_ref().is_some_and(|former| {
            let used = held.in_use.as_ref();
            used.is_some_and(|used| used.same_as(&former.secret))
        })
    }

    /// Whether the credential in use may be the one with this redacted value,
    /// such as `sk-admin...def`: the provider keeps the end of the secret.
    #[must_use]
    pub fn may_be(&self, redacted_value: &str) -> bool {
        self.get()
            .is_some_and(|used| ends_as(used.expose(), redacted_value) == Some(true))
    }

    /// Puts another credential to use.
    pub fn set(&self, secret: Secret) {
        self.write().in_use = Some(secret);
    }

    /// Puts the one to use that replaces the one in use, and keeps that one
    /// until it is forgotten by its id.
    pub fn change_over(&self, secret: Secret, replaced: Option<CredentialId>) {
        let mut held = self.write();
        let used = held.in_use.take().filter(|used| !used.same_as(&secret));
        if let Some(used) = used {
            held.former = Some(Former {
                secret: used,
                id: replaced,
            });
        }
        held.in_use = Some(secret);
    }

    /// Drops the former one, if that is what was revoked.
    pub fn forget(&self, revoked: &CredentialId) {
        let mut held = self.write();
        let former = held.former.as_ref();
        if former.is_some_and(|former| former.id.as_ref() == Some(revoked)) {
            held.former = None;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let secret = Secret::new("sk-admin-debug-form".to_owned());
        let cell = CredentialCell::new();
        cell.set(secret.clone());
        let shown = format!("{secret:?} {cell:?}");
        assert!(shown.starts_with("Secret(…)"), "{shown}");
        assert!(!shown.contains("debug-form"), "{shown}");
    }

    #[test]
    fn a_redacted_value_tells_by_its_end() {
        assert_eq!(ends_as("sk-admin-abcdef", "sk-admin...def"), Some(true));
        assert_eq!(ends_as("sk-admin-abcdef", "sk-admin***xyz"), Some(false));
        assert_eq!(ends_as("sk-admin-abcdef", "sk-admin..."), None);
    }

    fn itself(value: &str) -> Vec<SecretString> {
        vec![SecretString::from(value)]
    }

    #[test]
    fn a_dropped_secret_is_forgotten() {
        let seen = |wanted: &str| {
            let mut found = false;
            each_alive(itself, |value| found |= value == wanted);
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
    fn what_is_too_short_to_be_one_masks_nothing() {
        let kept = [secret("7letter"), secret("8letters")];
        let mut seen = Vec::new();
        each_alive(itself, |value| seen.push(value.to_owned()));
        assert!(seen.contains(&"8letters".to_owned()));
        assert!(!seen.contains(&"7letter".to_owned()));
        drop(kept);
    }

    #[test]
    fn after_a_change_over_the_former_one_is_kept_until_it_is_revoked() {
        let cell = CredentialCell::new();
        assert!(cell.get().is_none() && cell.former().is_none() && !cell.has_fallen_back());
        assert!(!cell.may_be("sk-admin...one"));
        cell.set(secret("sk-admin-one"));
        assert!(cell.may_be("sk-admin...one") && !cell.may_be("sk-admin...two"));
        assert!(!cell.may_be("sk-admin..."));
        cell.change_over(secret("sk-admin-two"), Some(id("key_1")));
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
        assert_eq!(cell.former().unwrap().expose(), "sk-admin-one");
        assert!(!cell.has_fallen_back());
        // The same once more is no change over.
        cell.change_over(secret("sk-admin-two"), Some(id("key_2")));
        assert_eq!(cell.former().unwrap().expose(), "sk-admin-one");
        // Back to the former one, for a while.
        cell.set(secret("sk-admin-one"));
        assert!(cell.has_fallen_back());
        cell.set(secret("sk-admin-two"));
        cell.forget(&id("key_2"));
        assert!(cell.former().is_some(), "another one was revoked");
        cell.forget(&id("key_1"));
        assert!(cell.former().is_none());
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
    }

    #[test]
    fn a_former_one_without_an_id_is_not_forgotten_for_another() {
        let cell = CredentialCell::new();
        cell.set(secret("sk-admin-one"));
        cell.change_over(secret("sk-admin-two"), None);
        cell.forget(&id("key_1"));
        assert!(cell.former().is_some());
    }
}
