//! The limit of open files: raised for this process, and not for the programs that it starts.
//!
//! A program may close every descriptor that it could have, or look at them with `select`,
//! and so gets the limit that this process started with.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of descriptors that this process wants: a few times what all its connections,
/// receivers and programs need together.
const WANTED: u64 = 4096;

/// The limits of a process that raised its own.
struct RaisedLimit {
    at_start: Rlimit,
    raised: Rlimit,
    /// The number of programs that are being started.
    starting: usize,
}

/// None until the limit is raised.
static RAISED: Mutex<Option<RaisedLimit>> = Mutex::new(None);

/// The time in which a program is started, with the limit that this process started with.
/// What this process opens meanwhile has to fit into that limit, too.
pub(super) struct ProgramLimit(());

/// Raises the limit of this process, as far as the system lets it.
pub fn raise() {
    let at_start = getrlimit(Resource::Nofile);
    let wanted = at_start.maximum.map_or(WANTED, |most| most.min(WANTED));
    if at_start.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        ..at_start
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            *lock() = Some(RaisedLimit {
                at_start,
                raised,
                starting: 0,
            });
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

impl ProgramLimit {
    /// Sets the limit for a program.
    pub(super) fn set() -> Self {
        if let Some(limit) = lock().as_mut() {
            limit.starting += 1;
            let _ = setrlimit(Resource::Nofile, limit.at_start);
        }
        Self(())
    }
}

impl Drop for ProgramLimit {
    fn drop(&mut self) {
        if let Some(limit) = lock().as_mut() {
            limit.starting = limit.starting.saturating_sub(1);
            if limit.starting == 0 {
                let _ = setrlimit(Resource::Nofile, limit.raised);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Option<RaisedLimit>> {
    RAISED.lock().unwrap_or_else(PoisonError::into_inner)
}
