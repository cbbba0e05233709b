//! Guards the folder of a sink's file: a path that was right when the configuration was
//! read may lead elsewhere when the file is written.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, FileType};

use super::settings::{FileTarget, WriteMode};
use crate::core::os_error;
use crate::core::state::FileAccess;
use crate::sink::protected_files::{ProtectedFiles, WrittenFile};

use crate::platform::file_identity::{FolderNote, Inode};
use crate::platform::path_walk::{OpenedFolder, TrustedPaths};
use crate::platform::users;

/// What a sink knows about the folder of its file.
#[derive(Debug, Default)]
pub(super) struct FolderGuard {
    protected: Arc<ProtectedFiles>,
    /// The folder as it was when the configuration was read, or when it was last opened.
    noted: Mutex<Option<FolderNote>>,
    /// Who could get the file that the last recorded delivery left.
    recorded_access: Mutex<Option<FileAccess>>,
    /// Whether the sink's options can name an owner.
    has_owner_option: bool,
}

impl FolderGuard {
    /// Returns the guard of the folder at `folder`.
    pub(super) fn new(
        protected: &Arc<ProtectedFiles>,
        folder: &Path,
        has_owner_option: bool,
    ) -> Self {
        Self {
            protected: Arc::clone(protected),
            noted: Mutex::new(protected.folder_note(folder)),
            recorded_access: Mutex::default(),
            has_owner_option,
        }
    }

    /// Whether the sink's options can name an owner.
    pub(super) const fn has_owner_option(&self) -> bool {
        self.has_owner_option
    }

    /// Notes who could get the file that the last recorded delivery left.
    pub(super) fn note_recorded_access(&self, recorded: Option<FileAccess>) {
        let noted = self.recorded_access.lock();
        *noted.unwrap_or_else(PoisonError::into_inner) = recorded;
    }

    /// Returns who could get the file that the last recorded delivery left.
    pub(super) fn recorded_access(&self) -> Option<FileAccess> {
        let noted = self.recorded_access.lock();
        *noted.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the parts of paths that the administrator allows as they are.
    pub(super) fn trusted_paths(&self) -> &TrustedPaths {
        self.protected.trusted_paths()
    }

    /// Whether the folder at `path` is another one than before. Blocks.
    pub(super) fn is_exchanged(&self, path: &Path) -> bool {
        let noted = *self.noted();
        let found = fs::stat(path).map(|stat| FolderNote::new(&stat));
        found.is_ok_and(|found| noted.is_some_and(|noted| noted != found))
    }

    /// Whether the folder at `path` belongs to another owner than the one before. Blocks.
    pub(super) fn is_foreign(&self, path: &Path) -> bool {
        let noted = *self.noted();
        let found = fs::stat(path).map(|stat| FolderNote::new(&stat));
        found.is_ok_and(|found| noted.is_some_and(|noted| noted.owner != found.owner))
    }

    /// Checks that the file of `target` may be written in `folder`, which was opened as its
    /// folder, and notes the folder. Blocks.
    ///
    /// # Errors
    /// Why nothing must be written there.
    pub(super) fn check(&self, target: &FileTarget, folder: &OpenedFolder) -> Result<(), String> {
        let stat = fs::fstat(&folder.folder);
        let stat = stat.map_err(|error| os_error::describe(&error.into()))?;
        let found = FolderNote::new(&stat);
        let noted = *self.noted();
        let is_known = noted == Some(found) && folder.foreign_links.is_empty();
        let linked_file = linked_file(target, folder);
        if is_known && linked_file.is_none() {
            return Ok(());
        }
        self.check_names(target, folder, found, linked_file)?;
        if let Some(noted) = noted.filter(|noted| *noted != found) {
            self.check_exchange(target, noted, found)?;
            tracing::warn!(
                "the folder of {} was replaced by another one of the same owner; rekeyd writes to \
                 the new one from now on",
                target.path.display()
            );
        }
        *self.noted() = Some(found);
        Ok(())
    }

    /// Checks that the file is no other name of a file that is claimed.
    fn check_names(
        &self,
        target: &FileTarget,
        folder: &OpenedFolder,
        found: FolderNote,
        linked_file: Option<Inode>,
    ) -> Result<(), String> {
        let written = WrittenFile {
            path: &target.path,
            folder,
            folder_inode: found.inode,
            linked_file,
        };
        match self.protected.find_other_name(&written) {
            None => Ok(()),
            Some(other) => Err(format!(
                "{} is now another name of {}, which is {}; rekeyd writes nothing there; hint: \
                 find out who changed a folder or link on this path, and undo it",
                target.path.display(),
                other.shown_path().display(),
                other.owner
            )),
        }
    }

    /// Checks what the folder was exchanged for.
    fn check_exchange(
        &self,
        target: &FileTarget,
        noted: FolderNote,
        found: FolderNote,
    ) -> Result<(), String> {
        let path = target.path.display();
        if noted.owner != found.owner {
            return Err(format!(
                "the folder of {path} was replaced: it belonged to {} and now belongs to {}; \
                 rekeyd writes nothing there; hint: restore the old folder, or accept the new one \
                 with `rekeyd reload`",
                users::describe_user(noted.owner),
                users::describe_user(found.owner)
            ));
        }
        match self.protected.own_file_in(found.inode) {
            None => Ok(()),
            Some(own) => Err(format!(
                "the folder of {path} was replaced by that of {}, which is {}; rekeyd writes \
                 nothing there; hint: restore the old folder",
                own.shown_path().display(),
                own.owner
            )),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Option<FolderNote>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the present file if it may have another name: a hard link, or a mount of the
/// file itself, which only a write in place would reach.
fn linked_file(target: &FileTarget, folder: &OpenedFolder) -> Option<Inode> {
    let name = target.path.file_name()?;
    let found = fs::statat(&folder.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let present = found.filter(|stat| {
        // A symbolic link is written nowhere.
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    })?;
    let may_be_linked = present.st_nlink > 1 || target.write == WriteMode::InPlace;
    may_be_linked.then(|| Inode::new(&present))
}
