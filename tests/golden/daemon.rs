//! A running `rekeyd run`, observed from outside: the text of a log line may change.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::http::Response;
use crate::support::ChildGuard;

/// The log lines of all commands of a scenario.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A running command, which is killed with its test.
pub(crate) struct Daemon {
    process: ChildGuard,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts `command`, whose standard error goes to `log`.
    pub(crate) fn start(mut command: Command, log: &Log) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::clone(log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
        Self {
            process: ChildGuard(child),
            reader: Some(reader),
        }
    }

    /// Returns whether this process sent an answer about the daemon.
    pub(crate) fn sent(&self, answer: &Response) -> bool {
        answer.value()["process"] == self.child().id()
    }

    const fn child(&self) -> &Child {
        &self.process.0
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child().id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Returns whether the process has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the process and of its log.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let status = self.process.0.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        status
    }

    /// Stops the process gracefully.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}
