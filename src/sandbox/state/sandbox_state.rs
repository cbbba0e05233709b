//! All that the sandbox keeps, and who a secret belongs to.

use std::time::Duration;

use crate::core::secret::{EndMatch, compare_end};
use crate::sandbox::behaviour::{PropagationDelays, Support};
use crate::sandbox::key_format::{
    DEFAULT_ADMIN_KEY, SecretFamily, new_secret, random_id, redact, shown_end,
};
use crate::sandbox::state::account::SandboxAccount;
use crate::sandbox::state::clock::{now_millis, to_millis};
use crate::sandbox::state::collection::Collection;
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::project::SandboxProject;

/// The number of secrets that are tried for one whose redacted value no other key has.
/// Without regard to case, there are 46,656 such values.
const MAX_SECRETS_TRIED: usize = 100;

/// All objects that were ever created, and how the API behaves.
#[derive(Default)]
pub(crate) struct SandboxState {
    pub(crate) projects: Collection<SandboxProject>,
    pub(crate) accounts: Collection<SandboxAccount>,
    /// The admin keys, and the keys of all projects.
    pub(crate) keys: Collection<SandboxKey>,
    pub(crate) delays: PropagationDelays,
    /// Whether a key can be deleted that a service account owns.
    pub(crate) account_key_deletion: Support,
    /// Whether a project's key can be updated.
    pub(crate) key_update: Support,
}

/// What a new key is to have.
#[derive(Default)]
pub(crate) struct KeySpec {
    pub(crate) name: String,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) scopes: Option<Vec<String>>,
    /// Whether the user that owns it has left the project.
    pub(crate) owner_left: bool,
}

impl SandboxState {
    /// Creates a key with a new secret: an admin key, that of an account, or a user's.
    pub(crate) fn create_key(
        &mut self,
        project: Option<&str>,
        account: Option<&str>,
        spec: KeySpec,
    ) -> SandboxKey {
        let family = match (project, account) {
            (None, _) => SecretFamily::Admin,
            (Some(_), Some(_)) => SecretFamily::ServiceAccount,
            (Some(_), None) => SecretFamily::User,
        };
        let created_at = now_millis();
        let end_of = |lifetime| created_at.saturating_add(to_millis(lifetime));
        let key = SandboxKey {
            id: format!("key_{}", random_id(24)),
            name: spec.name,
            value: self.distinguishable_secret(family),
            created_at,
            expires_at: spec.lifetime.map(end_of),
            last_used_at: None,
            deleted_at: None,
            project: project.map(str::to_owned),
            account: account.map(str::to_owned),
            owner_left: spec.owner_left,
            scopes: spec.scopes,
        };
        self.keys.add(key.clone());
        key
    }

    /// Whether a request with this secret is authenticated now.
    pub(crate) fn accepts(&self, secret: &str) -> bool {
        let (now, delays) = (now_millis(), self.delays);
        let is_archived = |id| self.project(id).is_some_and(SandboxProject::is_archived);
        let mut keys = self.keys.all().iter();
        keys.any(|key| {
            key.value == secret
                && key.is_accepted(now, delays)
                && !key.project.as_deref().is_some_and(is_archived)
        })
    }

    /// Returns the key of a secret that is accepted now, and marks it as used.
    pub(crate) fn authenticate(&mut self, secret: &str) -> Option<&SandboxKey> {
        let (now, delays) = (now_millis(), self.delays);
        let mut keys = self.keys.all_mut().iter_mut();
        let key = keys.find(|key| key.value == secret && key.is_accepted(now, delays))?;
        key.last_used_at = Some(now);
        Some(key)
    }

    /// Returns the project of the key with this secret, whether it is accepted or not.
    pub(crate) fn project_of_secret(&self, secret: &str) -> Option<&str> {
        let mut keys = self.keys.all().iter();
        let key = keys.find(|key| key.value == secret)?;
        key.project.as_deref()
    }

    /// Returns a new secret whose redacted value shows that it is none of the others. An
    /// end that another one has by chance, that may belong to the mask, or that is a word
    /// shows nothing, and what may be in use is not revoked: with the many keys of a
    /// rehearsal, it would fail now and then.
    fn distinguishable_secret(&self, family: SecretFamily) -> String {
        let is_distinguishable = |secret: &String| {
            let shown = shown_end(secret);
            let redacted = redact(secret);
            let is_plain = shown.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && compare_end(DEFAULT_ADMIN_KEY, Some(&redacted)) == EndMatch::Different;
            let mut keys = self.keys.all().iter();
            is_plain && keys.all(|key| !shown_end(&key.value).eq_ignore_ascii_case(shown))
        };
        std::iter::repeat_with(|| new_secret(family))
            .take(MAX_SECRETS_TRIED)
            .find(is_distinguishable)
            .unwrap_or_else(|| new_secret(family))
    }
}
