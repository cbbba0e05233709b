//! A check of many files at once for temporary files that a killed process
//! left.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::settings::FileTarget;
use super::target::TargetLocation;
use super::temp_name::is_temp_name;

/// The number of targets in one folder from which on the folder is listed,
/// which is faster than a lookup for each of them. A folder with fewer may hold
/// far more than rekeyd's files.
const LISTING_THRESHOLD: usize = 32;

/// Returns for each of `targets`, in their order, whether certainly no
/// temporary file is beside it. Blocks.
pub(crate) fn temp_files_absent(targets: &[Arc<FileTarget>]) -> Vec<bool> {
    let locations: Vec<_> = targets
        .iter()
        .cloned()
        .map(TargetLocation::unguarded)
        .collect();
    let mut counts: HashMap<&OsStr, usize> = HashMap::new();
    for location in &locations {
        *counts.entry(location.folder().as_os_str()).or_default() += 1;
    }
    let large_folders = counts
        .into_iter()
        .filter(|(_, count)| *count > LISTING_THRESHOLD);
    let temp_names_by_folder: HashMap<_, _> = large_folders
        .filter_map(|(folder, _)| Some((folder, temp_names_in(Path::new(folder)).ok()?)))
        .collect();
    let is_absent = |location: &TargetLocation| match temp_names_by_folder
        .get(location.folder().as_os_str())
    {
        Some(temp_names) => temp_names.is_empty() || !temp_names.contains(&location.temp_name()),
        None => {
            let found = location.temp_path().symlink_metadata();
            found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        }
    };
    locations.iter().map(is_absent).collect()
}

/// Returns the names of the temporary files in a folder.
fn temp_names_in(folder: &Path) -> io::Result<HashSet<OsString>> {
    let mut temp_names = HashSet::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name();
        if is_temp_name(&name) {
            temp_names.insert(name);
        }
    }
    Ok(temp_names)
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
            let stale: Vec<_> = (0..count).filter(|number| !absent[*number]).collect();
            assert_eq!(stale, [1], "of {count}");
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

    /// The removal of the temporary files reports why a folder cannot be read.
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
