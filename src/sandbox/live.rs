//! What is alive in a sandbox, and who owns it, for programs in its process.

/// A key or a service account that is alive in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKey {
    /// Its id.
    pub id: String,
    /// Its name; [`ADMIN_KEY_NAME`](super::ADMIN_KEY_NAME) for the admin key from the start.
    pub name: String,
}

/// A key that is alive in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveProjectKey {
    /// Its id.
    pub id: String,
    /// Its own name, not its account's.
    pub name: String,
    /// The service account that owns it; `None` for a user's.
    pub account: Option<String>,
    /// The permissions that it is limited to; `None` for all.
    pub scopes: Option<Vec<String>>,
    /// Its end, in seconds since 1970.
    pub expires_at: Option<i64>,
}

/// The owner of a key that a person creates in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner<'a> {
    /// The service account with this id.
    Account(&'a str),
    /// A member of the project.
    Member,
    /// A user that has left the project: without `owner_project_access=any` no list shows
    /// the key.
    FormerMember,
}
