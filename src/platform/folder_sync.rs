//! Writing the entries of a folder to disk.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::core::os_error;
use crate::core::path::is_sync_unsupported;

/// The folders that were reported as not syncable.
static REPORTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Treats a sync of a folder as done if its file system has no such operation. Every other
/// error stays.
pub(crate) fn accept_unsupported(folder: &Path, synced: io::Result<()>) -> io::Result<()> {
    let Err(error) = synced else { return Ok(()) };
    if !is_sync_unsupported(&error) {
        return Err(error);
    }
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if reported.insert(folder.to_owned()) {
        tracing::debug!(
            folder = %folder.display(),
            "the file system cannot sync a folder: {}",
            os_error::describe(&error)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_a_missing_operation_counts_as_done() {
        let folder = Path::new("/etc/billing");
        for (errno, is_accepted) in [
            (Errno::INVAL, true),
            (Errno::NOTSUP, true),
            (Errno::OPNOTSUPP, true),
            (Errno::IO, false),
            (Errno::ACCESS, false),
            (Errno::NOSPC, false),
            (Errno::DQUOT, false),
            (Errno::ROFS, false),
            (Errno::BADF, false),
        ] {
            let synced = accept_unsupported(folder, Err(errno.into()));
            assert_eq!(synced.is_ok(), is_accepted, "{errno:?}");
        }
        accept_unsupported(folder, Ok(())).unwrap();
    }
}
