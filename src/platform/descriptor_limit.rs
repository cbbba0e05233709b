//! The limit of open files: raised for this process, and not for the programs that it starts.
//!
//! A program may close every descriptor that it could have, or look at them with `select`,
//! and so gets the limit that this process started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of descriptors that this process wants: a few times what all its connections,
/// receivers and programs need together.
const WANTED: u64 = 4096;

/// The limit before it was raised.
static AT_START: OnceLock<u64> = OnceLock::new();

/// Raises the limit of this process, as far as the system lets it.
pub fn raise() {
    let at_start = getrlimit(Resource::Nofile);
    let wanted = at_start.maximum.map_or(WANTED, |most| most.min(WANTED));
    let Some(current) = at_start.current.filter(|current| *current < wanted) else {
        return;
    };
    match set(wanted) {
        Ok(()) => {
            // A process raises it once.
            let _ = AT_START.set(current);
        }
        Err(error) => tracing::debug!(%error, "cannot raise the limit of open files"),
    }
}

/// Returns the number of descriptors that this process may have.
#[must_use]
pub fn present() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(WANTED);
    usize::try_from(most.min(WANTED)).unwrap_or(usize::MAX)
}

/// Returns the limit that this process started with, if it has another one now.
pub(super) fn at_start() -> Option<u64> {
    AT_START.get().copied()
}

/// Gives this process the limit that the one before it started with.
pub(super) fn restore(limit: u64) {
    // A limit can always be lowered, but a filter of system calls may refuse it.
    let _ = set(limit);
}

fn set(current: u64) -> rustix::io::Result<()> {
    let limits = Rlimit {
        current: Some(current),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limits)
}
