//! Signals: the first SIGTERM or SIGINT stops the process in order, a second
//! one ends it at once, and so does each other signal that ends a process, but for SIGUSR1 and
//! SIGUSR2. No program outlives it.

pub mod early;
pub mod init_process;

use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use tokio::sync::mpsc;

use crate::platform::log::queue;
use crate::platform::process::kill_running_groups;

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

/// The signals with which other daemons reopen logs or write statistics: a script that sends
/// them to rekeyd means no end.
const IGNORED_SIGNALS: [(i32, &str); 2] = [(SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2")];

/// The signals that end a process unless it handles them, besides those that cannot be
/// handled, and those of a fault of the process itself.
const ENDING_SIGNALS: [i32; 6] = [SIGQUIT, SIGABRT, SIGALRM, SIGPROF, SIGVTALRM, SIGXCPU];

/// Installs the handlers and returns the channel of requested actions, with a reload if one
/// was requested since the start of the process.
///
/// # Errors
/// If the system refuses a handler or a thread.
pub fn listen() -> std::io::Result<mpsc::UnboundedReceiver<SignalAction>> {
    let ignored = IGNORED_SIGNALS.iter().map(|(signal, _)| signal);
    let handled = ENDING_SIGNALS.iter().chain(&[SIGTERM, SIGINT, SIGHUP]);
    let mut signals = Signals::new(handled.chain(ignored))?;
    early::keep_on_hangup();
    let (sender, receiver) = mpsc::unbounded_channel();
    if early::take_hangup() {
        let _ = sender.send(SignalAction::Reload);
    }
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut is_stopping = false;
            for signal in signals.forever() {
                let mut ignored = IGNORED_SIGNALS.iter();
                if let Some((_, name)) = ignored.find(|(ignored, _)| *ignored == signal) {
                    tracing::info!(
                        "ignoring {name}, which rekeyd does not know; hint: SIGHUP reloads the \
                         configuration, SIGTERM stops rekeyd"
                    );
                    continue;
                }
                let action = match signal {
                    SIGHUP => SignalAction::Reload,
                    SIGTERM | SIGINT if !is_stopping => {
                        is_stopping = true;
                        SignalAction::Stop
                    }
                    _ => end_at_once(signal),
                };
                // The thread stays for a second signal.
                let _ = sender.send(action);
            }
        })?;
    Ok(receiver)
}

/// Ends the process by this signal, and first the programs that it runs.
fn end_at_once(signal: i32) -> ! {
    kill_running_groups();
    queue::flush();
    if ENDING_SIGNALS.contains(&signal) {
        let _ = low_level::emulate_default_handler(signal);
    }
    low_level::exit(SECOND_SIGNAL_EXIT_CODE)
}
