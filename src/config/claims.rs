//! Which files the configuration claims, and for which option.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config_reader::location::Location;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::{quote, values};
use crate::sink::file::temp_name;

/// The option that each file belongs to. Two options that write one file would
/// destroy each other's work, and the ledger or a secret would be lost for good.
pub(super) struct PathClaims {
    owners: HashMap<OsString, PathOwner>,
    /// Whether a claimed path looks like a temporary file. Nearly none does; only
    /// then are the paths of temporary files claimed, too.
    has_temp_files: bool,
}

/// The owner of a file, put into words only if another option claims it.
pub(super) struct PathOwner {
    description: Cow<'static, str>,
    /// The option that the words describe, if they do not name it.
    location: Option<Location>,
    /// Describes the temporary file beside it, if there is one.
    temp_file_description: Option<&'static str>,
}

impl PathOwner {
    /// An owner at `place`: "written by" it, the "argv of" it.
    pub(super) fn of(words: impl Into<Cow<'static, str>>, place: &Location) -> Self {
        Self {
            description: words.into(),
            location: Some(place.clone()),
            temp_file_description: None,
        }
    }

    /// Adds that the file is replaced by way of a temporary file, described by
    /// `words`.
    pub(super) fn with_temp_file(self, words: &'static str) -> Self {
        Self {
            temp_file_description: Some(words),
            ..self
        }
    }

    /// The owner of the temporary file.
    fn temp_file_owner(&self) -> Option<Self> {
        Some(Self {
            description: self.temp_file_description?.into(),
            location: self.location.clone(),
            temp_file_description: None,
        })
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for PathOwner {
    fn from(words: T) -> Self {
        Self {
            description: words.into(),
            location: None,
            temp_file_description: None,
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
    /// No claims yet, with capacity for those of so many keys.
    pub(super) fn with_capacity(keys: usize) -> Self {
        Self {
            owners: HashMap::with_capacity(keys),
            has_temp_files: false,
        }
    }

    /// Claims a file that only one option may have, with its temporary file.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        place: &Location,
        report: &mut ProblemReport,
    ) {
        self.track_temp_files_from(path);
        let owner = owner.into();
        let first = self.temp_file_of(path, &owner);
        // Where the file is another's, so is what is beside it.
        if self.claim_one(path, owner, place, report)
            && let Some((path, owner)) = first
        {
            self.claim_one(&path, owner, place, report);
        }
    }

    /// Returns whether it was free.
    fn claim_one(
        &mut self,
        path: &Path,
        owner: PathOwner,
        place: &Location,
        report: &mut ProblemReport,
    ) -> bool {
        match self.owners.entry(path_key(path)) {
            Entry::Vacant(free) => {
                free.insert(owner);
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
        self.track_temp_files_from(path);
        let owner = || owner.into();
        self.owners.entry(path_key(path)).or_insert_with(owner);
    }

    /// Claims temporary files, too, from the first path on that looks like one.
    fn track_temp_files_from(&mut self, path: &Path) {
        if self.has_temp_files || !temp_name::is_temp_path(path) {
            return;
        }
        self.has_temp_files = true;
        let owners = self.owners.iter();
        let first = owners.filter_map(|(path, owner)| self.temp_file_of(Path::new(path), owner));
        let first: Vec<_> = first.collect();
        for (path, owner) in first {
            self.owners.entry(path_key(&path)).or_insert(owner);
        }
    }

    fn temp_file_of(&self, path: &Path, owner: &PathOwner) -> Option<(PathBuf, PathOwner)> {
        let owner = self
            .has_temp_files
            .then(|| owner.temp_file_owner())
            .flatten()?;
        Some((temp_name::temp_path(path), owner))
    }
}

/// The path as a key of the claims: comparing paths would take them apart each
/// time.
fn path_key(path: &Path) -> OsString {
    values::normalize(path).into_os_string()
}
