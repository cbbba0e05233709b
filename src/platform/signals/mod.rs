//! Signals: the first SIGTERM or SIGINT stops the process in order, a second
//! one ends it at once.

pub mod early;
pub mod init_process;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Stop in a safe state.
    Stop,
    /// Reload the configuration.
    Reload,
}

/// The exit code of a process that a second signal ends.
const SECOND_SIGNAL_EXIT_CODE: i32 = 1;

/// Installs the handlers and returns the channel of requested actions, with a reload if one
/// was requested since the start of the process.
///
/// # Errors
/// If the system refuses a handler or a thread.
pub fn listen() -> std::io::Result<mpsc::UnboundedReceiver<SignalAction>> {
    let is_stopping = Arc::new(AtomicBool::new(false));
    // Before the flags: with these alone a signal would be lost, since a
    // handler keeps it from ending the process.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset, then sets it.
        flag::register_conditional_shutdown(
            signal,
            SECOND_SIGNAL_EXIT_CODE,
            Arc::clone(&is_stopping),
        )?;
        flag::register(signal, Arc::clone(&is_stopping))?;
    }
    early::keep_on_hangup();
    let (sender, receiver) = mpsc::unbounded_channel();
    if early::take_hangup() {
        let _ = sender.send(SignalAction::Reload);
    }
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let action = if signal == SIGHUP {
                    SignalAction::Reload
                } else {
                    SignalAction::Stop
                };
                if sender.send(action).is_err() {
                    break;
                }
            }
        })?;
    Ok(receiver)
}
