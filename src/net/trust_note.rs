//! What the files that TLS depends on looked like when they were read, so that a change is
//! noticed without reading them again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The files and folders in which hosts keep the roots that they trust.
const HOST_ROOTS: [&str; 4] = [
    "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The variables that name others.
const ROOT_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The look of the files at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustNote(Vec<Option<FileNote>>);

/// The look of one file. A file that is replaced has another inode, and one that is written
/// in place another time of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileNote {
    device: u64,
    inode: u64,
    size: u64,
    changed_at: (i64, i64),
}

impl TrustNote {
    /// Looks at these files, following links, and at the roots of this host. Blocks.
    #[must_use]
    pub fn take<'p>(files: impl Iterator<Item = &'p Path>) -> Self {
        let mut notes: Vec<_> = files.map(look_at).collect();
        notes.extend(HOST_ROOTS.map(|root| look_at(Path::new(root))));
        let named = ROOT_VARIABLES.map(|variable| {
            let path = std::env::var_os(variable)?;
            look_at(Path::new(&path))
        });
        notes.extend(named);
        Self(notes)
    }
}

fn look_at(path: &Path) -> Option<FileNote> {
    path.metadata().ok().map(|found| FileNote::new(&found))
}

impl FileNote {
    fn new(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            changed_at: (found.ctime(), found.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, new) = (folder.path().join("ca.pem"), folder.path().join("new"));
        let link = folder.path().join("link");
        let note = || TrustNote::take([file.as_path(), link.as_path()].into_iter());
        let mut notes = vec![note()];
        std::fs::write(&file, "one").unwrap();
        notes.push(note());
        // As `mv` does it.
        std::fs::write(&new, "two").unwrap();
        std::fs::rename(&new, &file).unwrap();
        notes.push(note());
        std::fs::write(&file, "longer").unwrap();
        notes.push(note());
        std::os::unix::fs::symlink(&file, &link).unwrap();
        notes.push(note());
        std::fs::remove_file(&file).unwrap();
        notes.push(note());
        for pair in notes.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        assert_eq!(note(), note());
    }
}
