//! Paths as text.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The endings of the files that SQLite and rekeyd find beside a ledger by their names.
pub const LEDGER_FILE_ENDINGS: [&str; 14] = [
    "-wal",
    "-shm",
    "-journal",
    ".lock",
    ".checkpoint",
    ".cookie",
    ".cookie.new",
    ".restoring",
    ".received",
    ".before-restore",
    ".room",
    ".room-check",
    ".0.1.0",
    ".0.1.0.unfinished",
];

/// Whether an error of a sync says that the file system cannot sync folders (EINVAL,
/// ENOTSUP), as CIFS and some of FUSE. It has no other means to write a folder to disk, and
/// its files are written nevertheless.
#[must_use]
pub fn is_sync_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// Resolves every `..` of a path as text, without reading the disk: for
/// comparisons, not for access.
#[must_use]
pub fn normalize(path: &Path) -> PathBuf {
    if path.to_str().is_some_and(is_normalized) {
        return path.to_owned();
    }
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// Whether [`normalize`] certainly leaves a path unchanged, as it does nearly
/// every one: splitting a path takes ten times as long.
#[must_use]
pub fn is_normalized(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && !path.contains("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_path_has_no_redundant_components() {
        for (path_text, expected) in [
            ("/etc/rekeyd/key", "/etc/rekeyd/key"),
            ("/etc/.key.rekeyd", "/etc/.key.rekeyd"),
            ("/etc/..key", "/etc/..key"),
            ("/etc/../key", "/key"),
            ("/etc/..", "/"),
            ("/etc/./key", "/etc/key"),
            ("/etc/key/.", "/etc/key"),
            ("/etc//key/", "/etc/key"),
            ("./key", "key"),
            ("/", "/"),
        ] {
            assert_eq!(
                normalize(Path::new(path_text)),
                Path::new(expected),
                "{path_text}"
            );
        }
    }
}
