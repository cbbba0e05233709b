//! `rekeyd run` as a child process, and its log.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::host::report_missing;
use super::{ChildGuard, TestEnv, assert_no_error_number};

/// How long a test waits for a line of the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// A running daemon, which is killed with its test.
pub struct Daemon {
    process: ChildGuard,
    log_lines: Receiver<String>,
    /// The thread that reads the log, even while no test waits: a full pipe would block
    /// the daemon. It returns the whole log.
    reader: Option<JoinHandle<String>>,
}

impl Daemon {
    pub fn start(world: &TestEnv) -> Self {
        Self::start_with(world, &[])
    }

    /// Starts the daemon with `arguments` before the command.
    pub fn start_with(world: &TestEnv, arguments: &[&str]) -> Self {
        Self::spawn(world, &[arguments, &["run"]].concat())
    }

    /// Starts the daemon on a host that did not write its ledger.
    pub fn start_with_take_over(world: &TestEnv) -> Self {
        Self::spawn(world, &["run", "--take-over"])
    }

    fn spawn(world: &TestEnv, arguments: &[&str]) -> Self {
        Self::from_command(world.command(arguments))
    }

    /// Starts the daemon with this command.
    pub fn from_command(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut whole = String::new();
            for line in log.lines() {
                let line = line.unwrap();
                assert_no_error_number(&line);
                whole.push_str(&line);
                whole.push('\n');
                // The test may not be waiting any more.
                let _ = sender.send(line);
            }
            whole
        });
        Self {
            process: ChildGuard(child),
            log_lines: lines,
            reader: Some(reader),
        }
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Reads the log up to a line with `expected`, and returns that line.
    pub fn wait_for(&mut self, expected: &str) -> String {
        let mut log = String::new();
        while let Ok(line) = self.log_lines.recv_timeout(LOG_TIMEOUT) {
            if line.contains(expected) {
                return line;
            }
            log = format!("{log}{line}\n");
        }
        panic!("no {expected:?} in the log:\n{log}");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.0.wait().unwrap()
    }

    /// Stops the daemon gracefully, and returns its whole log.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert!(self.wait().success());
        self.reader.take().unwrap().join().unwrap()
    }
}

/// Returns a command that runs what is added to it as process 1 of a namespace; none if this
/// host lets its tests make no namespace.
pub fn as_process_1() -> Option<Command> {
    // The process ends with the test.
    let namespace = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let of_user: &[&str] = match rustix::process::geteuid().is_root() {
        true => &[],
        false => &["--user", "--map-current-user"],
    };
    let command = || {
        let mut command = Command::new("unshare");
        command.args(namespace).args(of_user);
        command
    };
    let probe = command().arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        report_missing("namespaces of processes (unshare)");
        return None;
    }
    Some(command())
}
