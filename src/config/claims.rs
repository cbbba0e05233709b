//! The files that the options of the configuration claim.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::config_reader::location::Location;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::{quote, values};
use crate::sink::file::temp_name;

/// The option that each file belongs to. Two options that write one file would
/// overwrite each other's, and the ledger or a secret would be lost for good.
pub(super) struct PathClaims {
    owners: HashMap<OsString, PathOwner>,
}

/// The option that a file belongs to, formatted only if another option claims
/// the file.
pub(super) struct PathOwner {
    description: Cow<'static, str>,
    /// The option's location, which follows the description.
    location: Option<Location>,
}

impl PathOwner {
    /// Returns an owner at `location`, described as "written by" it or the
    /// "argv of" it.
    pub(super) fn new(description: impl Into<Cow<'static, str>>, location: &Location) -> Self {
        Self {
            description: description.into(),
            location: Some(location.clone()),
        }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for PathOwner {
    fn from(description: T) -> Self {
        Self {
            description: description.into(),
            location: None,
        }
    }
}

impl fmt::Display for PathOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(formatter, "{} {location}", self.description),
            None => formatter.write_str(&self.description),
        }
    }
}

impl PathClaims {
    /// Returns an empty set of claims.
    pub(super) fn new() -> Self {
        Self {
            owners: HashMap::new(),
        }
    }

    /// Claims a file that is replaced through a temporary file beside it, and
    /// the temporary file.
    pub(super) fn claim_replaced(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        temp_owner: impl Into<PathOwner>,
        location: &Location,
        report: &mut ProblemReport,
    ) {
        // Another option that has the file has its temporary file, too.
        if self.claim(path, owner, location, report) {
            self.claim(&temp_name::temp_path(path), temp_owner, location, report);
        }
    }

    /// Claims a file that only one option may have. Returns whether it was free.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        location: &Location,
        report: &mut ProblemReport,
    ) -> bool {
        match self.owners.entry(path_key(path)) {
            Entry::Vacant(entry) => {
                entry.insert(owner.into());
                true
            }
            Entry::Occupied(owner_entry) => {
                let message = format!(
                    "{} is {} already",
                    quote::quote_path(path),
                    owner_entry.get()
                );
                report.add_problem(location, message, "name another file");
                false
            }
        }
    }

    /// Claims a file that several options may read and none may write.
    pub(super) fn reserve(&mut self, path: &Path, owner: impl Into<PathOwner>) {
        let owner = || owner.into();
        self.owners.entry(path_key(path)).or_insert_with(owner);
    }
}

/// Returns the path as a key of the claims, a text because comparing paths
/// splits them each time.
fn path_key(path: &Path) -> OsString {
    values::normalize(path).into_os_string()
}
