//! The paths of the ledger and of the files beside it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use url::Url;

use crate::core::path::{LEDGER_FILE_ENDINGS, is_sync_unsupported};
use crate::ledger::error::LedgerError;

/// Returns the path of the file beside the ledger with its name and `ending`.
pub(super) fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Returns the files of the ledger at `path` that SQLite opens: the ledger, its write-ahead
/// log, and the index of the log. SQLite follows a link to the ledger, and keeps the other
/// files beside its target.
pub(super) fn files_of_sqlite(path: &Path) -> [PathBuf; 3] {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (log, index) = (log_path(&target), sibling_path(&target, "-shm"));
    [target, log, index]
}

/// Returns the files that have to be regular ones before SQLite opens the ledger at `path`: it
/// looks into a rollback journal, too, and would wait for a writer of a pipe there.
pub(super) fn files_to_check(path: &Path) -> impl Iterator<Item = PathBuf> {
    let files = files_of_sqlite(path);
    let journal = sibling_path(&files[0], "-journal");
    files.into_iter().chain([journal])
}

/// Returns the path of the lock file of the ledger at `ledger`.
#[must_use]
pub fn lock_path(ledger: &Path) -> PathBuf {
    sibling_path(ledger, ".lock")
}

/// Returns the path of the log that SQLite writes beside the database at `database`, which is no
/// link.
#[must_use]
pub fn log_path(database: &Path) -> PathBuf {
    sibling_path(database, "-wal")
}

/// Returns the files of the ledger at `ledger` that rekeyd or SQLite locks.
#[must_use]
pub fn lockable_files(ledger: &Path) -> Vec<PathBuf> {
    let [file, log, index] = files_of_sqlite(ledger);
    vec![file, log, index, lock_path(ledger)]
}

/// Returns whether a file at `path`, which need not exist, is taken for one of those
/// beside the ledger at `ledger`.
pub(super) fn is_beside(ledger: &Path, path: &Path) -> bool {
    let identity = |path: &Path| {
        let folder = parent_directory(path).metadata().ok()?;
        Some((folder.dev(), folder.ino(), path.file_name()?.to_owned()))
    };
    let found = identity(path);
    let [target, ..] = files_of_sqlite(ledger);
    let mut siblings = LEDGER_FILE_ENDINGS
        .iter()
        .flat_map(|ending| [sibling_path(ledger, ending), sibling_path(&target, ending)]);
    found.is_some() && siblings.any(|sibling| identity(&sibling) == found)
}

/// Returns the folder of the file at `path`.
pub(super) fn parent_directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Writes the folder of the file at `path` to disk, as far as its file system can.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match File::open(parent_directory(path))?.sync_all() {
        Err(error) if is_sync_unsupported(&error) => Ok(()),
        synced => synced,
    }
}

/// Returns the error for a ledger at `path` whose folder is missing.
pub(super) fn missing_directory_error(path: &Path) -> LedgerError {
    LedgerError::FolderMissing {
        path: path.to_owned(),
        folder: parent_directory(path).to_owned(),
    }
}

/// Returns the `file:` URL with which SQLite opens the ledger at `path` with `option`.
pub(super) fn sqlite_url(path: &Path, option: &str) -> Result<String, LedgerError> {
    let mut name = Url::from_file_path(path).map_err(|()| LedgerError::Open {
        path: path.to_owned(),
        reason: "its path is not absolute".to_owned(),
    })?;
    name.set_query(Some(option));
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_sqlite_would_take_for_its_own_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        std::fs::write(at("real/ledger.db"), "").unwrap();
        std::os::unix::fs::symlink("real/ledger.db", at("linked.db")).unwrap();
        std::os::unix::fs::symlink("real", at("folder")).unwrap();
        for (ledger, path, expected) in [
            ("real/ledger.db", "real/ledger.db-wal", true),
            ("real/ledger.db", "folder/ledger.db-journal", true),
            ("real/ledger.db", "other/../real/ledger.db-shm", true),
            ("real/ledger.db", "real/ledger.db.lock", true),
            ("linked.db", "real/ledger.db.checkpoint", true),
            ("linked.db", "linked.db.lock", true),
            ("real/ledger.db", "real/ledger.db.bak", false),
            ("real/ledger.db", "real/ledger.db-wal.bak", false),
            ("real/ledger.db", "real/ledger-wal", false),
            ("real/ledger.db", "other/ledger.db-wal", false),
            ("real/ledger.db", "nowhere/ledger.db-wal", false),
        ] {
            assert_eq!(
                is_beside(&at(ledger), &at(path)),
                expected,
                "{ledger} {path}"
            );
        }
    }
}
