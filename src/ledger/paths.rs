//! The paths of the ledger and of the files beside it.

use std::path::{Path, PathBuf};

use url::Url;

use crate::ledger::error::LedgerError;

/// Returns the path of the file beside the ledger with its name and `ending`.
pub(super) fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Returns the files of the ledger at `path` that SQLite opens: the ledger, its write-ahead
/// log and the index of that. SQLite follows a link to the ledger, and keeps the other
/// files beside its target.
pub(super) fn files_of_sqlite(path: &Path) -> [PathBuf; 3] {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (log, index) = (sibling_path(&target, "-wal"), sibling_path(&target, "-shm"));
    [target, log, index]
}

/// Returns the path of the lock file of the ledger at `ledger`.
pub(super) fn lock_path(ledger: &Path) -> PathBuf {
    sibling_path(ledger, ".lock")
}

/// Returns the folder of the file at `path`.
pub(super) fn parent_directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Returns the error for a ledger at `path` whose folder is missing.
pub(super) fn missing_directory_error(path: &Path) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        reason: format!(
            "the folder {} does not exist; make it",
            parent_directory(path).display()
        ),
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
