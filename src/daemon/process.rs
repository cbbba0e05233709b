//! What the process does for itself before it holds any secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off and keeps other processes of the same user from
/// reading this one's memory.
///
/// # Errors
/// The system refused; nothing secret should be read then.
pub fn shut_in() -> std::io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
