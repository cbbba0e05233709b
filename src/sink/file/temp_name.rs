//! The name of the file beside a target that takes the new content before it is
//! renamed over the target.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What is put around the target's name.
const AFFIXES: [&str; 2] = [".", ".rekeyd"];

/// The name for a target of this name.
pub(crate) fn temp_name(target: &OsStr) -> OsString {
    let [before, behind] = AFFIXES;
    let mut name = OsString::from(before);
    name.push(target);
    name.push(behind);
    name
}

/// The path for a target at this path.
pub(crate) fn temp_path(target: &Path) -> PathBuf {
    target.with_file_name(temp_name(target.file_name().unwrap_or_default()))
}

/// Whether a file of this name may be such a file.
pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    let [before, behind] = AFFIXES.map(str::as_bytes);
    name.as_bytes().starts_with(before) && name.as_bytes().ends_with(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temp_file_stands_beside_its_target_and_is_recognized() {
        for (target, expected) in [
            ("/etc/billing/key", "/etc/billing/.key.rekeyd"),
            ("/key", "/.key.rekeyd"),
            ("/etc/.key.rekeyd", "/etc/..key.rekeyd.rekeyd"),
        ] {
            let found = temp_path(Path::new(target));
            assert_eq!(found, Path::new(expected));
            assert!(is_temp_name(found.file_name().unwrap()), "{expected}");
        }
        for other in ["key", "key.rekeyd", ".key"] {
            assert!(!is_temp_name(OsStr::new(other)), "{other}");
        }
    }
}
