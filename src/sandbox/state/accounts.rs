//! The service accounts of a project.

use crate::sandbox::key_format::random_id;
use crate::sandbox::live::LiveKey;
use crate::sandbox::state::account::{AccountRole, SandboxAccount};
use crate::sandbox::state::clock::now_millis;
use crate::sandbox::state::collection::{Page, PageQuery, UnknownCursor};
use crate::sandbox::state::sandbox_state::SandboxState;

impl SandboxState {
    /// Creates an account, without a key.
    pub(crate) fn create_account(
        &mut self,
        project: &str,
        name: String,
        role: AccountRole,
    ) -> SandboxAccount {
        let account = SandboxAccount {
            id: format!("svc_acct_{}", random_id(24)),
            project: project.to_owned(),
            name,
            role,
            created_at: now_millis(),
            deleted_at: None,
        };
        self.accounts.add(account.clone());
        account
    }

    pub(crate) fn account(&self, project: &str, id: &str) -> Option<&SandboxAccount> {
        self.accounts.find(Some(project), id, now_millis())
    }

    pub(crate) fn live_accounts(&self, project: &str) -> Vec<LiveKey> {
        let accounts = self.accounts.live(Some(project), now_millis());
        let live = accounts.map(|account| LiveKey {
            id: account.id.clone(),
            name: account.name.clone(),
        });
        live.collect()
    }

    /// Changes the name and the role of an account, as far as they are given. Returns the
    /// changed account.
    pub(crate) fn update_account(
        &mut self,
        project: &str,
        id: &str,
        name: Option<String>,
        role: Option<AccountRole>,
    ) -> Option<&SandboxAccount> {
        let account = self.accounts.find_mut(Some(project), id, now_millis())?;
        if let Some(name) = name {
            account.name = name;
        }
        if let Some(role) = role {
            account.role = role;
        }
        Some(account)
    }

    /// Deletes an account with its keys, and returns whether there was one.
    pub(crate) fn delete_account(&mut self, project: &str, id: &str) -> bool {
        let now = now_millis();
        let is_deleted = self
            .accounts
            .delete(Some(project), now, |account| account.id == id);
        if is_deleted {
            let is_owned = |account: &Option<String>| account.as_deref() == Some(id);
            self.keys
                .delete(Some(project), now, |key| is_owned(&key.account));
        }
        is_deleted
    }

    pub(crate) fn list_accounts(
        &self,
        project: &str,
        query: &PageQuery,
    ) -> Result<Page<SandboxAccount>, UnknownCursor> {
        self.accounts
            .page(Some(project), query, now_millis(), |_| true)
    }
}
