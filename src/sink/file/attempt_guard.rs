//! One attempt to replace a file, shared by the writing thread and its caller.
//!
//! A write that hangs on a network file system cannot be cancelled. Two rules
//! keep it from doing harm when it ends late: it does not rename after its
//! caller has given up, and no other attempt touches the same temporary file
//! while it runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const RUNNING: u8 = 0;
const FINISHING: u8 = 1;
const ABANDONED: u8 = 2;

/// The files that this process is replacing. A static, because a reload builds
/// new sinks for the same files.
static BUSY_PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The attempt as the writing thread sees it.
pub(super) struct ReplaceAttempt {
    path: PathBuf,
    state: Arc<AtomicU8>,
}

/// The attempt as its caller sees it: dropping it abandons the attempt.
pub(super) struct AttemptGuard(Arc<AtomicU8>);

impl ReplaceAttempt {
    /// Starts an attempt, or returns `None` while an earlier one at this path
    /// is running.
    pub(super) fn start(path: &Path) -> Option<(Self, AttemptGuard)> {
        let mut busy = BUSY_PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(path.to_owned()) {
            return None;
        }
        let state = Arc::new(AtomicU8::new(RUNNING));
        let attempt = Self {
            path: path.to_owned(),
            state: Arc::clone(&state),
        };
        Some((attempt, AttemptGuard(state)))
    }

    /// Whether the writer may rename: not after the caller has given up.
    pub(super) fn may_finish(&self) -> bool {
        self.state
            .compare_exchange(RUNNING, FINISHING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl Drop for ReplaceAttempt {
    fn drop(&mut self) {
        let mut busy = BUSY_PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.path);
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        // A rename that has started runs to its end; the caller reports the
        // delivery as uncertain either way.
        let _ = self
            .0
            .compare_exchange(RUNNING, ABANDONED, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_attempt_at_a_busy_path_is_refused() {
        let path = Path::new("/nowhere/one-at-a-time");
        let (attempt, guard) = ReplaceAttempt::start(path).unwrap();
        drop(guard);
        assert!(
            ReplaceAttempt::start(path).is_none(),
            "the writer is still out"
        );
        drop(attempt);
        assert!(ReplaceAttempt::start(path).is_some());
    }

    #[test]
    fn abandoned_attempt_does_not_finish() {
        let (attempt, guard) = ReplaceAttempt::start(Path::new("/nowhere/abandoned")).unwrap();
        drop(guard);
        assert!(!attempt.may_finish());
        let (attempt, guard) = ReplaceAttempt::start(Path::new("/nowhere/in-time")).unwrap();
        assert!(attempt.may_finish());
        drop(guard);
    }
}
