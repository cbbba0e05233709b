//! The projects of the organization.

use crate::sandbox::key_format::random_id;
use crate::sandbox::policy::PolicyRule;
use crate::sandbox::project_option::ProjectOption;
use crate::sandbox::state::account::{AccountRole, SandboxAccount};
use crate::sandbox::state::clock::now_millis;
use crate::sandbox::state::collection::{Page, PageQuery, UnknownCursor};
use crate::sandbox::state::project::SandboxProject;
use crate::sandbox::state::sandbox_state::SandboxState;

impl SandboxState {
    /// Ensures that a project exists, in the state that the option names. A new one has a
    /// service account.
    pub(crate) fn ensure_project(&mut self, option: &ProjectOption) {
        let id = option.id.as_str();
        if self.project(id).is_none() {
            self.add_project(id.to_owned(), id.to_owned());
            self.accounts.add(SandboxAccount {
                id: option.account_id(),
                project: id.to_owned(),
                name: "Sandbox Account".to_owned(),
                role: AccountRole::Member,
                created_at: now_millis(),
                deleted_at: None,
            });
        }
        match option.is_archived {
            Some(true) => self.archive_project(id),
            Some(false) => self.restore_project(id),
            None => true,
        };
    }

    pub(crate) fn create_project(&mut self, name: String) -> SandboxProject {
        self.add_project(format!("proj_{}", random_id(24)), name)
    }

    fn add_project(&mut self, id: String, name: String) -> SandboxProject {
        let project = SandboxProject {
            id,
            name,
            created_at: now_millis(),
            archived_at: None,
            policy: Vec::new(),
        };
        self.projects.add(project.clone());
        project
    }

    pub(crate) fn project(&self, id: &str) -> Option<&SandboxProject> {
        self.projects.find(None, id, now_millis())
    }

    /// Archives a project, and returns whether it exists. Its keys stay, but work no more.
    pub(crate) fn archive_project(&mut self, id: &str) -> bool {
        let now = now_millis();
        let project = self.projects.find_mut(None, id, now);
        project
            .map(|project| project.archived_at.get_or_insert(now))
            .is_some()
    }

    /// Makes an archived project active again, and returns whether it exists.
    pub(crate) fn restore_project(&mut self, id: &str) -> bool {
        let project = self.projects.find_mut(None, id, now_millis());
        project.map(|project| project.archived_at = None).is_some()
    }

    /// Adds a rule to a project, and returns whether it exists.
    pub(crate) fn add_rule(&mut self, id: &str, rule: PolicyRule) -> bool {
        let project = self.projects.find_mut(None, id, now_millis());
        project.map(|project| project.policy.push(rule)).is_some()
    }

    /// Replaces the rules of a project, and returns whether it exists.
    pub(crate) fn set_policy(&mut self, id: &str, rules: Vec<PolicyRule>) -> bool {
        let project = self.projects.find_mut(None, id, now_millis());
        project.map(|project| project.policy = rules).is_some()
    }

    pub(crate) fn list_projects(
        &self,
        query: &PageQuery,
        include_archived: bool,
    ) -> Result<Page<SandboxProject>, UnknownCursor> {
        self.projects.page(None, query, now_millis(), |project| {
            include_archived || !project.is_archived()
        })
    }
}
