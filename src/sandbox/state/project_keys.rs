//! The keys of a project.

use std::time::Duration;

use crate::sandbox::live::LiveProjectKey;
use crate::sandbox::state::account::{AccountRole, SandboxAccount};
use crate::sandbox::state::clock::{now_millis, to_millis, to_seconds};
use crate::sandbox::state::collection::{Page, PageQuery, UnknownCursor};
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::sandbox_state::SandboxState;

/// The error of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUpdateError {
    /// The project has no such key.
    NotFound,
    /// Its lifetime is over.
    Expired,
}

/// A change of a key; what is `None` stays as it is.
#[derive(Default)]
pub(crate) struct KeyUpdate {
    /// Its lifetime from now on.
    pub(crate) lifetime: Option<Duration>,
    /// The permissions that it is limited to; `Some(None)` for all of its owner's.
    pub(crate) scopes: Option<Option<Vec<String>>>,
}

impl SandboxState {
    pub(crate) fn project_key(&self, project: &str, id: &str) -> Option<&SandboxKey> {
        self.keys.find(Some(project), id, now_millis())
    }

    pub(crate) fn live_project_keys(&self, project: &str) -> Vec<LiveProjectKey> {
        let keys = self.keys.live(Some(project), now_millis());
        let live = keys.map(|key| LiveProjectKey {
            id: key.id.clone(),
            name: key.name.clone(),
            account: key.account.clone(),
            scopes: key.scopes.clone(),
            expires_at: key.expires_at.map(to_seconds),
        });
        live.collect()
    }

    /// Returns the service account that owns a key, even if a deletion ended both.
    pub(crate) fn account_of(&self, key: &SandboxKey) -> Option<&SandboxAccount> {
        let (project, id) = (key.project.as_deref()?, key.account.as_deref()?);
        let mut accounts = self.accounts.all().iter();
        accounts.find(|account| account.id == id && account.project == project)
    }

    /// Whether the owner of a key has access to its project.
    pub(crate) fn has_active_owner(&self, key: &SandboxKey) -> bool {
        match self.account_of(key) {
            Some(account) => account.role != AccountRole::None,
            None => !key.owner_left,
        }
    }

    pub(crate) fn update_project_key(
        &mut self,
        project: &str,
        id: &str,
        update: KeyUpdate,
    ) -> Result<(), KeyUpdateError> {
        let now = now_millis();
        let mut keys = self.keys.all_mut().iter_mut();
        let key = keys
            .find(|key| {
                key.id == id && key.project.as_deref() == Some(project) && key.deleted_at.is_none()
            })
            .ok_or(KeyUpdateError::NotFound)?;
        if key.is_expired(now) {
            return Err(KeyUpdateError::Expired);
        }
        if let Some(lifetime) = update.lifetime {
            key.expires_at = Some(now.saturating_add(to_millis(lifetime)));
        }
        if let Some(scopes) = update.scopes {
            key.scopes = scopes;
        }
        Ok(())
    }

    pub(crate) fn delete_project_key(&mut self, project: &str, id: &str) -> bool {
        self.keys
            .delete(Some(project), now_millis(), |key| key.id == id)
    }

    /// Lists the keys of a project whose owners have access to it, or have not; `None` for
    /// all.
    pub(crate) fn list_project_keys(
        &self,
        project: &str,
        query: &PageQuery,
        owner_is_active: Option<bool>,
    ) -> Result<Page<SandboxKey>, UnknownCursor> {
        self.keys.page(Some(project), query, now_millis(), |key| {
            owner_is_active.is_none_or(|is_active| self.has_active_owner(key) == is_active)
        })
    }
}
