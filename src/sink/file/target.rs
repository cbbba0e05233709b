//! The location of a file sink's file, and whether it can be replaced there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::settings::{FileTarget, WriteMode};
use super::{private_mount, replaceability, temp_name};
use crate::platform::users::{self, AccountError};

/// The free space that a new credential requires. Far more than a secret takes,
/// so that rekeyd does not depend on the last free block.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// The longest file name that every file system in use accepts, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The location of a target file. Computes its parts on demand, which keeps ten
/// thousand of them small.
#[derive(Debug, Clone)]
pub(super) struct TargetLocation(pub(super) Arc<FileTarget>);

impl TargetLocation {
    /// Returns the target's path.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns its configured permission bits.
    pub(super) fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.0.mode)
    }

    /// Returns the folder of the target.
    pub(super) fn folder(&self) -> &Path {
        self.path().parent().unwrap_or(Path::new("/"))
    }

    /// Returns the target's name in its folder.
    pub(super) fn file_name(&self) -> &OsStr {
        self.path().file_name().unwrap_or_default()
    }

    /// Returns the name of the temporary file beside it.
    pub(super) fn temp_name(&self) -> OsString {
        temp_name::temp_name(self.file_name())
    }

    /// Returns the path of the temporary file.
    pub(super) fn temp_path(&self) -> PathBuf {
        self.folder().join(self.temp_name())
    }

    /// Opens the folder. All work is relative to it, so that the folder that
    /// was checked is the one that is written to.
    pub(super) fn open_folder(&self) -> Result<OwnedFd, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::open(self.folder(), flags, Mode::empty()).map_err(|error| {
            let folder = self.folder().display();
            match error {
                Errno::NOENT => format!("the folder {folder} does not exist; make it"),
                Errno::NOTDIR => format!("{folder} is not a folder; give another path"),
                error => format!(
                    "cannot open the folder {folder}: {}",
                    describe_io_error(&error.into())
                ),
            }
        })
    }

    /// Returns the configured owner and group as numbers.
    pub(super) fn configured_ownership(&self) -> Result<(Option<Uid>, Option<Gid>), AccountError> {
        let owner = self.0.owner.as_deref().map(users::find_user).transpose()?;
        let group = self.0.group.as_deref().map(users::find_group).transpose()?;
        Ok((owner, group))
    }

    /// Lists every problem that prevents a replacement.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.file_name().is_empty() {
            problems.push(format!(
                "{} names no file; give its path",
                self.path().display()
            ));
        }
        let length = self.temp_name().len();
        if length > MAX_NAME_BYTES {
            problems.push(format!(
                "the file name of {} is too long by {} for the file beside it that the new \
                 content is prepared in; shorten it",
                self.path().display(),
                length - MAX_NAME_BYTES
            ));
        }
        if let Some(problem) = private_mount::check_path(self.path()) {
            // Further checks here would not see the files that consumers see.
            problems.push(problem);
            return problems;
        }
        match self.open_folder() {
            Ok(folder) => {
                let found = fs::statat(&folder, self.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                let present = found.ok().filter(is_regular);
                let needs_folder = self.0.write == WriteMode::Replace || present.is_none();
                self.folder_problems(&folder, needs_folder, &mut problems);
                self.target_problems(found, &mut problems);
                // One cause is enough: a mount that is read-only is no mount
                // point in the wrong place besides.
                if problems.is_empty() {
                    problems = replaceability::problems(self, &folder, present.as_ref());
                    problems.extend(self.temp_problem(&folder, present.as_ref()));
                }
            }
            Err(problem) => problems.push(problem),
        }
        self.owner_problems(&mut problems);
        problems
    }

    /// Lists the problems of the folder. `is_written` means that a file is
    /// created in it.
    fn folder_problems(&self, folder: &OwnedFd, is_written: bool, problems: &mut Vec<String>) {
        let folder_path = self.folder().display();
        match fs::fstat(folder) {
            Ok(stat) if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) => {
                problems.push(format!(
                    "others can write the folder {folder_path} and could put their own file in the \
                     place of ours; give a path in a folder of its own, which others cannot write"
                ));
            }
            Ok(_) => {}
            Err(error) => {
                problems.push(format!(
                    "cannot look at the folder {folder_path}: {}",
                    describe_io_error(&error.into())
                ));
            }
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if is_written && let Err(error) = fs::accessat(folder, ".", access, AtFlags::EACCESS) {
            problems.push(format!(
                "cannot write the folder {folder_path}: {}; the new file is made in it and moved over \
                 the old one",
                describe_io_error(&error.into())
            ));
        }
    }

    /// Checks what was found at the target.
    fn target_problems(&self, found: Result<Stat, Errno>, problems: &mut Vec<String>) {
        if self.file_name().is_empty() {
            return;
        }
        let path = self.path().display();
        match found {
            Ok(stat) if is_regular(&stat) => {}
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                problems.push(format!(
                    "{path} is a symbolic link; give the path of the file itself"
                ));
            }
            Ok(_) => problems.push(format!(
                "{path} is not a regular file; give another path, or move it away"
            )),
            Err(Errno::NOENT) => {}
            Err(error) => {
                problems.push(format!(
                    "cannot look at {path}: {}",
                    describe_io_error(&error.into())
                ));
            }
        }
    }

    /// Returns the problem of a foreign entry with the name of the temporary
    /// file.
    fn temp_problem(&self, folder: &OwnedFd, present: Option<&Stat>) -> Option<String> {
        let stat = fs::statat(folder, self.temp_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let own = rustix::process::geteuid();
        let configured = self
            .configured_ownership()
            .ok()
            .and_then(|(owner, _)| owner);
        let owner = Uid::from_raw(stat.st_uid);
        let is_kept_owner = present.is_some_and(|present| present.st_uid == stat.st_uid);
        let is_ours = own.is_root() || owner == own || Some(owner) == configured || is_kept_owner;
        (!is_regular(&stat) || !is_ours).then(|| self.foreign_temp_message())
    }

    /// Returns the problem of an entry with the name of the temporary file that
    /// is none of ours.
    pub(super) fn foreign_temp_message(&self) -> String {
        format!(
            "{} stands where the new content is prepared, and is no regular file of ours; \
             look at it and remove it",
            self.temp_path().display()
        )
    }

    fn owner_problems(&self, problems: &mut Vec<String>) {
        let path = self.path().display();
        match self
            .0
            .owner
            .as_deref()
            .map(|name| (name, users::find_user(name)))
        {
            Some((name, Ok(user))) if !users::can_chown_to_user(user) => problems.push(format!(
                "cannot give {path} to the user {name} without privileges (CAP_CHOWN and \
                 CAP_FOWNER); leave out owner and make the folder setgid, or give rekeyd's unit \
                 the drop-in owner.conf"
            )),
            Some((_, Err(error))) => problems.push(error.to_string()),
            Some((_, Ok(_))) | None => {}
        }
        match self
            .0
            .group
            .as_deref()
            .map(|name| (name, users::find_group(name)))
        {
            Some((name, Ok(group))) if !users::can_chown_to_group(group) => problems.push(format!(
                "cannot give {path} to the group {name}, which rekeyd's user is not in; add it \
                 to the group, or leave out group and make the folder setgid"
            )),
            Some((_, Err(error))) => problems.push(error.to_string()),
            Some((_, Ok(_))) | None => {}
        }
    }

    /// Checks that a new file fits beside the old one.
    pub(super) fn check_free_space(&self) -> Result<(), String> {
        let folder = self.open_folder()?;
        let folder_path = self.folder().display();
        let space = fs::fstatvfs(&folder).map_err(|error| {
            format!(
                "cannot see how much room {folder_path} has: {}",
                describe_io_error(&error.into())
            )
        })?;
        if space.f_bavail.saturating_mul(space.f_frsize) < MIN_FREE_BYTES {
            return Err(format!(
                "less than {} KiB are free in {folder_path}; make room",
                MIN_FREE_BYTES / 1024
            ));
        }
        // Some file systems have no fixed number of inodes and report 0 of 0.
        if space.f_files > 0 && space.f_favail == 0 {
            return Err(format!(
                "no inode is free in {folder_path}; remove files there"
            ));
        }
        Ok(())
    }
}

/// Whether `stat` is that of a regular file.
pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Describes an operating system's error, with advice where the remedy is not
/// obvious.
// `io::ErrorKind` is not our own enum.
#[allow(clippy::wildcard_enum_match_arm)]
pub(super) fn describe_io_error(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable, or add the folder to the unit's ReadWritePaths="
        }
        io::ErrorKind::PermissionDenied => "; give rekeyd's user the right to",
        _ => "",
    };
    format!("{error}{advice}")
}
