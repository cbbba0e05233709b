//! rekeyd as process 1 of a container.
//!
//! Process 1 inherits every process whose parent has ended and has to wait for it. Beside
//! the daemon's own children that is not possible: a wait for any child would take the exit
//! code of a sink's program. So process 1 runs rekeyd as its child, passes signals on, and
//! does nothing else.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use rustix::termios::tcsetpgrp;
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;

/// The signals that process 1 passes on.
const FORWARDED: [i32; 8] = [
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH,
];

/// The variables of a service manager that passes sockets: the process that they are meant
/// for, and their number. See sd_listen_fds(3).
const LISTEN_PROCESS: &str = "LISTEN_PID";
const LISTEN_COUNT: &str = "LISTEN_FDS";

/// What is added to the number of the signal that ended the child, as shells do.
const SIGNAL_EXIT_BASE: i32 = 128;

/// Runs this program again as a child if this is process 1, until the child ends, and
/// returns its exit code. None for any other process.
///
/// # Errors
/// The child cannot be started.
pub fn run_child_if_init(arguments: &[OsString]) -> io::Result<Option<ExitCode>> {
    if !getpid().is_init() {
        return Ok(None);
    }
    // Before the child starts, which may end at once.
    let mut signals = Signals::new(FORWARDED.iter().chain([&SIGCHLD]))?;
    let mut command = Command::new(std::env::current_exe()?);
    if let Some((name, arguments)) = arguments.split_first() {
        command.arg0(name).args(arguments);
    }
    pass_sockets_on(&mut command);
    // A group of its own, so that Ctrl-C reaches it once.
    let child = Pid::from_child(&command.process_group(0).spawn()?);
    // Refused where there is no terminal.
    let _ = tcsetpgrp(io::stdin(), child);
    for signal in signals.forever() {
        if signal != SIGCHLD {
            if let Some(signal) = Signal::from_named_raw(signal) {
                // It may have ended already.
                let _ = kill_process(child, signal);
            }
        } else if let Some(status) = reap(child)? {
            return Ok(Some(exit_code(status)));
        }
    }
    Ok(None)
}

/// Passes the sockets of process 1 on, which the child inherits under the same numbers. The
/// number of the child is not known before it starts; sockets that name no process are those
/// of the process that gets them.
fn pass_sockets_on(command: &mut Command) {
    let Some(process) = std::env::var_os(LISTEN_PROCESS) else {
        return;
    };
    command.env_remove(LISTEN_PROCESS);
    let own = getpid().as_raw_nonzero().to_string();
    if process != *own {
        command.env_remove(LISTEN_COUNT);
    }
}

/// Waits for every process that has ended. Returns the status of `child` if it is one.
fn reap(child: Pid) -> io::Result<Option<WaitStatus>> {
    let mut child_status = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((process, status))) if process == child => child_status = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(child_status),
            Err(error) => return Err(error.into()),
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let signal = || {
        status
            .terminating_signal()
            .map(|signal| signal + SIGNAL_EXIT_BASE)
    };
    let code = status.exit_status().or_else(signal);
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
