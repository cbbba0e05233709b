//! Runs a program of this host: without a shell, in a bare environment, in a
//! process group of its own, and within a timeout.
//!
//! Processes that the program leaves running in its group are killed when it
//! ends: they could replace a newer secret with an older one later.

mod capture;
mod process_group;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fs::{self, Access, AtFlags, CWD};
use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::capture::CapturedOutput;
use self::capture::OutputCapture;
pub use self::process_group::{LANG, PATH};
use self::process_group::{OUTPUT_DRAIN_TIMEOUT, ProcessGroup};
use crate::core::command::CommandLine;
use crate::core::duration;
use crate::platform::run_blocking;

/// A program to run once.
pub struct Invocation<'r> {
    /// The program and its arguments.
    pub command: &'r CommandLine,
    /// Its environment, beside `PATH` and `LANG`.
    pub environment: &'r [(&'static str, String)],
    /// Its standard input.
    pub stdin: Zeroizing<Vec<u8>>,
    /// It is killed after this time.
    pub timeout: Duration,
}

/// How it ended.
#[derive(Debug)]
pub struct ProcessExit {
    /// Why it ended.
    pub kind: ExitKind,
    /// Its standard output.
    pub stdout: CapturedOutput,
    /// Its standard error.
    pub stderr: CapturedOutput,
}

/// Why a program ended.
#[derive(Debug)]
pub enum ExitKind {
    /// It was never started, and has read nothing of its input. Why.
    NotStarted(String),
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was killed after its timeout.
    TimedOut,
    /// The system failed meanwhile, and it was killed. Why.
    Failed(String),
}

impl ProcessExit {
    /// Describes how `program` ended, with the last that it wrote. `timeout` is
    /// the time that it had.
    #[must_use]
    pub fn describe(&self, program: &str, timeout: Duration) -> String {
        let output = self.error_suffix();
        match &self.kind {
            ExitKind::NotStarted(why) => why.clone(),
            ExitKind::Code(code) => format!("{program} ended with exit code {code}{output}"),
            ExitKind::Signal(signal) => format!("{program} was ended by signal {signal}{output}"),
            ExitKind::TimedOut => format!(
                "{program} did not end within {} and was killed{output}",
                duration::to_text(timeout)
            ),
            ExitKind::Failed(why) => {
                format!("{program} was started, and then the system failed: {why}")
            }
        }
    }

    /// The last line of its output, which mostly says what failed, as the end of
    /// a sentence.
    #[must_use]
    pub fn error_suffix(&self) -> String {
        let last = self.stderr.lines.last().or(self.stdout.lines.last());
        last.map_or_else(String::new, |line| format!(": {line}"))
    }
}

/// Why a program cannot be run, as far as that shows without running it.
#[must_use]
pub fn check_executable(program: &Path) -> Option<String> {
    let shown = program.display();
    let found = match std::fs::metadata(program) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!(
                "{shown} does not exist; install it, or name another program"
            ));
        }
        Err(error) => return Some(format!("cannot look at {shown}: {error}")),
    };
    if !found.is_file() {
        return Some(format!(
            "{shown} is not a regular file; name a program there"
        ));
    }
    let executable = fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS);
    executable.err().map(|error| {
        let error = io::Error::from(error);
        format!("{shown} cannot be executed: {error}; run: chmod a+x {shown}")
    })
}

/// Runs a program. When the future is dropped, its group is killed.
pub async fn run(run: Invocation<'_>) -> ProcessExit {
    let deadline = Instant::now() + run.timeout;
    let mut group = match spawn(&run).await {
        Ok(group) => group,
        Err(why) => {
            return ProcessExit {
                kind: ExitKind::NotStarted(why),
                stdout: CapturedOutput::default(),
                stderr: CapturedOutput::default(),
            };
        }
    };
    let (stdin, stdout, stderr) = group.take_pipes();
    let (mut out, mut err) = (OutputCapture::new(), OutputCapture::new());
    let how = {
        // Both outputs are read all the time: a full pipe would block the program.
        let reading = async { tokio::join!(out.read(stdout), err.read(stderr)) };
        let mut reading = pin!(reading);
        let mut is_read = false;
        let ended = {
            let work = async {
                write_stdin(stdin, &run.stdin).await?;
                group.wait().await
            };
            let mut work = pin!(timeout_at(deadline, work));
            loop {
                tokio::select! {
                    biased;
                    ended = &mut work => break ended,
                    _ = &mut reading, if !is_read => is_read = true,
                }
            }
        };
        group.terminate().await;
        if !is_read {
            let _ = timeout(OUTPUT_DRAIN_TIMEOUT, reading).await;
        }
        match ended {
            Ok(Ok(status)) => exit_kind(status),
            Ok(Err(error)) => ExitKind::Failed(error.to_string()),
            Err(_) => ExitKind::TimedOut,
        }
    };
    // A program that was killed may have written half a secret.
    let is_whole = matches!(how, ExitKind::Code(_));
    ProcessExit {
        kind: how,
        stdout: out.to_captured_output(is_whole),
        stderr: err.to_captured_output(is_whole),
    }
}

/// Starts the program off the event loop's thread, since its file system may
/// hang. A program that starts after the timeout is killed at once.
async fn spawn(run: &Invocation<'_>) -> Result<ProcessGroup, String> {
    let line = run.command.clone();
    let variables = run.environment.to_vec();
    let program = &run.command.program;
    let describe = || format!("the start of {program}");
    let started = run_blocking(describe, run.timeout, move || {
        ProcessGroup::start(&line, variables)
    });
    match started.await {
        Ok(Ok(group)) => Ok(group),
        Ok(Err(error)) => Err(format!("cannot start {program}: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes the input and closes it. That a program does not read it is no error:
/// its exit code decides.
async fn write_stdin(stdin: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    match stdin.write_all(input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn exit_kind(status: ExitStatus) -> ExitKind {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitKind::Code(code),
        (None, Some(signal)) => ExitKind::Signal(signal),
        (None, None) => ExitKind::Failed(format!("it ended with {status}")),
    }
}
