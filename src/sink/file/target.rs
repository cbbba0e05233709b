//! The location of a file sink's file.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::access_advice;
use super::folder_guard::FolderGuard;
use super::settings::FileTarget;
use crate::core::os_error;
use crate::core::state::FileAccess;
use crate::platform::path_walk::{self, TrustedPaths, WalkedPath, Weakness, WeaknessKind};
use crate::platform::service_unit::{own_unit, read_write_advice};
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
    #[cfg(test)]
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

    /// Opens the folder, if the file may be written there. All work is relative to it, so
    /// that the folder that was checked is the one that is written to.
    pub(super) fn open_folder(&self) -> Result<OwnedFd, String> {
        let (folder, weaknesses) = self.open_weak_folder()?;
        match weaknesses.first() {
            None => Ok(folder),
            Some(weakness) => Err(self.describe_weakness(weakness)),
        }
    }

    /// Opens the folder, and returns how other users could get what is written there.
    pub(super) fn open_weak_folder(&self) -> Result<(OwnedFd, Vec<Weakness>), String> {
        let mut walked = self.walk_as_configured()?;
        if !walked.weaknesses.is_empty()
            && let Some(owner) = self.recorded_owner(&walked)
        {
            walked = self.walk_to_folder(&[owner])?;
        }
        self.open_walked(walked)
    }

    /// Opens the folder to remove temporary files: nothing is written there, so that the
    /// owner of the present file may own what leads to it, whoever put it there.
    pub(super) fn open_folder_to_clean(&self) -> Result<OwnedFd, String> {
        let mut walked = self.walk_as_configured()?;
        if !walked.weaknesses.is_empty()
            && let Some(present) = self.present_file(&walked)
        {
            walked = self.walk_to_folder(&[present.st_uid])?;
        }
        let (folder, weaknesses) = self.open_walked(walked)?;
        match weaknesses.first() {
            None => Ok(folder),
            Some(weakness) => Err(self.describe_weakness(weakness)),
        }
    }

    /// Returns who can get the present file, if its path is safe without trust in its owner.
    pub(super) fn safe_access(&self) -> Option<FileAccess> {
        let walked = self.walk_as_configured().ok()?;
        let is_safe = walked.weaknesses.is_empty();
        let present = self.present_file(&walked).filter(|_| is_safe)?;
        Some(access_of(&present))
    }

    fn open_walked(&self, mut walked: WalkedPath) -> Result<(OwnedFd, Vec<Weakness>), String> {
        let weaknesses = std::mem::take(&mut walked.weaknesses);
        let opened = walked
            .open_folder()
            .map_err(|error| self.describe_open_error(error))?;
        // The owner of a link decides where it leads, which says more than the folder itself.
        let is_link = |weakness: &&Weakness| matches!(weakness.kind, WeaknessKind::Link(_));
        if let Some(link) = weaknesses.iter().find(is_link) {
            return Err(self.describe_weakness(link));
        }
        self.guard.check(&self.target, &opened)?;
        Ok((opened.folder, weaknesses))
    }

    pub(super) fn describe_weakness(&self, weakness: &Weakness) -> String {
        format!(
            "{weakness}, so another user could read or replace {}; rekeyd writes nothing there; \
             hint: {}{}",
            self.path().display(),
            self.owner_advice(weakness),
            weakness.hint_for(&users::name_or_number(rustix::process::geteuid().as_raw()))
        )
    }

    /// Follows the path to the folder. The configured owner, who gets the file, may own what
    /// leads there.
    fn walk_as_configured(&self) -> Result<WalkedPath, String> {
        let (owner, _) = self.configured_ownership().unwrap_or_default();
        let receivers: Vec<u32> = owner.iter().map(|owner| owner.as_raw()).collect();
        self.walk_to_folder(&receivers)
    }

    /// Follows the path to the folder. The users that get the file may own what leads there.
    fn walk_to_folder(&self, receivers: &[u32]) -> Result<WalkedPath, String> {
        let trust = self.guard.trusted_paths().and_users(receivers);
        path_walk::walk_to_folder(self.folder(), &trust)
            .map_err(|error| self.describe_open_error(error))
    }

    /// Returns the owner of the present file, which the new one keeps, if it was his after
    /// the last recorded delivery. Anybody else could have put it there to get the secret.
    fn recorded_owner(&self, folder: &WalkedPath) -> Option<u32> {
        let recorded = self.recorded_access()?;
        let present = self.present_file(folder)?;
        let is_kept = self.target.owner.is_none() && present.st_uid == recorded.owner;
        is_kept.then_some(recorded.owner)
    }

    fn present_file(&self, folder: &WalkedPath) -> Option<Stat> {
        let present = folder.stat_entry(self.file_name()).ok();
        present.filter(is_regular)
    }

    /// Whether the sink's options can name an owner.
    pub(super) fn has_owner_option(&self) -> bool {
        self.guard.has_owner_option()
    }

    /// Returns who could get the file that the last recorded delivery left.
    pub(super) fn recorded_access(&self) -> Option<FileAccess> {
        self.guard.recorded_access()
    }

    /// Returns the parts of paths that the administrator allows as they are.
    pub(super) fn trusted_paths(&self) -> &TrustedPaths {
        self.guard.trusted_paths()
    }

    fn describe_open_error(&self, error: Errno) -> String {
        let folder = self.folder().display();
        match error {
            Errno::NOENT => format!("folder {folder} does not exist; hint: create it"),
            Errno::NOTDIR => format!("{folder} is not a folder; hint: use another path"),
            error => format!(
                "cannot open folder {folder}: {}",
                self.describe_folder_error(error)
            ),
        }
    }

    /// Describes an error of work in the folder, with advice.
    pub(super) fn describe_folder_error(&self, error: impl Into<io::Error>) -> String {
        let error = error.into();
        let mut text = describe_io_error(&error, self.folder());
        if error.kind() == io::ErrorKind::PermissionDenied {
            text.push_str(&access_advice::folder_advice(self.path()));
        }
        text
    }

    /// Describes an error of the present file, which is written in place, with advice.
    pub(super) fn describe_file_error(&self, error: impl Into<io::Error>) -> String {
        let error = error.into();
        let mut text = describe_io_error(&error, self.path());
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
}

