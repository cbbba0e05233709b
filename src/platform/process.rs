//! Runs a program of this host: without a shell, in a bare environment, in a
//! process group of its own, and within a timeout.
//!
//! Processes that the program leaves in its group are killed when it ends:
//! later they could replace a newer secret with an older one.

mod allowed_paths;
mod capture;
mod confinement;
mod elf;
mod env_line;
mod executable;
mod launcher;
mod process_group;
mod running_groups;
mod runtime;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::capture::CapturedOutput;
use self::capture::OutputCapture;
pub use self::confinement::{Unconfined, find_kernel_obstacle, find_obstacle, hide_from_programs};
pub use self::executable::check_executable;
use self::executable::exchangeable_part;
pub use self::launcher::{launch_through, launch_through_own_file, run_internal_command};
pub use self::process_group::{LANG, PATH};
use self::process_group::{OUTPUT_DRAIN_TIMEOUT, ProcessGroup};
pub use self::running_groups::{
    kill_all as kill_running_groups, kill_all_without_lock as kill_running_groups_without_lock,
};
pub use self::runtime::CompilingRuntime;
use crate::core::command::CommandLine;
use crate::core::duration;
use crate::core::os_error;
use crate::platform::own_files;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::run_blocking;

/// A program to run once.
pub struct Invocation<'r> {
    /// The program and its arguments.
    pub command: &'r CommandLine,
    /// Its environment besides `PATH` and `LANG`.
    pub environment: &'r [(&'static str, String)],
    /// Its standard input.
    pub stdin: Zeroizing<Vec<u8>>,
    /// The time after which it is killed.
    pub timeout: Duration,
    /// The parts of its path that others may own or write.
    pub trusted_paths: &'r TrustedPaths,
}

impl Invocation<'_> {
    /// Returns what the program's output may quote: its command line and environment.
    fn quotable(&self) -> Vec<&str> {
        let values = self.environment.iter().map(|(_, value)| value.as_str());
        let arguments = self.command.arguments.iter().map(String::as_str);
        let program = [self.command.program.as_str()];
        values.chain(arguments).chain(program).collect()
    }
}

/// The exit of a program and its output.
#[derive(Debug)]
pub struct ProcessExit {
    /// The cause of its exit.
    pub kind: ExitKind,
    /// Its standard output.
    pub stdout: CapturedOutput,
    /// Its standard error.
    pub stderr: CapturedOutput,
}

/// The cause of a program's exit.
#[derive(Debug)]
pub enum ExitKind {
    /// It was never started, and has read none of its input; with the reason.
    NotStarted(String),
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was killed after its timeout.
    TimedOut,
    /// The system failed while it ran, and it was killed; with the reason.
    Failed(String),
}

impl ProcessExit {
    /// Describes the exit of `program`, with its output as in [`Self::error_suffix`]. `timeout`
    /// is the limit of its run.
    #[must_use]
    pub fn describe(&self, program: &str, timeout: Duration) -> String {
        let output = self.error_suffix();
        match &self.kind {
            ExitKind::NotStarted(reason) => reason.clone(),
            ExitKind::Code(code) => format!("{program} exited with code {code}{output}"),
            ExitKind::Signal(signal) => format!("{program} was killed by signal {signal}{output}"),
            ExitKind::TimedOut => format!(
                "{program} did not exit within {} and was killed{output}",
                duration::to_text(timeout)
            ),
            ExitKind::Failed(reason) => {
                format!("cannot run {program} to its end: {reason}")
            }
        }
    }

    /// Returns what the program printed last, as a suffix for a message: both lines of
    /// two, since the second one is often advice alone, and of more the last one, which
    /// mostly says what failed.
    #[must_use]
    pub fn error_suffix(&self) -> String {
        let outputs = [&self.stderr.lines, &self.stdout.lines];
        let lines = outputs.into_iter().find(|lines| !lines.is_empty());
        match lines.map(Vec::as_slice) {
            None | Some([]) => String::new(),
            Some([first, second]) => {
                let is_whole = first.ends_with(['.', '!', '?', ':', ';', ',']);
                let gap = if is_whole { " " } else { "; " };
                format!(": {first}{gap}{second}")
            }
            Some([.., last]) => format!(": {last}"),
        }
    }
}

