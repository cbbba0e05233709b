//! The files that a sink must not write, by whatever name: rekeyd's own, and those of
//! other sinks.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs;

use super::file::temp_name;
use crate::platform::file_identity::{
    FileIdentity, FolderNote, FoundIdentities, IdentityLookup, Inode, LookedUpPath, compared_name,
    folded_name,
};
use crate::platform::path_walk::{self, OpenedFolder, TrustedPaths};

/// The files that the options of a configuration claim, and the folders that they were in
/// when it was read. The configuration is compared with the disk once; the disk changes.
#[derive(Debug, Default)]
pub struct ProtectedFiles {
    /// rekeyd's own files, such as the ledger, the configuration and the admin key: a few.
    own: Vec<ProtectedFile>,
    /// The files that sinks write or read, by their folded names: thousands.
    of_sinks: HashMap<OsString, Vec<ProtectedFile>>,
    /// The folders as they were.
    folders: HashMap<PathBuf, FolderNote>,
    /// The parts of paths that may belong to others.
    trusted_paths: TrustedPaths,
    /// The files with secrets of rekeyd's own, such as the admin key and signing secrets.
    secrets: Vec<PathBuf>,
    /// The programs, with the locations of their sinks and channels.
    programs: Vec<(String, PathBuf)>,
}

/// One of these files.
#[derive(Debug)]
pub struct ProtectedFile {
    /// The file.
    pub file: LookedUpPath,
    /// What claims it, as "written by key.a.sink[0]".
    pub owner: String,
}

/// A file that a sink is about to write.
pub(crate) struct WrittenFile<'a> {
    /// Its configured path.
    pub(crate) path: &'a Path,
    /// The folder that was opened.
    pub(crate) folder: &'a OpenedFolder,
    /// The inode of that folder.
    pub(crate) folder_inode: Inode,
    /// The present file, if it may have further names.
    pub(crate) linked_file: Option<Inode>,
}

impl ProtectedFiles {
    /// Returns rekeyd's `own` files and those of sinks, with the folders of `found`.
    #[must_use]
    pub fn new(
        own: Vec<ProtectedFile>,
        of_sinks: Vec<ProtectedFile>,
        found: FoundIdentities,
    ) -> Self {
        let mut by_name: HashMap<OsString, Vec<ProtectedFile>> = HashMap::new();
        let mut known_paths = HashSet::new();
        let mut folders = HashMap::new();
        for file in of_sinks {
            // Many sinks may read one file.
            if !known_paths.insert(file.file.path.clone()) {
                continue;
            }
            let Some(name) = file.file.path.file_name() else {
                continue;
            };
            if let Some((folder, note)) = file
                .file
                .path
                .parent()
                .and_then(|folder| found.folders.get_key_value(folder))
            {
                folders.insert(folder.clone(), *note);
            }
            by_name.entry(folded_name(name)).or_default().push(file);
        }
        Self {
            own,
            of_sinks: by_name,
            folders,
            trusted_paths: TrustedPaths::default(),
            secrets: Vec::new(),
            programs: Vec::new(),
        }
    }

    /// Allows parts of paths that belong to other users, or that they can write.
    #[must_use]
    pub fn with_trusted_paths(self, trusted_paths: TrustedPaths) -> Self {
        Self {
            trusted_paths,
            ..self
        }
    }

    /// Returns the parts of paths that are allowed as they are.
    #[must_use]
    pub const fn trusted_paths(&self) -> &TrustedPaths {
        &self.trusted_paths
    }

    /// Records the files with secrets of rekeyd's own.
    #[must_use]
    pub fn with_secrets(self, secrets: Vec<PathBuf>) -> Self {
        Self { secrets, ..self }
    }

    /// Returns the files with secrets of rekeyd's own.
    #[must_use]
    pub fn secrets(&self) -> &[PathBuf] {
        &self.secrets
    }

    /// Records the programs, with the locations of their sinks and channels.
    #[must_use]
    pub fn with_programs(self, programs: Vec<(String, PathBuf)>) -> Self {
        Self { programs, ..self }
    }

    /// Returns the programs, with the locations of their sinks and channels.
    #[must_use]
    pub fn programs(&self) -> &[(String, PathBuf)] {
        &self.programs
    }

    /// Returns the folder at `path` as it was when the configuration was read.
    pub(crate) fn folder_note(&self, path: &Path) -> Option<FolderNote> {
        self.folders.get(path).copied()
    }

    /// Returns the protected file that `written` is another name of. Blocks.
    pub(crate) fn find_other_name(&self, written: &WrittenFile<'_>) -> Option<&ProtectedFile> {
        let name = written.path.file_name()?;
        let temp_path = temp_name::former_temp_path(written.path);
        let temp_name = temp_path.file_name()?;
        let names = [name, temp_name].map(|name| compared_name(&written.folder.folder, name));
        let is_other = |file: &&ProtectedFile| {
            !file.file.suffix.is_empty()
                || (file.file.path != written.path && file.file.path != temp_path)
        };
        let mut lookup = IdentityLookup::default();
        let mut is_same = |file: &&ProtectedFile| {
            lookup
                .identities(&file.file)
                .iter()
                .any(|identity| match identity {
                    FileIdentity::Entry { folder, name } => {
                        *folder == written.folder_inode && names.contains(name)
                    }
                    FileIdentity::File(inode) => Some(*inode) == written.linked_file,
                    FileIdentity::Path(_) => false,
                })
        };
        let own = self.own.iter().filter(is_other).find(&mut is_same);
        own.or_else(|| {
            let mut candidates = [name, temp_name]
                .into_iter()
                .filter_map(|name| self.of_sinks.get(&folded_name(name)))
                .flatten();
            candidates.find(|file| {
                is_other(file)
                    && is_entry_of(&file.file.path, written, &names)
                    && !is_victim(&file.file.path, written)
            })
        })
    }

    /// Returns the file of rekeyd's own in a folder. Blocks.
    pub(crate) fn own_file_in(&self, folder: Inode) -> Option<&ProtectedFile> {
        let mut lookup = IdentityLookup::default();
        self.own.iter().find(|file| {
            let identities = lookup.identities(&file.file);
            identities.iter().any(|identity| match identity {
                FileIdentity::Entry { folder: own, name } => {
                    // A part of a path that does not exist is in no folder yet.
                    *own == folder && Path::new(name).components().count() == 1
                }
                FileIdentity::File(_) | FileIdentity::Path(_) => false,
            })
        })
    }
}

/// Whether `path` is one of `names` in the folder that is written to.
fn is_entry_of(path: &Path, written: &WrittenFile<'_>, names: &[OsString]) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let is_same_folder =
        fs::stat(folder).is_ok_and(|stat| Inode::new(&stat) == written.folder_inode);
    is_same_folder && names.contains(&compared_name(&written.folder.folder, name))
}

/// Whether another user's link leads `path` to the file, while no link leads to the one
/// that is written: the sink with the link is wrong, and not this one.
fn is_victim(path: &Path, written: &WrittenFile<'_>) -> bool {
    written.folder.foreign_links.is_empty() && path_walk::has_foreign_link(path)
}

impl ProtectedFile {
    /// Returns its path for messages.
    pub(crate) fn shown_path(&self) -> PathBuf {
        let mut path = self.file.path.clone().into_os_string();
        path.push(OsStr::new(self.file.suffix));
        path.into()
    }
}
