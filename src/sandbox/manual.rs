//! What a person does on the provider's page: no fault hits it, and it needs no secret.

use crate::sandbox::Sandbox;
use crate::sandbox::live::{KeyOwner, LiveKey, LiveProjectKey};
use crate::sandbox::policy::PolicyRule;
use crate::sandbox::state::account::AccountRole;
use crate::sandbox::state::project_keys::KeyUpdate;
use crate::sandbox::state::sandbox_state::{KeySpec, SandboxState};

impl Sandbox {
    /// Creates an admin key. Returns its id and its secret.
    #[must_use]
    pub fn create_manually(&self, name: &str) -> (String, String) {
        let create = |state: &mut SandboxState| state.create_admin_key(name.to_owned(), None);
        let key = self.app.update(create);
        (key.id, key.value)
    }

    /// Deletes an admin key. Returns false if there is none.
    pub fn delete_manually(&self, id: &str) -> bool {
        self.app.update(|state| state.delete_admin_key(id))
    }

    /// Creates a project without service accounts, and returns its id.
    #[must_use]
    pub fn create_project(&self, name: &str) -> String {
        let create = |state: &mut SandboxState| state.create_project(name.to_owned());
        self.app.update(create).id
    }

    /// Archives a project. Returns false if there is none.
    pub fn archive(&self, project: &str) -> bool {
        self.app.update(|state| state.archive_project(project))
    }

    /// Makes an archived project active again, with all that it had. Returns false if there
    /// is none.
    pub fn restore(&self, project: &str) -> bool {
        self.app.update(|state| state.restore_project(project))
    }

    /// Replaces the rules of a project. Returns false if there is none.
    pub fn set_policy(&self, project: &str, rules: Vec<PolicyRule>) -> bool {
        self.app.update(|state| state.set_policy(project, rules))
    }

    /// Creates a service account without a key in an existing project, and returns its id.
    #[must_use]
    pub fn create_account(&self, project: &str, name: &str) -> String {
        let name = name.to_owned();
        let create =
            |state: &mut SandboxState| state.create_account(project, name, AccountRole::Member);
        self.app.update(create).id
    }

    /// Deletes a service account with its keys. Returns false if there is none.
    pub fn delete_account_manually(&self, project: &str, id: &str) -> bool {
        self.app.update(|state| state.delete_account(project, id))
    }

    /// Lists the live service accounts of a project, oldest first.
    #[must_use]
    pub fn live_accounts(&self, project: &str) -> Vec<LiveKey> {
        self.app.lock_state().live_accounts(project)
    }

    /// Creates a key in a project. Returns its id and its secret.
    #[must_use]
    pub fn create_project_key_manually(
        &self,
        project: &str,
        owner: KeyOwner<'_>,
        name: &str,
    ) -> (String, String) {
        let account = match owner {
            KeyOwner::Account(id) => Some(id),
            KeyOwner::Member | KeyOwner::FormerMember => None,
        };
        let spec = KeySpec {
            name: name.to_owned(),
            owner_left: owner == KeyOwner::FormerMember,
            ..KeySpec::default()
        };
        let key = self
            .app
            .update(|state| state.create_key(Some(project), account, spec));
        (key.id, key.value)
    }

    /// Deletes a key of a project, whoever owns it. Returns false if there is none.
    pub fn delete_project_key_manually(&self, project: &str, id: &str) -> bool {
        self.app
            .update(|state| state.delete_project_key(project, id))
    }

    /// Limits a key of a project to permissions. Returns false if there is none.
    pub fn limit_permissions(&self, project: &str, id: &str, scopes: &[&str]) -> bool {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let update = KeyUpdate {
            lifetime: None,
            scopes: Some(Some(scopes)),
        };
        let limit = |state: &mut SandboxState| state.update_project_key(project, id, update);
        self.app.update(limit).is_ok()
    }

    /// Lists the live keys of a project, oldest first, whether it is archived or not.
    #[must_use]
    pub fn live_project_keys(&self, project: &str) -> Vec<LiveProjectKey> {
        self.app.lock_state().live_project_keys(project)
    }
}