/// Runs a program. Dropping the future kills its process group.
pub async fn run(invocation: Invocation<'_>) -> ProcessExit {
    let deadline = Instant::now() + invocation.timeout;
    let mut group = match spawn(&invocation).await {
        Ok(group) => group,
        Err(reason) => {
            return ProcessExit {
                kind: ExitKind::NotStarted(reason),
                stdout: CapturedOutput::default(),
                stderr: CapturedOutput::default(),
            };
        }
    };
    let (stdin, stdout, stderr) = group.take_pipes();
    let (mut stdout_capture, mut stderr_capture) = (OutputCapture::new(), OutputCapture::new());
    let kind = {
        // Both outputs are read while the program runs: a full pipe would block
        // it.
        let reading =
            async { tokio::join!(stdout_capture.read(stdout), stderr_capture.read(stderr)) };
        let mut reading = pin!(reading);
        let mut is_read = false;
        let result = {
            let work = async {
                write_stdin(stdin, &invocation.stdin).await?;
                group.wait().await
            };
            let mut work = pin!(timeout_at(deadline, work));
            loop {
                tokio::select! {
                    biased;
                    result = &mut work => break result,
                    _ = &mut reading, if !is_read => is_read = true,
                }
            }
        };
        group.terminate().await;
        if !is_read {
            let _ = timeout(OUTPUT_DRAIN_TIMEOUT, reading).await;
        }
        match result {
            Ok(Ok(status)) => exit_kind(status),
            Ok(Err(error)) => ExitKind::Failed(os_error::describe(&error)),
            Err(_) => ExitKind::TimedOut,
        }
    };
    own_files::narrow_again(Some(&invocation.command.program)).await;
    // A program that was killed may have written a part of a secret.
    let is_whole = matches!(kind, ExitKind::Code(_));
    let sent = invocation.quotable();
    ProcessExit {
        kind,
        stdout: stdout_capture.to_captured_output(is_whole, &sent),
        stderr: stderr_capture.to_captured_output(is_whole, &sent),
    }
}

/// Starts the program on a blocking thread, since its file system may hang. A
/// program that starts after the timeout is killed at once.
async fn spawn(invocation: &Invocation<'_>) -> Result<ProcessGroup, String> {
    let command = invocation.command.clone();
    let environment = invocation.environment.to_vec();
    let trusted_paths = invocation.trusted_paths.clone();
    let program = &invocation.command.program;
    let describe = || format!("starting {program}");
    let started = run_blocking(
        describe,
        invocation.timeout,
        move || match exchangeable_part(command.path(), &trusted_paths) {
            Some(problem) => Err(problem),
            None => ProcessGroup::start(&command, environment)
                .map_err(|error| format!("cannot start {}: {error}", command.program)),
        },
    );
    match started.await {
        Ok(started) => started,
        Err(error) => Err(error.to_string()),
    }
}

/// Writes the input and closes it. A program that does not read it is no error:
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
        (None, None) => ExitKind::Failed(format!("unknown exit status ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_suffix_has_two_lines_or_the_last() {
        let captured = |lines: &[&str]| CapturedOutput {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            is_truncated: false,
        };
        for (stdout, stderr, suffix) in [
            (&[][..], &[][..], ""),
            (&["done"], &[], ": done"),
            (&["done"], &["denied"], ": denied"),
            (&[], &["denied", "see the log"], ": denied; see the log"),
            (
                &[],
                &["A password is required.", "See the log."],
                ": A password is required. See the log.",
            ),
            (
                &[],
                &["Traceback", "line 1", "KeyError: 'x'"],
                ": KeyError: 'x'",
            ),
        ] {
            let exit = ProcessExit {
                kind: ExitKind::Code(1),
                stdout: captured(stdout),
                stderr: captured(stderr),
            };
            assert_eq!(exit.error_suffix(), suffix, "{stdout:?} {stderr:?}");
        }
    }
}
