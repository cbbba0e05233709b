//! The name of the temporary file beside a target, which receives the new
//! content before it is renamed over the target: `.NAME.` with random digits and `.rekeyd`.
//! No other user can put anything in its place. 0.1.0 had the same name each time,
//! `.NAME.rekeyd`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::core::hex;
use crate::platform::entropy::{Entropy as _, EntropyError, SystemEntropy};

/// The prefix and suffix around the target's name.
const AFFIXES: [&str; 2] = [".", ".rekeyd"];

/// The number of random bytes, each of two digits.
const RANDOM_BYTES: usize = 8;

/// The number of bytes by which the name is longer than that of the target.
pub(crate) const EXTRA_BYTES: usize = AFFIXES[0].len() + 1 + 2 * RANDOM_BYTES + AFFIXES[1].len();

/// Returns a new temporary name for a target of this name.
///
/// # Errors
/// If the system returns no random bytes.
pub(crate) fn new_temp_name(target: &OsStr) -> Result<OsString, EntropyError> {
    let mut bytes = [0; RANDOM_BYTES];
    SystemEntropy::new().fill(&mut bytes)?;
    let mut name = target.to_owned();
    name.push(".");
    name.push(hex::encode(&bytes));
    Ok(former_temp_name(&name))
}

/// Returns the temporary name that 0.1.0 used for a target of this name.
fn former_temp_name(target: &OsStr) -> OsString {
    let [prefix, suffix] = AFFIXES;
    let mut name = OsString::from(prefix);
    name.push(target);
    name.push(suffix);
    name
}

/// Returns the path of the temporary file that 0.1.0 used for a target at this path.
pub(crate) fn former_temp_path(target: &Path) -> PathBuf {
    target.with_file_name(former_temp_name(target.file_name().unwrap_or_default()))
}

/// Returns whether `name` has the form of a temporary name with random digits.
pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    targets_of(name).len() > 1
}

/// Returns the names of the targets whose temporary file may have this name: none, that of
/// 0.1.0, or also that before the random digits.
pub(crate) fn targets_of(name: &OsStr) -> Vec<OsString> {
    let [prefix, suffix] = AFFIXES.map(str::as_bytes);
    let name = name.as_bytes().strip_prefix(prefix);
    let Some(name) = name.and_then(|name| name.strip_suffix(suffix)) else {
        return Vec::new();
    };
    let digits_at = name.len().saturating_sub(2 * RANDOM_BYTES);
    let (start, digits) = name.split_at(digits_at);
    let is_random = digits.len() == 2 * RANDOM_BYTES
        && digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let target = start.strip_suffix(b".").filter(|_| is_random);
    let targets = [Some(name), target].into_iter().flatten();
    let targets = targets.filter(|target| !target.is_empty());
    targets
        .map(|target| OsString::from_vec(target.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_temp_name_is_beside_its_target() {
        for (target, expected) in [
            ("/etc/billing/key", "/etc/billing/.key.rekeyd"),
            ("/key", "/.key.rekeyd"),
            ("/etc/.key.rekeyd", "/etc/..key.rekeyd.rekeyd"),
        ] {
            assert_eq!(former_temp_path(Path::new(target)), Path::new(expected));
        }
    }

    #[test]
    fn temp_name_is_recognized() {
        for (name, expected) in [
            (".key.rekeyd", &["key"][..]),
            (
                ".key.0123456789abcdef.rekeyd",
                &["key.0123456789abcdef", "key"],
            ),
            (".key.0123456789ABCDEF.rekeyd", &["key.0123456789ABCDEF"]),
            (".key.0123456789abcde.rekeyd", &["key.0123456789abcde"]),
            (".key.00123456789abcdef.rekeyd", &["key.00123456789abcdef"]),
            (".0123456789abcdef.rekeyd", &["0123456789abcdef"]),
            ("..0123456789abcdef.rekeyd", &[".0123456789abcdef"]),
            ("key", &[]),
            ("key.rekeyd", &[]),
            (".key", &[]),
            (".rekeyd", &[]),
            ("..rekeyd", &[]),
        ] {
            assert_eq!(targets_of(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn each_temp_name_is_new_and_recognized() {
        let target = OsStr::new("key");
        let names = [0; 2].map(|_| new_temp_name(target).unwrap());
        assert_ne!(names[0], names[1]);
        for name in names {
            assert_eq!(name.len(), target.len() + EXTRA_BYTES);
            assert!(is_temp_name(&name) && targets_of(&name).contains(&target.to_owned()));
        }
    }
}
