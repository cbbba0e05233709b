//! The state of the sandbox: its keys, with their secrets in plain text.
//!
//! The sandbox acts as another host. It has its own clock, and its secrets are
//! not registered with the redaction of rekeyd's output, since in one process
//! that would hide a leak of rekeyd's own. Nothing here is ever logged.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::secret::{EndMatch, compare_end};
use crate::sandbox::key_format::{DEFAULT_ADMIN_KEY, new_secret, random_id, redact, shown_end};

/// The name of the key that the sandbox has from the start.
pub const ADMIN_KEY_NAME: &str = "sandbox-owner";

/// The number of secrets that are tried for one whose redacted value no other key has.
/// Without regard to case, there are 46,656 such values.
const MAX_SECRETS_TRIED: usize = 100;

/// One key, alive or deleted. Times are milliseconds since 1970: the API
/// returns whole seconds, but keys may live for less than one.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SandboxKey {
    pub(super) id: String,
    pub(super) name: String,
    value: String,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    deleted_at: Option<i64>,
}

/// All keys ever created, oldest first. Deleted ones stay: their secrets are
/// refused, and their ids remain valid cursors.
#[derive(Default)]
pub(super) struct SandboxState {
    keys: Vec<SandboxKey>,
    /// The content of a stale list.
    previous_list: PreviousList,
    pub(super) delays: PropagationDelays,
}

/// The list before the last change, represented by the difference.
#[derive(Default)]
struct PreviousList {
    /// The number of keys then, from the oldest.
    count: usize,
    /// The index of a key that was not deleted then.
    not_yet_deleted: Option<usize>,
}

/// The delays until a change affects the acceptance of secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PropagationDelays {
    /// The time for which a new secret is refused.
    pub new_key: Duration,
    /// The time for which a deleted key's secret is accepted.
    pub deleted_key: Duration,
}

/// A page of the list.
pub(super) struct KeyPage {
    pub(super) keys: Vec<SandboxKey>,
    pub(super) has_more: bool,
}

/// The query of a list.
pub(super) struct ListQuery<'a> {
    pub(super) after: Option<&'a str>,
    pub(super) limit: usize,
    pub(super) descending: bool,
    pub(super) stale: bool,
}

/// The error of a cursor that names no key.
pub(super) struct UnknownCursor;

impl SandboxKey {
    /// Returns the key object of the API, with the secret only in the response
    /// to its create.
    pub(super) fn to_json(&self, with_secret: bool) -> Value {
        let seconds = |millis: i64| millis.div_euclid(1000);
        let mut object = json!({
            "object": "organization.admin_api_key",
            "id": self.id,
            "name": self.name,
            "redacted_value": redact(&self.value),
            "created_at": seconds(self.created_at),
            "expires_at": self.expires_at.map(seconds),
            "last_used_at": self.last_used_at.map(seconds),
            "owner": {
                "type": "user",
                "object": "organization.user",
                "id": "user_sandbox",
                "name": "Sandbox Owner",
                "created_at": seconds(self.created_at),
                "role": "owner",
            },
        });
        if with_secret {
            object["value"] = json!(self.value);
        }
        object
    }

    fn is_live(&self, now: i64) -> bool {
        self.deleted_at.is_none() && self.expires_at.is_none_or(|expires_at| expires_at > now)
    }

