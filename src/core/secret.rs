//! Secrets, and what a redacted value shows of one.
//!
//! A secret lives in memory until it is delivered, and nowhere else. Its value is
//! wiped with its last handle, it has no `Display`, and its `Debug` hides the value.
//! This module lists every live secret, so that text from outside can be searched
//! for all of them before it is shown (see [`crate::core::redact`]).

mod fragments;
mod redaction;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};

use secrecy::{ExposeSecret, SecretString};

use self::fragments::Fragments;
pub use self::redaction::{
    EndMatch, RedactionForm, compare_end, identifying_end, shorten_redacted, shown_end,
    without_head,
};

/// The live secrets of this process, to redact them in error messages. The list holds
/// weak references, which keep no secret alive.
static LIVE_SECRETS: Mutex<Vec<Weak<SecretValue>>> = Mutex::new(Vec::new());

/// The length below which a secret is not redacted: replacing every `a` in a message
/// would hide the message and not the secret.
const MIN_MASKED_LEN: usize = 8;

/// A secret value. Cheap to clone; the value is wiped with the last clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretValue>);

pub(crate) struct SecretValue {
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

/// A live secret that a text is searched for.
pub(crate) enum LiveSecret {
    /// With the fragments that all searches share.
    Shared(Arc<SecretValue>),
    /// With fragments of its own, for a search that must not wait for another.
    Own(Fragments),
}

impl LiveSecret {
    /// Returns the fragments that a text may hold of it.
    pub(crate) fn fragments(&self) -> &Fragments {
        match self {
            Self::Shared(secret) => {
                let new = || Fragments::new(secret.value.expose_secret());
                secret.fragments.get_or_init(new)
            }
            Self::Own(fragments) => fragments,
        }
    }
}

/// Returns every live secret of at least `MIN_MASKED_LEN` bytes.
pub(crate) fn live_secrets() -> Vec<LiveSecret> {
    let live = LIVE_SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    maskable(&live).map(LiveSecret::Shared).collect()
}

/// Returns the result of [`live_secrets`] without waiting for another thread; none if the
/// list is locked, perhaps by this very thread.
pub(crate) fn live_secrets_without_lock() -> Option<Vec<LiveSecret>> {
    let live = match LIVE_SECRETS.try_lock() {
        Ok(live) => live,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    let own = |secret: Arc<SecretValue>| Fragments::new(secret.value.expose_secret());
    Some(maskable(&live).map(own).map(LiveSecret::Own).collect())
}

fn maskable(live: &[Weak<SecretValue>]) -> impl Iterator<Item = Arc<SecretValue>> {
    let live = live.iter().filter_map(Weak::upgrade);
    live.filter(|secret| secret.value.expose_secret().len() >= MIN_MASKED_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_value() {
        let secret = Secret::new("sk-admin-debug-form".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    fn is_listed(value: &str) -> bool {
        let live = live_secrets();
        live.iter().any(|secret| match secret {
            LiveSecret::Shared(secret) => secret.value.expose_secret() == value,
            LiveSecret::Own(_) => false,
        })
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

    #[test]
    fn locked_list_is_not_waited_for() {
        let locked = LIVE_SECRETS.lock();
        assert!(live_secrets_without_lock().is_none());
        drop(locked);
    }

    #[test]
    fn short_values_are_not_masked() {
        let secrets = [secret("7letter"), secret("8letters")];
        assert!(is_listed("8letters"));
        assert!(!is_listed("7letter"));
        drop(secrets);
    }
}
