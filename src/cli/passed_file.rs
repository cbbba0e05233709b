//! The file of root's that a command works with while it runs as the service, which may not
//! reach that file.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::ledger::log_path;
use crate::platform::path_walk::{PathTrust, WalkedPath, walk_to_file};

/// The variable that announces the file on standard input.
pub(super) const FILE_VARIABLE: &str = "REKEYD_FILE_ON_STDIN";

/// Returns the file that root has passed to this process.
pub(super) fn passed_file() -> Option<File> {
    std::env::var_os(FILE_VARIABLE)?;
    let file = std::io::stdin().as_fd().try_clone_to_owned();
    file.ok().map(File::from)
}

/// Whether root alone can exchange what is at `path`.
pub(super) fn is_roots_path(path: &Path) -> bool {
    walk_as_root(path).is_some()
}

/// Opens a database for reading that root alone can exchange; none if others can, if it has a
/// log beside it, or if it cannot be opened: the service's own attempt reports why.
pub(super) fn open_roots_database(path: &Path) -> Option<File> {
    let walked = walk_as_root(path)?;
    if std::fs::metadata(log_path(&walked.path)).is_ok_and(|found| found.len() > 0) {
        return None;
    }
    let file = File::from(walked.open(OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
    let is_regular = file.metadata().is_ok_and(|found| found.is_file());
    is_regular.then_some(file)
}

fn walk_as_root(path: &Path) -> Option<WalkedPath> {
    let walked = walk_to_file(path, &PathTrust::default()).ok()?;
    walked.weaknesses.is_empty().then_some(walked)
}
