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
static BUSY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The attempt as the writing thread sees it.
pub(super) struct Attempt {
    path: PathBuf,
    state: Arc<AtomicU8>,
}

/// The attempt as its caller sees it: dropped, it is abandoned.
pub(super) struct Caller(Arc<AtomicU8>);

impl Attempt {
    /// Begins one, or none while an earlier one at this path is still out.
    pub(super) fn begin(path: &Path) -> Option<(Self, Caller)> {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(path.to_owned()) {
            return None;
        }
        let state = Arc::new(AtomicU8::new(RUNNING));
        let attempt = Self {
            path: path.to_owned(),
            state: Arc::clone(&state),
        };
        Some((attempt, Caller(state)))
    }

    /// Whether the last step may be done: not if the caller has given up.
    pub(super) fn may_finish(&self) -> bool {
        self.state
            .compare_exchange(RUNNING, FINISHING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.path);
    }
}

impl Drop for Caller {
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
    fn one_attempt_at_a_path_at_a_time() {
        let path = Path::new("/nowhere/one-at-a-time");
        let (attempt, caller) = Attempt::begin(path).unwrap();
        drop(caller);
        assert!(Attempt::begin(path).is_none(), "the writer is still out");
        drop(attempt);
        assert!(Attempt::begin(path).is_some());
    }

    #[test]
    fn an_abandoned_attempt_does_not_finish() {
        let (attempt, caller) = Attempt::begin(Path::new("/nowhere/abandoned")).unwrap();
        drop(caller);
        assert!(!attempt.may_finish());
        let (attempt, caller) = Attempt::begin(Path::new("/nowhere/in-time")).unwrap();
        assert!(attempt.may_finish());
        drop(caller);
    }
}
