//! The location of a file sink's file.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::access_advice;
use super::folder_guard::FolderGuard;
use super::settings::FileTarget;
use super::temp_name;
use crate::core::os_error;
use crate::platform::path_links;
use crate::platform::users::{self, AccountError};

/// The location of a target file. Computes its parts on demand, which keeps ten
/// thousand of them small.
#[derive(Debug, Clone)]
pub(super) struct TargetLocation {
    /// The target.
    pub(super) target: Arc<FileTarget>,
    /// What is known about its folder.
    guard: Arc<FolderGuard>,
}

impl TargetLocation {
    /// Returns the location of `target`, whose folder `guard` knows.
    pub(super) const fn new(target: Arc<FileTarget>, guard: Arc<FolderGuard>) -> Self {
        Self { target, guard }
    }

    /// Returns the location of `target`, with a folder that nothing is known about.
    pub(super) fn unguarded(target: Arc<FileTarget>) -> Self {
        Self::new(target, Arc::default())
    }

    /// Returns the target's path.
    pub(super) fn path(&self) -> &Path {
        &self.target.path
    }

    /// Returns its configured permission bits.
    pub(super) fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.target.mode)
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

    /// Opens the folder, if the file may be written there. All work is relative to it, so
    /// that the folder that was checked is the one that is written to.
    pub(super) fn open_folder(&self) -> Result<OwnedFd, String> {
        let opened = path_links::open_folder(self.folder()).map_err(|error| {
            let folder = self.folder().display();
            match error {
                Errno::NOENT => format!("folder {folder} does not exist; hint: create it"),
                Errno::NOTDIR => format!("{folder} is not a folder; hint: use another path"),
                error => format!(
                    "cannot open folder {folder}: {}",
                    self.describe_folder_error(error)
                ),
            }
        })?;
        self.guard.check(&self.target, &opened)?;
        Ok(opened.folder)
    }

    /// Describes an error of work in the folder, with advice.
    pub(super) fn describe_folder_error(&self, error: impl Into<io::Error>) -> String {
        let error = error.into();
        let mut text = describe_io_error(&error);
        if error.kind() == io::ErrorKind::PermissionDenied {
            text.push_str(&access_advice::folder_advice(
                self.path(),
                &self.temp_name(),
            ));
        }
        text
    }

    /// Describes an error of the present file, which is written in place, with advice.
    pub(super) fn describe_file_error(&self, error: impl Into<io::Error>) -> String {
        let error = error.into();
        let mut text = describe_io_error(&error);
        if error.kind() == io::ErrorKind::PermissionDenied {
            text.push_str(&access_advice::file_advice(self.path()));
        }
        text
    }

    /// Logs that the folder was exchanged since it was last opened. Blocks.
    pub(super) fn report_exchange(&self) {
        if self.guard.is_exchanged(self.folder())
            && let Err(problem) = self.open_folder()
        {
            tracing::warn!("{problem}");
        }
    }

    /// Whether the folder was exchanged for that of another owner since it was last opened.
    /// Blocks.
    pub(super) fn has_foreign_folder(&self) -> bool {
        self.guard.is_foreign(self.folder())
    }

    /// Returns how to keep other users from writing in the folder.
    pub(super) fn folder_advice(&self) -> String {
        let folder = self.folder().display();
        format!(
            "use a folder that only rekeyd can write to and that consumers read through its group: \
             chown rekeyd {folder} && chmod 2750 {folder}"
        )
    }

    /// Returns the configured owner and group as numbers.
    pub(super) fn configured_ownership(&self) -> Result<(Option<Uid>, Option<Gid>), AccountError> {
        let owner = self
            .target
            .owner
            .as_deref()
            .map(users::find_user)
            .transpose()?;
        let group = self
            .target
            .group
            .as_deref()
            .map(users::find_group)
            .transpose()?;
        Ok((owner, group))
    }

    /// Returns the problem of an entry with the name of the temporary file that
    /// is none of ours.
    pub(super) fn foreign_temp_message(&self) -> String {
        format!(
            "{} is in the way of rekeyd's temporary file, and rekeyd did not create it; hint: \
             inspect it, then remove it",
            self.temp_path().display()
        )
    }
}

/// Whether `stat` is that of a regular file.
pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Describes an error of the operating system, with advice where the remedy is not
/// obvious.
// `io::ErrorKind` is not our own enum.
#[allow(clippy::wildcard_enum_match_arm)]
pub(super) fn describe_io_error(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; hint: free some space",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; hint: mount it read-write, or add the folder to the unit's ReadWritePaths="
        }
        _ => "",
    };
    format!("{}{advice}", os_error::describe(error))
}
