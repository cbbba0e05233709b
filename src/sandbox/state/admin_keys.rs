//! The admin keys of the organization.

use std::time::Duration;

use crate::sandbox::key_format::random_id;
use crate::sandbox::live::LiveKey;
use crate::sandbox::state::clock::{now_millis, to_millis};
use crate::sandbox::state::collection::{Page, PageQuery, UnknownCursor};
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::sandbox_state::{KeySpec, SandboxState};

/// The name of the key that the sandbox has from the start.
pub const ADMIN_KEY_NAME: &str = "sandbox-owner";

impl SandboxState {
    /// Ensures that `secret` is that of a key; one that was deleted stays
    /// deleted over a restart. A new one is accepted at once, whatever the
    /// delays are.
    pub(crate) fn ensure_admin_key(&mut self, secret: String) {
        let created_at = now_millis().saturating_sub(to_millis(self.delays.new_key));
        let mut keys = self.keys.all_mut().iter_mut();
        match keys.find(|key| key.value == secret) {
            Some(key) => key.created_at = key.created_at.min(created_at),
            None => self.keys.add(SandboxKey {
                id: format!("key_{}", random_id(24)),
                name: ADMIN_KEY_NAME.to_owned(),
                value: secret,
                created_at,
                expires_at: None,
                last_used_at: None,
                deleted_at: None,
                project: None,
                account: None,
                owner_left: false,
                scopes: None,
            }),
        }
    }

    pub(crate) fn create_admin_key(
        &mut self,
        name: String,
        lifetime: Option<Duration>,
    ) -> SandboxKey {
        let spec = KeySpec {
            name,
            lifetime,
            ..KeySpec::default()
        };
        self.create_key(None, None, spec)
    }

    pub(crate) fn admin_key(&self, id: &str) -> Option<&SandboxKey> {
        self.keys.find(None, id, now_millis())
    }

    pub(crate) fn live_admin_keys(&self) -> Vec<LiveKey> {
        let keys = self.keys.live(None, now_millis());
        let live = keys.map(|key| LiveKey {
            id: key.id.clone(),
            name: key.name.clone(),
        });
        live.collect()
    }

    pub(crate) fn delete_admin_key(&mut self, id: &str) -> bool {
        self.keys.delete(None, now_millis(), |key| key.id == id)
    }

    pub(crate) fn list_admin_keys(
        &self,
        query: &PageQuery,
    ) -> Result<Page<SandboxKey>, UnknownCursor> {
        self.keys.page(None, query, now_millis(), |_| true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::core::secret::{EndMatch, compare_end};
    use crate::sandbox::behaviour::PropagationDelays;
    use crate::sandbox::key_format::{DEFAULT_ADMIN_KEY, redact};

    #[test]
    fn redacted_values_tell_the_keys_apart() {
        let mut state = SandboxState::default();
        // Without a comparison with the other keys, some 36 pairs would be alike.
        for _ in 0..1_000 {
            state.create_admin_key("a".to_owned(), None);
            state.create_key(Some("proj_a"), Some("svc_acct_a"), KeySpec::default());
        }
        let keys = state.keys.all().iter();
        let ends = keys.map(|key| redact(&key.value).to_lowercase());
        let ends = ends.map(|shown| shown.split("...").nth(1).unwrap().to_owned());
        assert_eq!(ends.collect::<HashSet<_>>().len(), state.keys.all().len());
        let mut shown = state.keys.all().iter().map(|key| redact(&key.value));
        let tells_nothing =
            |shown: &String| compare_end(DEFAULT_ADMIN_KEY, Some(shown)) != EndMatch::Different;
        assert_eq!(shown.find(tells_nothing), None);
    }

    #[test]
    fn expired_key_is_gone() {
        let mut state = SandboxState::default();
        let key = state.create_admin_key("a".to_owned(), Some(Duration::ZERO));
        assert!(state.admin_key(&key.id).is_none());
        assert!(!state.accepts(&key.value));
        assert!(!state.delete_admin_key(&key.id));
    }

    #[test]
    fn clock_set_back_is_ignored_without_delays() {
        let mut state = SandboxState::default();
        let tomorrow = now_millis() + 86_400_000;
        let alive = state.create_admin_key("a".to_owned(), None);
        let deleted = state.create_admin_key("b".to_owned(), None);
        assert!(state.delete_admin_key(&deleted.id));
        for key in state.keys.all_mut() {
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
        let key = state.create_admin_key("a".to_owned(), None);
        assert!(!state.accepts(&key.value));
        state.delays = PropagationDelays {
            new_key: Duration::ZERO,
            deleted_key: Duration::from_secs(3600),
        };
        assert!(state.delete_admin_key(&key.id));
        assert!(state.accepts(&key.value));
        assert!(state.admin_key(&key.id).is_none());
    }
}
