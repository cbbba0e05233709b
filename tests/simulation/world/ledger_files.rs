//! The ledger's files and their backup.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rusqlite::Connection;
use tempfile::TempDir;

use super::SimWorld;

/// The suffixes of SQLite's files.
const FILE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

impl SimWorld {
    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    fn backup_path(&self) -> PathBuf {
        self.dir.path().join("backup.db")
    }

    /// Writes an empty ledger if there is none. Calls `create` once in the test's process,
    /// since that takes longer than a rotation.
    pub(crate) fn install_empty_ledger(&self, create: impl FnOnce(&Path)) {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        if self.ledger_path().exists() {
            return;
        }
        let bytes = EMPTY.get_or_init(|| {
            create(&self.backup_path());
            let connection = Connection::open(self.backup_path()).unwrap();
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
            drop(connection);
            std::fs::read(self.backup_path()).unwrap()
        });
        std::fs::write(self.ledger_path(), bytes).unwrap();
    }

    pub(super) fn back_up_ledger(&self) {
        copy_database(&self.ledger_path(), &self.backup_path());
    }

    pub(super) fn remove_ledger(&self) {
        remove_database(&self.ledger_path());
    }

    /// Replaces the ledger by its backup.
    pub(super) fn restore_ledger(&self) {
        copy_database(&self.backup_path(), &self.ledger_path());
    }
}

/// Creates a temporary folder, in memory if possible: it need not survive a restart.
pub(super) fn memory_tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a database. A file that `from` lacks is removed from `to`.
fn copy_database(from: &Path, to: &Path) {
    remove_database(to);
    for suffix in FILE_SUFFIXES {
        let _ = std::fs::copy(with_suffix(from, suffix), with_suffix(to, suffix));
    }
}

fn remove_database(path: &Path) {
    for suffix in FILE_SUFFIXES {
        let _ = std::fs::remove_file(with_suffix(path, suffix));
    }
}
