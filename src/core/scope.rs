//! The parts of an organization that credentials belong to.

use std::fmt;

use crate::core::ids::ProjectId;

/// The text of [`Scope::AdminKeys`].
const ADMIN_KEYS: &str = "admin-keys";

/// The text before the id of a project.
const PROJECT_PREFIX: &str = "project:";

/// A part of the organization whose credentials the provider lists together. A condition
/// of one scope stops the keys of that scope alone.
///
/// Its text, in the ledger, is `admin-keys` or `project:` and the project's id. It is
/// cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The admin keys of the organization.
    AdminKeys,
    /// The keys and service accounts of one project.
    Project(ProjectId),
}

impl Scope {
    /// Parses the text of a scope, as [`Scope`] is displayed.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text == ADMIN_KEYS {
            return Some(Self::AdminKeys);
        }
        let id = text.strip_prefix(PROJECT_PREFIX)?;
        (!id.is_empty()).then(|| Self::Project(ProjectId::new(id)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminKeys => formatter.write_str(ADMIN_KEYS),
            Self::Project(id) => write!(formatter, "{PROJECT_PREFIX}{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_back_from_its_text() {
        for (text, scope) in [
            ("admin-keys", Some(Scope::AdminKeys)),
            (
                "project:proj_abc",
                Some(Scope::Project(ProjectId::new("proj_abc"))),
            ),
            ("project:", None),
            ("proj_abc", None),
            ("daemon", None),
            ("", None),
        ] {
            assert_eq!(Scope::from_text(text), scope, "{text}");
            if let Some(scope) = scope {
                assert_eq!(scope.to_string(), text);
            }
        }
    }
}
