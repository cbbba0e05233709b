//! Signals: the first SIGTERM or SIGINT stops the process in order, the second
//! ends it at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop in a safe state.
    Stop,
    /// Reload the configuration.
    Reload,
}

/// The exit code of a process that a second signal ends.
const SECOND_SIGNAL_EXIT_CODE: i32 = 1;

/// Installs the handlers and returns what the signals request.
///
/// # Errors
/// The system refused a handler or a thread.
pub fn listen() -> std::io::Result<mpsc::UnboundedReceiver<SignalAction>> {
    let stopping = Arc::new(AtomicBool::new(false));
    // Before the flags: a signal that found only these would be swallowed, since
    // a handler keeps it from ending the process.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag down, then raises it.
        flag::register_conditional_shutdown(
            signal,
            SECOND_SIGNAL_EXIT_CODE,
            Arc::clone(&stopping),
        )?;
        flag::register(signal, Arc::clone(&stopping))?;
    }
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let asked = if signal == SIGHUP {
                    SignalAction::Reload
                } else {
                    SignalAction::Stop
                };
                if tell.send(asked).is_err() {
                    break;
                }
            }
        })?;
    Ok(told)
}
