//! A program and all that it starts, as long as that stays in its process
//! group.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::core::command::CommandLine;

/// Where a program finds others. That of the service is not passed on: a
/// program is to find the same in every way that rekeyd is started.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The language of its messages.
pub const LANG: &str = "C.UTF-8";

/// How long the last words of a program that has ended are waited for.
/// Whoever has left its group may hold its output open for ever.
pub(super) const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A process group; dropped, it is killed.
pub(super) struct ProcessGroup {
    leader: Child,
    /// The number of its leader and of the group.
    id: Option<Pid>,
}

impl ProcessGroup {
    /// Starts the program, inside a runtime.
    pub(super) fn start(
        line: &CommandLine,
        variables: Vec<(&'static str, String)>,
    ) -> io::Result<Self> {
        let leader = Command::new(&line.program)
            .args(&line.arguments)
            .env_clear()
            .envs([("PATH", PATH), ("LANG", LANG)])
            .envs(variables)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            leader,
            id: id.and_then(Pid::from_raw),
        })
    }

    /// The other ends of its standard input, output and error.
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

    /// Waits for the program itself, not for what it has started.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Kills what is left of the group.
    pub(super) async fn terminate(mut self) {
        self.kill();
        // One that hangs in the kernel dies later; tokio sees to it then.
        let _ = timeout(OUTPUT_DRAIN_TIMEOUT, self.leader.wait()).await;
    }

    /// At most once: what has this number later may be somebody else.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // That nobody is left is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