/// Returns who can get the file with `stat`.
pub(super) fn access_of(stat: &Stat) -> FileAccess {
    FileAccess {
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o7777,
    }
}

/// Whether `stat` is that of a regular file.
pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Describes an error of the operating system at `path`, a folder or a file that is written
/// in place, with advice where the remedy is not obvious.
// `io::ErrorKind` is not our own enum.
#[allow(clippy::wildcard_enum_match_arm)]
pub(super) fn describe_io_error(error: &io::Error, path: &Path) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; hint: free some space".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => read_only_advice(own_unit().as_deref(), path),
        _ => String::new(),
    };
    format!("{}{advice}", os_error::describe(error))
}

/// Returns what to do about a file system that this process, which runs in `unit` if in any,
/// may only read.
fn read_only_advice(unit: Option<&str>, path: &Path) -> String {
    match unit {
        Some(unit) => {
            let advice = read_write_advice(unit, path);
            format!("; hint: mount it read-write, or {advice}")
        }
        None => "; hint: mount it read-write".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_folder_names_the_unit_that_may_not_write_it() {
        let path = Path::new("/etc/billing");
        assert_eq!(
            read_only_advice(Some("rekeyd-once.service"), path),
            "; hint: mount it read-write, or run `systemctl edit rekeyd-once`, add the two lines \
             `[Service]` and `ReadWritePaths=/etc/billing`, then run `systemctl restart \
             rekeyd-once`, because a reload does not apply them"
        );
        assert_eq!(read_only_advice(None, path), "; hint: mount it read-write");
    }
}
