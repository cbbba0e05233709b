//! Whether anything was left half written beside many files at once.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::settings::FileTarget;
use super::target::TargetLocation;
use super::temp_name::is_temp_name;

/// A folder with more targets than that is listed, which takes less than to
/// look for what each of them may have beside it; with fewer, it may hold far
/// more than rekeyd's files.
const LISTING_THRESHOLD: usize = 32;

/// Beside which of `targets` a process that was killed has certainly left
/// nothing, in their order. Waits for the disk.
pub(crate) fn temp_files_absent(targets: &[Arc<FileTarget>]) -> Vec<bool> {
    let places: Vec<_> = targets.iter().cloned().map(TargetLocation).collect();
    let mut counts: HashMap<&OsStr, usize> = HashMap::new();
    for place in &places {
        *counts.entry(place.folder().as_os_str()).or_default() += 1;
    }
    let many = counts
        .into_iter()
        .filter(|(_, count)| *count > LISTING_THRESHOLD);
    let listed: HashMap<_, _> = many
        .filter_map(|(folder, _)| Some((folder, temp_names_in(Path::new(folder)).ok()?)))
        .collect();
    let is_absent = |place: &TargetLocation| match listed.get(place.folder().as_os_str()) {
        Some(left) => left.is_empty() || !left.contains(&place.temp_name()),
        None => {
            let found = place.temp_path().symlink_metadata();
            found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        }
    };
    places.iter().map(is_absent).collect()
}

/// The names in a folder that rekeyd gives to what it prepares there.
fn temp_names_in(folder: &Path) -> io::Result<HashSet<OsString>> {
    let mut left = HashSet::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name();
        if is_temp_name(&name) {
            left.insert(name);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(folder: &Path, count: usize) -> Vec<Arc<FileTarget>> {
        let target = |number| FileTarget::with_defaults(folder.join(format!("{number}.key")));
        (0..count).map(target).map(Arc::new).collect()
    }

    #[test]
    fn stale_temp_is_found_with_and_without_listing() {
        for count in [3, 3 * LISTING_THRESHOLD] {
            let folder = tempfile::tempdir().unwrap();
            let targets = targets(folder.path(), count);
            assert_eq!(temp_files_absent(&targets), vec![true; count]);
            for name in [".1.key.rekeyd", ".other.key.rekeyd", "2.key"] {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            let absent = temp_files_absent(&targets);
            let left: Vec<_> = (0..count).filter(|number| !absent[*number]).collect();
            assert_eq!(left, [1], "of {count}");
        }
    }

    #[test]
    fn symlink_counts_and_missing_folder_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(".0.key.rekeyd");
        std::os::unix::fs::symlink("nowhere", link).unwrap();
        for count in [1, 2 * LISTING_THRESHOLD] {
            assert!(!temp_files_absent(&targets(folder.path(), count))[0]);
            let nowhere = targets(&folder.path().join("nowhere"), count);
            assert_eq!(temp_files_absent(&nowhere), vec![true; count]);
        }
    }

    /// A folder that cannot be read is left to the removal, which reports why.
    #[test]
    fn unreadable_folder_is_uncertain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for count in [1, 2 * LISTING_THRESHOLD] {
            assert_eq!(
                temp_files_absent(&targets(file.path(), count)),
                vec![false; count]
            );
        }
    }
}
