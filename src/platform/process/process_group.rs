//! A program and those of its descendants that stay in its process group.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::core::command::CommandLine;
use crate::platform::process::launcher::{self, StartError};
use crate::platform::process::running_groups;

/// The `PATH` of programs. rekeyd does not pass on its own, so that a program
/// runs alike however rekeyd was started.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The `LANG` of programs.
pub const LANG: &str = "C.UTF-8";

/// The wait for the end of the output of a program that has exited. A process
/// that has left the group may keep the output open for ever.
pub(super) const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A process group, which is killed on drop.
pub(super) struct ProcessGroup {
    leader: Child,
    /// The process id of the leader, which is the group's id.
    id: Option<Pid>,
}

impl ProcessGroup {
    /// Starts the program. MUST be called on a runtime. Blocks until the program is executed.
    pub(super) fn start(
        command: &CommandLine,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self, StartError> {
        let (mut program, status) = launcher::prepare(command).map_err(StartError::Launcher)?;
        program
            .env_clear()
            .envs([("PATH", PATH), ("LANG", LANG)])
            .envs(environment)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = running_groups::start(|| {
            if let Some(status) = &status {
                status.share()?;
            }
            let leader = program.spawn()?;
            let id = leader.id().and_then(|id| i32::try_from(id).ok());
            let id = id.and_then(Pid::from_raw);
            Ok((Self { leader, id }, id))
        });
        match status {
            Some(status) => {
                let group = started.map_err(StartError::Launcher)?;
                status.wait()?;
                Ok(group)
            }
            None => started.map_err(StartError::Program),
        }
    }

    /// Returns the other ends of its standard input, output and error.
    pub(super) fn take_pipes(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let leader = &mut self.leader;
        (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        )
    }

    /// Waits for the leader, not for its descendants.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Kills the processes of the group.
    pub(super) async fn terminate(mut self) {
        self.kill();
        // A process that hangs in the kernel dies later; tokio reaps it then.
        let _ = timeout(OUTPUT_DRAIN_TIMEOUT, self.leader.wait()).await;
    }

    /// Sends the signal at most once, since the id may be reused.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            running_groups::end(id);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