    fn is_accepted(&self, now: i64, delays: PropagationDelays) -> bool {
        // A change without a delay is in effect even if the clock was set back.
        let is_in_effect = |changed_at: i64, delay: Duration| {
            delay.is_zero() || now >= changed_at.saturating_add(to_millis(delay))
        };
        is_in_effect(self.created_at, delays.new_key)
            && !self
                .deleted_at
                .is_some_and(|at| is_in_effect(at, delays.deleted_key))
            && self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

impl PreviousList {
    fn includes(&self, index: usize, key: &SandboxKey, now: i64) -> bool {
        index < self.count && (self.not_yet_deleted == Some(index) || key.is_live(now))
    }
}

impl SandboxState {
    pub(super) fn from_keys(keys: Vec<SandboxKey>) -> Self {
        Self {
            // No change has been made yet.
            previous_list: PreviousList {
                count: keys.len(),
                not_yet_deleted: None,
            },
            keys,
            ..Self::default()
        }
    }

    /// Returns every key ever created, oldest first.
    pub(super) fn keys(&self) -> &[SandboxKey] {
        &self.keys
    }

    /// Ensures that `secret` is that of a key; one that was deleted stays
    /// deleted over a restart. A new one is accepted at once, whatever the
    /// delays are.
    pub(super) fn ensure_key(&mut self, secret: String) {
        let created_at = now_millis().saturating_sub(to_millis(self.delays.new_key));
        match self.keys.iter_mut().find(|key| key.value == secret) {
            Some(key) => key.created_at = key.created_at.min(created_at),
            None => {
                self.insert(ADMIN_KEY_NAME.to_owned(), secret, created_at, None);
            }
        }
    }

    pub(super) fn create(&mut self, name: String, expires_in: Option<Duration>) -> SandboxKey {
        let created_at = now_millis();
        let expires_at = expires_in.map(|span| created_at.saturating_add(to_millis(span)));
        self.previous_list = PreviousList {
            count: self.keys.len(),
            not_yet_deleted: None,
        };
        self.insert(name, self.distinguishable_secret(), created_at, expires_at)
    }

    /// Returns a new secret whose redacted value shows that it is none of the others. An
    /// end that another one has by chance, that may belong to the mask, or that is a word
    /// shows nothing, and what may be in use is not revoked: with the many keys of a
    /// rehearsal, it would fail now and then.
    fn distinguishable_secret(&self) -> String {
        let is_distinguishable = |secret: &String| {
            let shown = shown_end(secret);
            let redacted = redact(secret);
            let is_plain = shown.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && compare_end(DEFAULT_ADMIN_KEY, Some(&redacted)) == EndMatch::Different;
            let mut keys = self.keys.iter();
            is_plain && keys.all(|key| !shown_end(&key.value).eq_ignore_ascii_case(shown))
        };
        std::iter::repeat_with(new_secret)
            .take(MAX_SECRETS_TRIED)
            .find(is_distinguishable)
            .unwrap_or_else(new_secret)
    }

    fn insert(
        &mut self,
        name: String,
        value: String,
        created_at: i64,
        expires_at: Option<i64>,
    ) -> SandboxKey {
        let key = SandboxKey {
            id: format!("key_{}", random_id(24)),
            name,
            value,
            created_at,
            expires_at,
            last_used_at: None,
            deleted_at: None,
        };
        self.keys.push(key.clone());
        key
    }

    pub(super) fn delete(&mut self, id: &str) -> bool {
        let now = now_millis();
        let Some(index) = self
            .keys
            .iter()
            .position(|key| key.id == id && key.is_live(now))
        else {
            return false;
        };
        self.previous_list = PreviousList {
            count: self.keys.len(),
            not_yet_deleted: Some(index),
        };
        self.keys[index].deleted_at = Some(now);
        true
    }

    pub(super) fn retrieve(&self, id: &str) -> Option<&SandboxKey> {
        let now = now_millis();
        self.keys
            .iter()
            .find(|key| key.id == id && key.is_live(now))
    }

    pub(super) fn list(&self, query: &ListQuery<'_>) -> Result<KeyPage, UnknownCursor> {
        let now = now_millis();
        let mut ordered: Vec<(usize, &SandboxKey)> = self.keys.iter().enumerate().collect();
        if query.descending {
            ordered.reverse();
        }
        let start = match query.after {
            None => 0,
            Some(id) => ordered
                .iter()
                .position(|(_, key)| key.id == id)
                .map(|at| at + 1)
                .ok_or(UnknownCursor)?,
        };
        let mut keys: Vec<SandboxKey> = ordered[start..]
            .iter()
            .filter(|(at, key)| {
                if query.stale {
                    self.previous_list.includes(*at, key, now)
                } else {
                    key.is_live(now)
                }
            })
            .take(query.limit + 1)
            .map(|(_, key)| (*key).clone())
            .collect();
        let has_more = keys.len() > query.limit;
        keys.truncate(query.limit);
        Ok(KeyPage { keys, has_more })
    }

    /// Whether a request with `secret` is accepted. Marks its key as used.
    pub(super) fn authorize(&mut self, secret: &str) -> bool {
        let (now, delays) = (now_millis(), self.delays);
        let key = self
            .keys
            .iter_mut()
            .find(|key| key.value == secret && key.is_accepted(now, delays));
        match key {
            Some(key) => {
                key.last_used_at = Some(now);
                true
            }
            None => false,
        }
    }

    pub(super) fn accepts(&self, secret: &str) -> bool {
        let now = now_millis();
        self.keys
            .iter()
            .any(|key| key.value == secret && key.is_accepted(now, self.delays))
    }

    pub(super) fn live_keys(&self) -> Vec<SandboxKey> {
        let now = now_millis();
        self.keys
            .iter()
            .filter(|key| key.is_live(now))
            .cloned()
            .collect()
    }

    pub(super) fn secret_of(key: &SandboxKey) -> String {
        key.value.clone()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox plays another host, which has its own clock"
)]
pub(super) fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn to_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn redacted_values_tell_the_keys_apart() {
        let mut state = SandboxState::default();
        // Without a comparison with the other keys, some 36 pairs would be alike.
        for _ in 0..2_000 {
            state.create("a".to_owned(), None);
        }
        let shown = state.keys.iter().map(|key| redact(&key.value));
        let shown: HashSet<_> = shown.map(|shown| shown.to_lowercase()).collect();
        assert_eq!(shown.len(), state.keys.len());
        let tells_nothing =
            |shown: &String| compare_end(DEFAULT_ADMIN_KEY, Some(shown)) != EndMatch::Different;
        assert_eq!(shown.iter().find(|shown| tells_nothing(shown)), None);
    }

    #[test]
    fn expired_key_is_gone() {
        let mut state = SandboxState::default();
        let key = state.create("a".to_owned(), Some(Duration::ZERO));
        assert!(state.live_keys().is_empty());
        assert!(!state.accepts(&key.value));
        assert!(!state.delete(&key.id));
    }

    #[test]
    fn clock_set_back_is_ignored_without_delays() {
        let mut state = SandboxState::default();
        let tomorrow = now_millis() + 86_400_000;
        let alive = state.create("a".to_owned(), None);
        let deleted = state.create("b".to_owned(), None);
        assert!(state.delete(&deleted.id));
        for key in &mut state.keys {
            key.created_at = tomorrow;
            key.deleted_at = key.deleted_at.map(|_| tomorrow);
        }
        assert!(state.accepts(&alive.value));
        assert!(!state.accepts(&deleted.value));
    }

    #[test]
    fn delays_postpone_changes() {
        let mut state = SandboxState::default();
        state.delays.new_key = Duration::from_secs(3600);
        let key = state.create("a".to_owned(), None);
        assert!(!state.accepts(&key.value));
        state.delays = PropagationDelays {
            new_key: Duration::ZERO,
            deleted_key: Duration::from_secs(3600),
        };
        assert!(state.delete(&key.id));
        assert!(state.accepts(&key.value));
        assert!(state.live_keys().is_empty());
    }
}
