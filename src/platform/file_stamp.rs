//! Whether a file is still the one that was seen before, without reading it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What changes with the file at a path: another one in its place, also behind a link, or
/// another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of the file at a path, behind all links; none if there is none, or it
    /// cannot be seen. Blocks.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_follows_content_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("one"), "1").unwrap();
        std::fs::write(path("two"), "1").unwrap();
        std::os::unix::fs::symlink(path("one"), path("link")).unwrap();
        let first = FileStamp::of(&path("link"));
        assert!(first.is_some());
        assert_eq!(first, FileStamp::of(&path("one")));
        std::os::unix::fs::symlink(path("two"), path("next")).unwrap();
        std::fs::rename(path("next"), path("link")).unwrap();
        let second = FileStamp::of(&path("link"));
        assert_ne!(second, first);
        std::fs::write(path("two"), "12").unwrap();
        assert_ne!(FileStamp::of(&path("link")), second);
        std::fs::remove_file(path("two")).unwrap();
        assert_eq!(FileStamp::of(&path("link")), None);
    }
}
