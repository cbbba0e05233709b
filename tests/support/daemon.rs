//! `rekeyd run` as a child, and its log.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{ChildGuard, TestEnv};

/// How long any line of the log is waited for.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// The daemon; it does not outlive its test.
pub struct Daemon {
    process: ChildGuard,
    log_lines: Receiver<String>,
    /// Reads on whether or not anybody waits: a full pipe would stop the
    /// daemon. Gives the whole log in the end.
    reader: Option<JoinHandle<String>>,
}

impl Daemon {
    pub fn start(world: &TestEnv) -> Self {
        Self::start_with(world, &[])
    }

    /// With `arguments` before the command.
    pub fn start_with(world: &TestEnv, arguments: &[&str]) -> Self {
        Self::spawn(world, &[arguments, &["run"]].concat())
    }

    /// On a machine that did not write its ledger.
    pub fn start_with_take_over(world: &TestEnv) -> Self {
        Self::spawn(world, &["run", "--take-over"])
    }

    fn spawn(world: &TestEnv, arguments: &[&str]) -> Self {
        let mut child = world
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut whole = String::new();
            for line in log.lines() {
                let line = line.unwrap();
                whole.push_str(&line);
                whole.push('\n');
                // Nobody may be waiting any more.
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

    /// Reads the log up to a line with `wanted`.
    pub fn wait_for(&mut self, expected: &str) {
        let mut seen = String::new();
        while let Ok(line) = self.log_lines.recv_timeout(LOG_TIMEOUT) {
            if line.contains(expected) {
                return;
            }
            seen = format!("{seen}{line}\n");
        }
        panic!("no {expected:?} in the log:\n{seen}");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.0.wait().unwrap()
    }

    /// Ends it in order, and gives its whole log.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert!(self.wait().success());
        self.reader.take().unwrap().join().unwrap()
    }
}
