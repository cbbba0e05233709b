//! Signals that arrive before anything listens for them, and the signal settings that a
//! parent left: a `systemctl reload` right after the start must not end the daemon, and a
//! blocked SIGTERM must not keep it from stopping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGPIPE};
use signal_hook::{flag, low_level};

/// Whether a SIGHUP came since [`prepare`], or since [`take_hangup`] was called last.
static HANGUP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Whether a SIGHUP ends the process, as it does by default.
static ENDS_PROCESS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Records each SIGHUP instead of ending the process, unblocks every signal, and no longer
/// ignores SIGCHLD, without which no program's exit code can be read. A write past the limit
/// of file sizes fails and does not end the process. MUST be called while there is a single
/// thread.
pub fn prepare() {
    // The system refuses handlers only for signals that do not exist.
    let _ = flag::register_conditional_default(SIGHUP, Arc::clone(&ENDS_PROCESS));
    let _ = flag::register(SIGHUP, Arc::clone(&HANGUP));
    let _ = flag::register(SIGCHLD, Arc::default());
    // A handler, since programs would inherit that it is ignored.
    let _ = flag::register(Signal::SIGXFSZ as i32, Arc::default());
    let _ = SigSet::empty().thread_set_mask();
}

/// Handles SIGPIPE, which the standard library ignores: a program that this process executes
/// would inherit that, but no handler.
pub fn handle_broken_pipe() {
    let _ = flag::register(SIGPIPE, Arc::default());
}

/// Lets SIGHUP end the process, now if one has come: the terminal of a command is gone.
pub fn end_on_hangup() {
    ENDS_PROCESS.store(true, Ordering::SeqCst);
    if take_hangup() {
        let _ = low_level::emulate_default_handler(SIGHUP);
    }
}

/// Returns whether a SIGHUP came before the caller's own handler, which replaces this
/// module's.
pub fn take_hangup() -> bool {
    HANGUP.swap(false, Ordering::SeqCst)
}

/// Keeps SIGHUP from ending the process, since something listens to it.
pub fn keep_on_hangup() {
    ENDS_PROCESS.store(false, Ordering::SeqCst);
}
