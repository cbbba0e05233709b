//! Protection of the process before it holds any secret.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::clear_ambient_capability_set;

/// Disables core dumps, keeps other processes of the same user from reading
/// this one's memory, and withholds the capabilities that a drop-in grants
/// rekeyd (to change the owner of files) from the programs that it starts. Keeps
/// the umask from taking rights from the owner of a new file, who would lock
/// itself out. MUST be called while there is a single thread: each thread has capabilities of
/// its own and passes them to its children.
///
/// # Errors
/// The system refused. The process must not read any secret then.
pub fn harden() -> std::io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // The mask can be read only by setting it.
    let mask = umask(Mode::RWXG | Mode::RWXO);
    umask(mask - Mode::RWXU);
    match clear_ambient_capability_set() {
        // A kernel without ambient capabilities.
        Err(Errno::INVAL) => Ok(()),
        cleared => Ok(cleared?),
    }
}
