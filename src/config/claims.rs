//! Which files the configuration claims, and for which option.

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
/// destroy each other's work, and the ledger or a secret would be lost for good.
pub(super) struct PathClaims {
    owners: HashMap<OsString, PathOwner>,
}

/// The owner of a file, put into words only if another option claims it.
pub(super) struct PathOwner {
    description: Cow<'static, str>,
    /// The option that the words describe, if they do not name it.
    location: Option<Location>,
}

impl PathOwner {
    /// An owner at `place`: "written by" it, the "argv of" it.
    pub(super) fn of(words: impl Into<Cow<'static, str>>, place: &Location) -> Self {
        Self {
            description: words.into(),
            location: Some(place.clone()),
        }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for PathOwner {
    fn from(words: T) -> Self {
        Self {
            description: words.into(),
            location: None,
        }
    }
}

impl fmt::Display for PathOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(place) => write!(formatter, "{} {place}", self.description),
            None => formatter.write_str(&self.description),
        }
    }
}

impl PathClaims {
    /// No claims yet.
    pub(super) fn new() -> Self {
        Self {
            owners: HashMap::new(),
        }
    }

    /// Claims a file that is replaced by way of a temporary file beside it, and
    /// that one.
    pub(super) fn claim_replaced(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        temp_owner: impl Into<PathOwner>,
        place: &Location,
        report: &mut ProblemReport,
    ) {
        // Where the file is another option's, so is the temporary one.
        if self.claim(path, owner, place, report) {
            self.claim(&temp_name::temp_path(path), temp_owner, place, report);
        }
    }

    /// Claims a file that only one option may have. Returns whether it was free.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        place: &Location,
        report: &mut ProblemReport,
    ) -> bool {
        match self.owners.entry(path_key(path)) {
            Entry::Vacant(free) => {
                free.insert(owner.into());
                true
            }
            Entry::Occupied(taken) => {
                let message = format!("{} is {} already", quote::quote_path(path), taken.get());
                report.add_problem(place, message, "name another file");
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

/// The path as a key of the claims: comparing paths would take them apart each
/// time.
fn path_key(path: &Path) -> OsString {
    values::normalize(path).into_os_string()
}
