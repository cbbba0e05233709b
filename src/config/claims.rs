//! The files that the options of the configuration claim.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config_reader::location::Location;
use crate::config_reader::quote::quote_path;
use crate::config_reader::report::ProblemReport;
use crate::core::path;
use crate::platform::file_identity::{FileIdentity, LookedUpPath, find_identities};
use crate::sink::file::temp_name;

/// How long the search for files with two names may take. A file system that
/// hangs must not delay the start: then paths are compared as text.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The files that options claim, in the order of their claims. Two options that
/// write one file would overwrite each other's, and the ledger or a secret would
/// be lost for good; so files are compared by what they are on the disk, and
/// not by their names.
pub(super) struct PathClaims {
    claims: Vec<PathClaim>,
}

struct PathClaim {
    file: LookedUpPath,
    owner: PathOwner,
    kind: ClaimKind,
}

enum ClaimKind {
    /// Several options may read the file and none may write it.
    ReadOnly,
    /// Only the option at this location may have the file.
    Exclusive(Location),
    /// As `Exclusive`, for a file beside the one of the claim before. An option
    /// that has that file has this one, too.
    Beside(Location),
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
    pub(super) const fn new() -> Self {
        Self { claims: Vec::new() }
    }

    /// Claims a file that is replaced through a temporary file beside it, and
    /// the temporary file.
    pub(super) fn claim_replaced(
        &mut self,
        path: &Path,
        owner: impl Into<PathOwner>,
        temp_owner: impl Into<PathOwner>,
        location: &Location,
    ) {
        self.claim(path, "", owner, location);
        self.claims.push(PathClaim {
            file: LookedUpPath {
                is_name_only: true,
                ..LookedUpPath::new(temp_name::temp_path(path))
            },
            owner: temp_owner.into(),
            kind: ClaimKind::Beside(location.clone()),
        });
    }

    /// Claims a file that only one option may have. `suffix` is appended to the
    /// name of the file that `path` leads to.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        suffix: &'static str,
        owner: impl Into<PathOwner>,
        location: &Location,
    ) {
        self.claims.push(PathClaim {
            file: LookedUpPath {
                suffix,
                ..LookedUpPath::new(path.to_owned())
            },
            owner: owner.into(),
            kind: ClaimKind::Exclusive(location.clone()),
        });
    }

    /// Claims a file that several options may read and none may write.
    pub(super) fn reserve(&mut self, path: &Path, owner: impl Into<PathOwner>) {
        self.claims.push(PathClaim {
            file: LookedUpPath::new(path.to_owned()),
            owner: owner.into(),
            kind: ClaimKind::ReadOnly,
        });
    }

    /// Reports every claim of a file that an earlier claim has.
    pub(super) fn report_conflicts(self, report: &mut ProblemReport) {
        let files = self.claims.iter().map(|claim| claim.file.clone());
        let identities = find_identities(files.collect(), LOOKUP_TIMEOUT);
        let mut owners: HashMap<&FileIdentity, &PathClaim> = HashMap::new();
        let mut is_refused = false;
        for (claim, identities) in self.claims.iter().zip(&identities) {
            let location = match &claim.kind {
                ClaimKind::ReadOnly => None,
                ClaimKind::Beside(_) if is_refused => continue,
                ClaimKind::Exclusive(location) | ClaimKind::Beside(location) => Some(location),
            };
            let mut found = identities
                .iter()
                .filter_map(|identity| owners.get(identity));
            is_refused = match (location, found.next()) {
                (Some(location), Some(owner)) => {
                    let message = claim.conflict_with(owner);
                    report.add_problem(location, message, "name another file");
                    true
                }
                (Some(_) | None, _) => false,
            };
            if !is_refused {
                for identity in identities {
                    owners.entry(identity).or_insert(claim);
                }
            }
        }
    }
}

impl PathClaim {
    /// Returns the normal form of the path, for messages.
    fn shown_path(&self) -> PathBuf {
        let mut path = path::normalize(&self.file.path).into_os_string();
        path.push(self.file.suffix);
        path.into()
    }

    fn conflict_with(&self, owner: &Self) -> String {
        let (own_path, other_path) = (self.shown_path(), owner.shown_path());
        if own_path == other_path {
            format!("{} is {} already", quote_path(&own_path), owner.owner)
        } else {
            format!(
                "{} is another name of {}, which is {} already",
                quote_path(&own_path),
                quote_path(&other_path),
                owner.owner
            )
        }
    }
}
