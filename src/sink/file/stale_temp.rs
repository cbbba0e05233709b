//! The temporary files that a killed process left beside targets.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Dir, Uid};
use rustix::io::Errno;

use super::disk;
use super::settings::FileTarget;
use super::target::{TargetLocation, describe_io_error, is_regular};
use super::temp_name::targets_of;

/// The number of entries from which on a folder counts as large: many targets in it
/// share one listing of it.
const LARGE_FOLDER: usize = 256;

/// How long the listing of a large folder counts.
const LISTING_AGE: Duration = Duration::from_secs(1);

/// The latest listing of a large folder.
static LATEST: Mutex<Option<FolderListing>> = Mutex::new(None);

/// The names in a folder that have the form of a temporary one.
struct FolderListing {
    path: PathBuf,
    /// The device and inode of the folder.
    folder: (u64, u64),
    listed_at: Instant,
    names: Arc<Vec<OsString>>,
}

/// Returns for each of `targets`, in their order, whether certainly no
/// temporary file is beside it. Blocks.
pub(crate) fn temp_files_absent(targets: &[Arc<FileTarget>]) -> Vec<bool> {
    let mut folders: HashMap<&Path, Option<HashSet<OsString>>> = HashMap::new();
    let mut absent = Vec::with_capacity(targets.len());
    for target in targets {
        let folder = target.path.parent().unwrap_or(Path::new("/"));
        let left = folders
            .entry(folder)
            .or_insert_with(|| targets_with_temps(folder));
        let name = target.path.file_name().unwrap_or_default();
        absent.push(left.as_ref().is_some_and(|left| !left.contains(name)));
    }
    absent
}

/// Returns the names of the targets in a folder that may have temporary files; none if it
/// cannot be read.
fn targets_with_temps(folder: &Path) -> Option<HashSet<OsString>> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(HashSet::new()),
        Err(_) => return None,
    };
    let mut targets = HashSet::new();
    for entry in entries {
        targets.extend(targets_of(&entry.ok()?.file_name()));
    }
    Some(targets)
}

/// Removes the temporary files beside a target that this user or `owner` made, and returns
/// whether there was one. What has another name as well, or is no regular file, stays. MUST
/// be called while no other attempt to replace the target is running.
pub(super) fn remove_temps(
    location: &TargetLocation,
    folder: &OwnedFd,
    owner: Option<Uid>,
) -> Result<bool, String> {
    let names = temp_names(location.folder(), folder).map_err(|error| {
        format!(
            "cannot read folder {}: {}",
            location.folder().display(),
            describe_io_error(&error.into(), location.folder())
        )
    })?;
    let owners = [Some(rustix::process::geteuid()), owner];
    let mut has_removed = false;
    for name in names.iter() {
        let mut targets = targets_of(name).into_iter();
        if !targets.any(|target| target == location.file_name()) {
            continue;
        }
        let Ok(stat) = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_ours = owners.contains(&Some(Uid::from_raw(stat.st_uid)));
        if !is_regular(&stat) || stat.st_nlink != 1 || !is_ours {
            continue;
        }
        match disk::remove(folder, name) {
            Ok(()) => has_removed = true,
            Err(Errno::NOENT) => {}
            Err(error) => {
                return Err(format!(
                    "cannot remove the leftover file {}, which may hold a secret: {}",
                    location.folder().join(name).display(),
                    describe_io_error(&error.into(), location.folder())
                ));
            }
        }
    }
    Ok(has_removed)
}

/// Locks the latest listing. Never held while a folder is read, which may hang.
fn latest_listing() -> MutexGuard<'static, Option<FolderListing>> {
    LATEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the names in a folder that have the form of a temporary one.
fn temp_names(path: &Path, folder: &OwnedFd) -> Result<Arc<Vec<OsString>>, Errno> {
    let stat = fs::fstat(folder)?;
    let identity = (stat.st_dev, stat.st_ino);
    // A new folder may have the inode of one that is gone, but hardly at the same path.
    let is_recent = |known: &&FolderListing| {
        known.folder == identity && known.path == path && known.listed_at.elapsed() < LISTING_AGE
    };
    let known = latest_listing()
        .as_ref()
        .filter(is_recent)
        .map(|known| Arc::clone(&known.names));
    if let Some(names) = known {
        return Ok(names);
    }
    let listed_at = Instant::now();
    let mut names = Vec::new();
    let mut count = 0;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        count += 1;
        if !targets_of(name).is_empty() {
            names.push(name.to_owned());
        }
    }
    let names = Arc::new(names);
    if count > LARGE_FOLDER {
        *latest_listing() = Some(FolderListing {
            path: path.to_owned(),
            folder: identity,
            listed_at,
            names: Arc::clone(&names),
        });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0123456789abcdef";

    fn targets(folder: &Path, count: usize) -> Vec<Arc<FileTarget>> {
        let target = |number| FileTarget::with_defaults(folder.join(format!("{number}.key")));
        (0..count).map(target).map(Arc::new).collect()
    }

    #[test]
    fn stale_temp_is_found_by_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let targets = targets(folder.path(), 4);
        assert_eq!(temp_files_absent(&targets), [true; 4]);
        for name in [".1.key.rekeyd", ".other.key.rekeyd", "2.key"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::write(folder.path().join(format!(".3.key.{DIGITS}.rekeyd")), "").unwrap();
        assert_eq!(temp_files_absent(&targets), [true, false, true, false]);
    }

    #[test]
    fn missing_folder_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = targets(&folder.path().join("nowhere"), 2);
        assert_eq!(temp_files_absent(&nowhere), [true; 2]);
    }

    /// The removal of the temporary files reports why a folder cannot be read.
    #[test]
    fn unreadable_folder_is_uncertain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(temp_files_absent(&targets(file.path(), 2)), [false; 2]);
    }

    /// A large folder is listed once a second, whatever is delivered there.
    #[test]
    fn temp_in_a_large_folder_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!(".1.key.{DIGITS}.rekeyd"));
        for number in 0..=LARGE_FOLDER {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        std::fs::write(&left, "half").unwrap();
        let [other, target] = [0, 1].map(|number| {
            let target = targets(dir.path(), 2).swap_remove(number);
            TargetLocation::unguarded(target)
        });
        let folder = other.open_folder().unwrap();
        assert_eq!(remove_temps(&other, &folder, None), Ok(false));
        assert_eq!(remove_temps(&target, &folder, None), Ok(true));
        assert_eq!(remove_temps(&target, &folder, None), Ok(false));
        assert!(!left.exists());
    }
}
