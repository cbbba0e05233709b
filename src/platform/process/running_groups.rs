//! The process groups of the programs that run, for an end of rekeyd that drops nothing:
//! a program that outlives it could put an older secret back.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long the end waits for a program that is being started, whose file system may hang.
const START_GRACE: Duration = Duration::from_secs(1);

/// The pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The groups of this process.
#[derive(Debug)]
struct RunningGroups {
    ids: Vec<Pid>,
    /// The number of programs that are being started, which have no id yet.
    starting: usize,
    /// Whether the process ends.
    is_ending: bool,
}

static GROUPS: Mutex<RunningGroups> = Mutex::new(RunningGroups {
    ids: Vec::new(),
    starting: 0,
    is_ending: false,
});

/// Wakes [`kill_all`] when a start has ended.
static STARTED: Condvar = Condvar::new();

/// Starts a program and records its group. `spawn` returns what it started and the group.
///
/// # Errors
/// Those of `spawn`, and one if the process ends.
pub(super) fn start<T>(spawn: impl FnOnce() -> io::Result<(T, Option<Pid>)>) -> io::Result<T> {
    {
        let mut groups = lock();
        if groups.is_ending {
            return Err(io::Error::other("rekeyd is exiting"));
        }
        groups.starting += 1;
    }
    let started = spawn();
    let mut groups = lock();
    groups.starting -= 1;
    if let Ok((_, Some(id))) = &started {
        groups.ids.push(*id);
        if groups.is_ending {
            kill(*id);
        }
    }
    STARTED.notify_all();
    Ok(started?.0)
}

/// Kills a group. Sends the signal at most once, since the id may be reused.
pub(super) fn end(id: Pid) {
    let mut groups = lock();
    if let Some(place) = groups.ids.iter().position(|known| *known == id) {
        groups.ids.swap_remove(place);
        kill(id);
    }
}

/// Kills every group and lets no other start, since the process ends at once.
pub fn kill_all() {
    let mut groups = lock();
    groups.is_ending = true;
    groups.ids.iter().copied().for_each(kill);
    // One that is being started is killed by its start.
    let waiting = STARTED.wait_timeout_while(groups, START_GRACE, |groups| groups.starting > 0);
    drop(waiting);
}

/// Kills every group as [`kill_all`] does, without waiting for a lock: this thread may hold
/// it. Gives up after [`START_GRACE`].
pub fn kill_all_without_lock() {
    let end = Instant::now() + START_GRACE;
    while !try_kill_all() && Instant::now() < end {
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Kills every group if the lock is free. Returns whether none is being started.
fn try_kill_all() -> bool {
    let mut groups = match GROUPS.try_lock() {
        Ok(groups) => groups,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return false,
    };
    groups.is_ending = true;
    groups.ids.drain(..).for_each(kill);
    groups.starting == 0
}

fn kill(id: Pid) {
    // An error means that the group has no process.
    let _ = kill_process_group(id, Signal::KILL);
}

fn lock() -> MutexGuard<'static, RunningGroups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
