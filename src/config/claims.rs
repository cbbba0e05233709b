//! The files that the options of the configuration claim.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self, Mode};

use crate::config_reader::location::Location;
use crate::config_reader::report::ProblemReport;
use crate::core::path;
use crate::platform::file_identity::{
    FileIdentity, FoundIdentities, LookedUpPath, find_identities,
};
use crate::platform::path_walk::{self, has_foreign_link};
use crate::sink::file::temp_name;
use crate::sink::protected_files::{ProtectedFile, ProtectedFiles};

/// How long the search for files with two names may take. A file system that
/// hangs must not delay the start: then paths are compared as text.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The files that options claim, in the order of their claims. Two options that
/// write one file would overwrite each other's, and the ledger or a secret would
/// be lost for good; so files are compared by what they are on the disk, and
/// not by their names.
pub(super) struct PathClaims {
    claims: Vec<PathClaim>,
    /// The number of the claims before those of sinks.
    own_count: Option<usize>,
    /// The files that hold secrets of rekeyd's own.
    secrets: Vec<PathBuf>,
    /// The programs, with the locations of their sinks and channels.
    programs: Vec<(String, PathBuf)>,
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
    /// As `Exclusive`, for a file beside the one of the claim before. An option that has
    /// that file has this one as well.
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
        Self {
            claims: Vec::new(),
            own_count: None,
            secrets: Vec::new(),
            programs: Vec::new(),
        }
    }

    /// Begins the claims of sinks.
    pub(super) fn begin_sinks(&mut self) {
        self.own_count = Some(self.claims.len());
    }

    /// Records files that hold secrets of rekeyd's own.
    pub(super) fn add_secrets(&mut self, files: &[PathBuf]) {
        self.secrets.extend_from_slice(files);
    }

    /// Records the programs of the sink or the channel at `location`.
    pub(super) fn add_programs(&mut self, location: &Location, programs: &[PathBuf]) {
        let programs = programs.iter();
        self.programs
            .extend(programs.map(|program| (location.to_string(), program.clone())));
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
                ..LookedUpPath::new(temp_name::former_temp_path(path))
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

    /// Reports every claim of a file that an earlier claim has, and returns the files for
    /// the comparison before each write.
    pub(super) fn report_conflicts(self, report: &mut ProblemReport) -> ProtectedFiles {
        let files = self.claims.iter().map(|claim| claim.file.clone());
        let found = find_identities(files.collect(), LOOKUP_TIMEOUT);
        self.report_shared(&found.identities, report);
        self.into_protected(found)
    }

    fn report_shared(&self, identities: &[Vec<FileIdentity>], report: &mut ProblemReport) {
        let mut owners: HashMap<&FileIdentity, &PathClaim> = HashMap::new();
        let mut is_refused = false;
        for (claim, identities) in self.claims.iter().zip(identities) {
            let location = match &claim.kind {
                ClaimKind::ReadOnly => None,
                ClaimKind::Beside(_) if is_refused => continue,
                ClaimKind::Exclusive(location) | ClaimKind::Beside(location) => Some(location),
            };
            let mut found = identities
                .iter()
                .filter_map(|identity| Some((identity, *owners.get(identity)?)));
            is_refused = match (location, found.next()) {
                (Some(_), Some((identity, owner)))
                    if is_made_by_other_user(identity, claim, owner) =>
                {
                    false
                }
                (Some(location), Some((_, owner))) => {
                    let message = claim.conflict_with(owner);
                    report.add_problem(location, message, "use another file");
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

    fn into_protected(self, found: FoundIdentities) -> ProtectedFiles {
        let own_count = self.own_count.unwrap_or(self.claims.len());
        let mut own = self.claims;
        let of_sinks = own.split_off(own_count);
        let protect = |claims: Vec<PathClaim>| {
            let files = claims.into_iter().map(|claim| ProtectedFile {
                owner: claim.owner.to_string(),
                file: claim.file,
            });
            files.collect()
        };
        ProtectedFiles::new(protect(own), protect(of_sinks), found)
            .with_secrets(self.secrets)
            .with_programs(self.programs)
    }
}

/// Whether another user than root and rekeyd's, who owns a folder on the way, gave one file
/// these two names. That is no mistake of the configuration, and must not keep rekeyd from
/// its other keys: the sink whose path leads there does not write it.
fn is_made_by_other_user(identity: &FileIdentity, one: &PathClaim, other: &PathClaim) -> bool {
    let paths = [&one.file.path, &other.file.path];
    match identity {
        FileIdentity::Path(_) => false,
        FileIdentity::Entry { .. } => paths.iter().any(|path| has_foreign_link(path)),
        // A hard link, or a symbolic link in the place of the file.
        FileIdentity::File(_) => paths
            .iter()
            .any(|path| has_foreign_link(path) || is_in_foreign_folder(path)),
    }
}

/// Whether others than root and rekeyd's user can make files in the folder of `path`.
fn is_in_foreign_folder(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::stat(folder).is_ok_and(|stat| {
        let writers = Mode::WGRP | Mode::WOTH;
        path_walk::is_foreign(stat.st_uid) || Mode::from_raw_mode(stat.st_mode).intersects(writers)
    })
}

impl PathClaim {
    /// Returns the normal form of the path.
    fn normal_path(&self) -> PathBuf {
        let mut path = path::normalize(&self.file.path).into_os_string();
        path.push(self.file.suffix);
        path.into()
    }

    fn conflict_with(&self, owner: &Self) -> String {
        // The paths are text of the file, which messages do not repeat.
        if self.normal_path() == owner.normal_path() {
            format!("the file is {}", owner.owner)
        } else {
            format!("under another name, the file is {}", owner.owner)
        }
    }
}
