//! The operations of the API, by which faults are selected and requests are counted.

use std::fmt;

use crate::core::ids::ProjectId;
use crate::core::scope::Scope;

/// An operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiOperation {
    /// The create of an admin key, a service account or its key.
    Create,
    /// The list of admin keys, which also verifies a secret; that of a project's keys or
    /// service accounts.
    List,
    /// The retrieval of a key or a service account.
    Retrieve,
    /// The deletion of a key or a service account.
    Delete,
    /// The update of a project's key or service account.
    Update,
    /// `GET /models`, which verifies the secret of a project's key.
    Verify,
    /// Any request about projects themselves: their list, their retrieval, their create and
    /// their archiving.
    Project,
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiRequest {
    pub(super) operation: ApiOperation,
    /// What it belongs to; `None` for the projects as a whole, and for a secret that
    /// belongs to none.
    pub(super) scope: Option<Scope>,
    /// Whether it creates a service account.
    pub(super) creates_account: bool,
}

impl ApiOperation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::List,
        Self::Retrieve,
        Self::Delete,
        Self::Update,
        Self::Verify,
        Self::Project,
    ];

    /// Returns its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Retrieve => "retrieve",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::Verify => "verify",
            Self::Project => "project",
        }
    }

    /// Whether no request about admin keys is of this operation.
    pub(super) const fn is_of_projects(self) -> bool {
        match self {
            Self::Create | Self::List | Self::Retrieve | Self::Delete => false,
            Self::Update | Self::Verify | Self::Project => true,
        }
    }
}

impl ApiRequest {
    /// Returns a request about admin keys.
    pub(super) fn about_admin_keys(operation: ApiOperation) -> Self {
        Self::new(operation, Some(Scope::AdminKeys))
    }

    /// Returns a request about a project, or in it.
    pub(super) fn about_project(operation: ApiOperation, id: &str) -> Self {
        Self::new(operation, Some(Scope::Project(ProjectId::new(id))))
    }

    pub(super) fn new(operation: ApiOperation, scope: Option<Scope>) -> Self {
        Self {
            operation,
            scope,
            creates_account: false,
        }
    }
}

impl fmt::Display for ApiOperation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
