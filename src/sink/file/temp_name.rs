//! The name of the temporary file beside a target, which receives the new
//! content before it is renamed over the target.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The prefix and suffix around the target's name.
const AFFIXES: [&str; 2] = [".", ".rekeyd"];

/// Returns the temporary name for a target of this name.
pub(crate) fn temp_name(target: &OsStr) -> OsString {
    let [prefix, suffix] = AFFIXES;
    let mut name = OsString::from(prefix);
    name.push(target);
    name.push(suffix);
    name
}

/// Returns the temporary path for a target at this path.
pub(crate) fn temp_path(target: &Path) -> PathBuf {
    target.with_file_name(temp_name(target.file_name().unwrap_or_default()))
}

/// Whether `name` has the form of a temporary name.
pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    let [prefix, suffix] = AFFIXES.map(str::as_bytes);
    name.as_bytes().starts_with(prefix) && name.as_bytes().ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temp_name_is_beside_its_target_and_recognized() {
        for (target, expected) in [
            ("/etc/billing/key", "/etc/billing/.key.rekeyd"),
            ("/key", "/.key.rekeyd"),
            ("/etc/.key.rekeyd", "/etc/..key.rekeyd.rekeyd"),
        ] {
            let temp = temp_path(Path::new(target));
            assert_eq!(temp, Path::new(expected));
            assert!(is_temp_name(temp.file_name().unwrap()), "{expected}");
        }
        for other_name in ["key", "key.rekeyd", ".key"] {
            assert!(!is_temp_name(OsStr::new(other_name)), "{other_name}");
        }
    }
}
