//! Tells a ledger that does not exist yet from one that is gone: a disk that is not mounted,
//! or a file that somebody removed, must not look like a rekeyd that knows no key yet.

use std::path::{Path, PathBuf};

use crate::ledger::checkpoint_note::note_of_longer_file;
use crate::ledger::error::LedgerError;
use crate::ledger::paths::{lock_path, missing_directory_error, parent_directory, sibling_path};

/// The folder that systemd creates when the service starts, with a folder in it for each
/// instance (`StateDirectory=` in the units).
const STATE_DIRECTORY: &str = "/var/lib/rekeyd";

/// The folder that exists on a host that systemd runs (`sd_booted(3)`).
const SYSTEMD_RUNTIME_DIRECTORY: &str = "/run/systemd/system";

/// Returns the error of a ledger at `path` that is not there: [`LedgerError::NotFound`] if
/// the first start has yet to make it, [`LedgerError::FolderMissing`], or
/// [`LedgerError::Gone`] if a file beside it shows that there was one.
pub(super) fn absence_error(path: &Path) -> LedgerError {
    let target = resolve_link(path);
    let folder = parent_directory(&target);
    if !folder.exists() && !is_created_by_systemd(folder) {
        return missing_directory_error(&target);
    }
    match find_trace(path, &target) {
        Some(trace) => LedgerError::Gone {
            path: path.to_owned(),
            trace,
        },
        None => LedgerError::NotFound {
            path: path.to_owned(),
        },
    }
}

/// Returns the error of a file at `path` that has no table: [`LedgerError::NotFound`] if the
/// first start has yet to fill it, or [`LedgerError::Emptied`].
pub(super) fn emptiness_error(path: &Path) -> LedgerError {
    let path = path.to_owned();
    match note_of_longer_file(&path) {
        Some(note) => LedgerError::Emptied { path, note },
        None => LedgerError::NotFound { path },
    }
}

/// Returns a file that only a rekeyd with a ledger makes. It keeps its lock beside the path
/// of the configuration, and the rest beside the ledger itself. A start makes the lock file
/// before the ledger, and names itself there after it: an empty one is of a start that
/// failed in between.
fn find_trace(path: &Path, target: &Path) -> Option<PathBuf> {
    let beside = [".checkpoint", "-wal", "-shm"].map(|ending| sibling_path(target, ending));
    let lock = lock_path(path);
    let names_writer = lock.metadata().is_ok_and(|found| found.len() > 0);
    let mut traces = beside.into_iter().filter(|trace| trace.exists());
    traces.next().or_else(|| names_writer.then_some(lock))
}

/// Returns the target of a link at `path`, or `path` itself.
pub(super) fn resolve_link(path: &Path) -> PathBuf {
    match path.read_link() {
        Ok(target) => parent_directory(path).join(target),
        Err(_) => path.to_owned(),
    }
}

/// Returns whether systemd makes this missing folder when the service starts.
pub(super) fn is_created_by_systemd(folder: &Path) -> bool {
    // A dangling link would be in its way.
    let is_free = folder.symlink_metadata().is_err();
    let state = Path::new(STATE_DIRECTORY);
    let is_state = folder == state || folder.parent() == Some(state);
    is_free && is_state && Path::new(SYSTEMD_RUNTIME_DIRECTORY).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::checkpoint_note::CheckpointNote;
    use crate::ledger::lock::WriterLock;

    #[test]
    fn a_ledger_that_is_gone_is_told_from_one_that_is_new() {
        for (made, link, expected) in [
            (&["folder/other"][..], None, "new"),
            (&["folder/ledger.db.0.1.0"], None, "new"),
            (&["folder/ledger.db.lock"], None, "gone"),
            (&["folder/ledger.db.checkpoint"], None, "gone"),
            (&["folder/ledger.db-wal"], None, "gone"),
            (&["folder/ledger.db-shm"], None, "gone"),
            (&[], None, "folder"),
            // A link to a disk that is not mounted, and to an empty one.
            (&["folder/other"], Some("../disk/ledger.db"), "folder"),
            (
                &["folder/other", "disk/other"],
                Some("../disk/ledger.db"),
                "new",
            ),
            (
                &["folder/other", "disk/ledger.db-wal"],
                Some("../disk/ledger.db"),
                "gone",
            ),
            (
                &["folder/ledger.db.lock", "disk/other"],
                Some("../disk/ledger.db"),
                "gone",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for name in made {
                let file = dir.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "rekeyd run (process 7)\n").unwrap();
            }
            let ledger = dir.path().join("folder/ledger.db");
            if let Some(target) = link {
                std::os::unix::fs::symlink(target, &ledger).unwrap();
            }
            let error = absence_error(&ledger);
            let found = if matches!(error, LedgerError::NotFound { .. }) {
                "new"
            } else if matches!(error, LedgerError::Gone { .. }) {
                "gone"
            } else {
                assert!(error.is_loss(), "{error}");
                "folder"
            };
            assert_eq!(found, expected, "{made:?} {link:?}");
        }
    }

    /// A start that cannot make the ledger has made no credential either.
    #[test]
    fn first_start_that_made_no_ledger_lost_none() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let disk = dir.path().join("disk");
        std::os::unix::fs::symlink("disk/ledger.db", &ledger).unwrap();
        let is_new = || matches!(absence_error(&ledger), LedgerError::NotFound { .. });
        // Its disk is not mounted.
        WriterLock::acquire(&ledger, "rekeyd run").unwrap_err();
        assert!(lock_path(&ledger).exists());
        std::fs::create_dir(&disk).unwrap();
        assert!(is_new());
        // A start that makes it is another matter, however it ends.
        drop(WriterLock::acquire(&ledger, "rekeyd run").unwrap());
        std::fs::remove_file(disk.join("ledger.db")).unwrap();
        assert!(!is_new());
        // So is one that fails after it.
        std::fs::remove_dir(&disk).unwrap();
        WriterLock::acquire(&ledger, "rekeyd run").unwrap_err();
        std::fs::create_dir(&disk).unwrap();
        assert!(!is_new());
    }

    /// A first start that fails leaves a file without a table, which it has noted perhaps.
    #[test]
    fn empty_ledger_is_lost_if_it_was_longer() {
        for (noted, found, is_lost) in [
            (None, 0, false),
            (Some(0), 0, false),
            (Some(4_096), 4_096, false),
            (Some(0), 4_096, false),
            (Some(147_456), 0, true),
            (Some(147_456), 4_096, true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ledger.db");
            let file = std::fs::File::create(&path).unwrap();
            if let Some(noted) = noted {
                file.set_len(noted).unwrap();
                let mut note = CheckpointNote::open(&path, false).unwrap();
                note.finish().unwrap();
            }
            file.set_len(found).unwrap();
            let error = emptiness_error(&path);
            assert_eq!(error.is_loss(), is_lost, "{noted:?} {found}: {error}");
        }
    }
}
