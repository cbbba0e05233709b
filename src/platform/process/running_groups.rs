//! The process groups of the programs that run, for an end of rekeyd that drops nothing:
//! a program that outlives it could put an older secret back.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// How long the end waits for a program that is being started, whose file system may hang.
const START_GRACE: Duration = Duration::from_secs(1);

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

fn kill(id: Pid) {
    // An error means that the group has no process.
    let _ = kill_process_group(id, Signal::KILL);
}

fn lock() -> MutexGuard<'static, RunningGroups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
