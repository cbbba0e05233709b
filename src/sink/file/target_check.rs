//! Whether the file of a sink can be replaced, or written in place: every
//! problem of its folder, of the present file and of its owner.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Access, AtFlags, FileType, Stat, Uid};
use rustix::io::Errno;

use super::settings::WriteMode;
use super::target::{TargetLocation, describe_io_error, is_regular};
use super::{private_mount, replaceability, temp_name};
use crate::core::plural::counted;
use crate::platform::users;

/// The free space that a new credential requires. Far more than a secret takes,
/// so that rekeyd does not depend on the last free block.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// The longest file name that every file system in use accepts, in bytes.
const MAX_NAME_BYTES: usize = 255;

impl TargetLocation {
    /// Lists every problem that prevents a replacement.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.file_name().is_empty() {
            problems.push(format!(
                "{} has no file name; hint: use the path of a file",
                self.path().display()
            ));
        }
        let length = self.file_name().len() + temp_name::EXTRA_BYTES;
        if length > MAX_NAME_BYTES {
            problems.push(format!(
                "the file name of {} is {} too long for the temporary file beside it; hint: shorten it",
                self.path().display(),
                counted(length - MAX_NAME_BYTES, "byte")
            ));
        }
        if let Some(problem) = private_mount::check_path(self.path()) {
            // Further checks here would not see the files that consumers see.
            problems.push(problem);
            return problems;
        }
        match self.open_weak_folder() {
            Ok((folder, weaknesses)) => {
                let described = weaknesses
                    .iter()
                    .map(|weakness| self.describe_weakness(weakness));
                problems.extend(described);
                let found = fs::statat(&folder, self.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                let present = found.ok().filter(is_regular);
                let needs_folder = self.target.write == WriteMode::Replace || present.is_none();
                self.folder_problems(&folder, needs_folder, &mut problems);
                self.target_problems(found, &mut problems);
                if let Some(file) = &present {
                    problems.extend(self.receiver_problems(&folder, file));
                }
                // One cause is enough: a read-only mount is not also reported as a mount
                // point in the wrong place.
                if problems.is_empty() {
                    problems = replaceability::problems(self, &folder, present.as_ref());
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
            Ok(_) => {}
            Err(error) => {
                problems.push(format!(
                    "cannot read folder {folder_path}: {}",
                    describe_io_error(&error.into(), self.folder())
                ));
            }
        }
        if is_written && let Some(problem) = replaceability::folder_flag_problem(self, folder) {
            problems.push(problem);
            return;
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if is_written && let Err(error) = fs::accessat(folder, ".", access, AtFlags::EACCESS) {
            problems.push(format!(
                "cannot create files in {folder_path}: {}",
                self.describe_folder_error(error)
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
                    "{path} is a symbolic link; hint: use the path of the file itself"
                ));
            }
            Ok(_) => problems.push(format!(
                "{path} is not a regular file; hint: use another path, or move it away"
            )),
            Err(Errno::NOENT) => {}
            Err(error) => {
                problems.push(format!(
                    "cannot read {path}: {}",
                    self.describe_folder_error(error)
                ));
            }
        }
    }

    fn owner_problems(&self, problems: &mut Vec<String>) {
        let path = self.path().display();
        match self
            .target
            .owner
            .as_deref()
            .map(|name| (name, users::find_user(name)))
        {
            Some((name, Ok(user))) if !self.can_give_to(user) => problems.push(format!(
                "cannot make user {name} the owner of {path} without CAP_CHOWN and CAP_FOWNER; \
                 hint: leave out owner and make the folder setgid, or give rekeyd's unit the \
                 drop-in owner.conf"
            )),
            Some((_, Err(error))) => problems.push(error.to_string()),
            Some((_, Ok(_))) | None => {}
        }
        match self
            .target
            .group
            .as_deref()
            .map(|name| (name, users::find_group(name)))
        {
            Some((name, Ok(group))) if !users::can_chown_to_group(group) => problems.push(format!(
                "cannot give {path} to group {name}: rekeyd's user is not in it; hint: add the \
                 user to the group, or leave out group and make the folder setgid"
            )),
            Some((_, Err(error))) => problems.push(error.to_string()),
            Some((_, Ok(_))) | None => {}
        }
    }

    /// Whether this process can leave the file to `user`. One that is written in place may be
    /// his already.
    fn can_give_to(&self, user: Uid) -> bool {
        let is_his = || {
            let present = fs::statat(fs::CWD, self.path(), AtFlags::SYMLINK_NOFOLLOW);
            present.is_ok_and(|stat| is_regular(&stat) && stat.st_uid == user.as_raw())
        };
        users::can_chown_to_user(user) || (self.target.write == WriteMode::InPlace && is_his())
    }

    /// Checks that a new file fits beside the old one.
    pub(super) fn check_free_space(&self) -> Result<(), String> {
        let folder = self.open_folder()?;
        let folder_path = self.folder().display();
        let space = fs::fstatvfs(&folder).map_err(|error| {
            format!(
                "cannot check the free space in {folder_path}: {}",
                describe_io_error(&error.into(), self.folder())
            )
        })?;
        if space.f_bavail.saturating_mul(space.f_frsize) < MIN_FREE_BYTES {
            return Err(format!(
                "{folder_path} has less than {} KiB of free space; hint: free some space",
                MIN_FREE_BYTES / 1024
            ));
        }
        // Some file systems have no fixed number of inodes and report 0 of 0.
        if space.f_files > 0 && space.f_favail == 0 {
            return Err(format!(
                "{folder_path} has no free inode; hint: remove files from its file system"
            ));
        }
        Ok(())
    }
}
