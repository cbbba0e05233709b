//! One attempt to replace a file, as seen from both threads that know of it.
//!
//! A write that hangs (a stuck network file system) cannot be called back.
//! Two things keep it from doing harm when it comes back late: it does not
//! rename once its caller has given up, and while it hangs no other attempt
//! touches the same temporary file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const RUNNING: u8 = 0;
const FINISHING: u8 = 1;
const ABANDONED: u8 = 2;

/// The files being replaced in this process. Not in the sink, because a
/// reload makes new sinks for the same files.
static BUSY_PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The attempt as the writing thread sees it.
pub(super) struct ReplaceAttempt {
    path: PathBuf,
    state: Arc<AtomicU8>,
}

/// The attempt as its caller sees it: dropped, it is abandoned.
pub(super) struct AttemptGuard(Arc<AtomicU8>);

impl ReplaceAttempt {
    /// Begins one, or none while an earlier one at this path is still out.
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

    /// Whether the last step may be done: not if the caller has given up.
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
        // One that is finishing is let finish; the caller counts it as maybe
        // done either way.
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
        let (attempt, caller) = ReplaceAttempt::start(path).unwrap();
        drop(caller);
        assert!(
            ReplaceAttempt::start(path).is_none(),
            "the writer is still out"
        );
        drop(attempt);
        assert!(ReplaceAttempt::start(path).is_some());
    }

    #[test]
    fn abandoned_attempt_does_not_finish() {
        let (attempt, caller) = ReplaceAttempt::start(Path::new("/nowhere/abandoned")).unwrap();
        drop(caller);
        assert!(!attempt.may_finish());
        let (attempt, caller) = ReplaceAttempt::start(Path::new("/nowhere/in-time")).unwrap();
        assert!(attempt.may_finish());
        drop(caller);
    }
}
