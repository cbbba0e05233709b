//! The ledger's files and their backup.

use std::path::{Path, PathBuf};

use rekeyd::ledger::IdleWriter;

use super::SimWorld;
use super::ledger_folder::empty_ledger;

/// The suffixes of SQLite's files.
const FILE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

impl SimWorld {
    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.files.ledger_path()
    }

    fn backup_path(&self) -> PathBuf {
        self.files.path("backup.db")
    }

    /// Writes an empty ledger if there is none. Calls `create` once in the test's process,
    /// since that takes longer than a rotation.
    pub(crate) fn install_empty_ledger(&self, create: impl FnOnce(&Path)) {
        let path = self.ledger_path();
        if !path.exists() {
            let bytes = empty_ledger(&self.files.path("first.db"), create);
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) fn take_writer(&self) -> Option<IdleWriter> {
        self.files.take_writer()
    }

    pub(crate) fn keep_writer(&self, writer: IdleWriter) {
        self.files.keep_writer(writer);
    }

    pub(super) fn back_up_ledger(&self) {
        copy_database(&self.ledger_path(), &self.backup_path());
    }

    pub(super) fn remove_ledger(&self) {
        self.files.discard();
        remove_database(&self.ledger_path());
    }

    /// Replaces the ledger by its backup.
    pub(super) fn restore_ledger(&self) {
        self.files.discard();
        copy_database(&self.backup_path(), &self.ledger_path());
    }
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
