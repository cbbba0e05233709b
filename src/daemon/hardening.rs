//! What the process does for itself before it holds any secret.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::clear_ambient_capability_set;

/// Turns core dumps off, keeps other processes of the same user from reading
/// this one's memory, and keeps what a drop-in allows rekeyd (to give files
/// away) from the programs that it starts. Called before there is a second
/// thread: each has its own of the latter and begins with its maker's.
///
/// # Errors
/// The system refused; nothing secret should be read then.
pub fn harden() -> std::io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    match clear_ambient_capability_set() {
        // A kernel without them.
        Err(Errno::INVAL) => Ok(()),
        cleared => Ok(cleared?),
    }
}
