//! `rekeyd ledger`, and `rekeyd ledger locks`: names the processes that hold a lock of the
//! ledger.

use std::path::Path;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::failure::Failure;
use crate::cli::ledger_prune::PruneCommand;
use crate::cli::output;
use crate::core::os_error;
use crate::ledger::lockable_files;
use crate::platform::file_locks::{LockHolder, lock_holders};
use crate::platform::users::describe_user;

#[derive(Debug, clap::Args)]
pub(crate) struct LedgerCommand {
    #[command(subcommand)]
    command: LedgerSubcommand,
}

#[derive(Debug, clap::Subcommand)]
enum LedgerSubcommand {
    /// Name the processes that hold a lock of the ledger's files
    ///
    /// Only root sees the processes of all users.
    Locks(LocksCommand),
    /// Move rotations that ended long ago from the ledger to an archive
    ///
    /// Through the running daemon, or under the lock of the ledger without one. The same command
    /// finishes a run that was cut short.
    Prune(PruneCommand),
}

#[derive(Debug, clap::Args)]
struct LocksCommand {
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl LedgerCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        match &self.command {
            LedgerSubcommand::Locks(command) => command.run(options).await,
            LedgerSubcommand::Prune(command) => command.run(options).await,
        }
    }
}

impl LocksCommand {
    async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        let mut text = String::new();
        for file in lockable_files(&settings.ledger) {
            let holders = lock_holders(&file).map_err(|error| {
                Failure::Other(format!(
                    "cannot find out who holds a lock of {}: {}; hint: run it with sudo",
                    file.display(),
                    os_error::describe(&error)
                ))
            })?;
            text.extend(holders.iter().map(|holder| line(&file, holder)));
        }
        if text.is_empty() {
            text = format!(
                "no process holds a lock of the ledger {}\n",
                settings.ledger.display()
            );
        }
        if !rustix::process::geteuid().is_root() {
            output::report_note(
                "only root sees the processes of all users; hint: run it with sudo",
            );
        }
        output::print(text.as_bytes())
    }
}

fn line(file: &Path, holder: &LockHolder) -> String {
    let kind = if holder.is_exclusive { "write" } else { "read" };
    let Some(process) = holder.process else {
        return format!(
            "{}: {kind} lock of a process that is not shown here: it has ended, or runs in another \
             container\n",
            file.display()
        );
    };
    let command = holder.command.as_deref().unwrap_or("unknown program");
    let user = holder.user.map(describe_user);
    format!(
        "{}: {kind} lock of process {process} ({command}) of {}\n",
        file.display(),
        user.as_deref().unwrap_or("an unknown user")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_process_program_and_user() {
        let holder = LockHolder {
            process: Some(4_711),
            command: Some("sqlite3".to_owned()),
            user: Some(4_000_000_001),
            is_exclusive: false,
        };
        let file = Path::new("/var/lib/rekeyd/ledger.db-shm");
        assert_eq!(
            line(file, &holder),
            "/var/lib/rekeyd/ledger.db-shm: read lock of process 4711 (sqlite3) of uid \
             4000000001\n"
        );
        let unknown = LockHolder {
            command: None,
            user: None,
            is_exclusive: true,
            ..holder
        };
        assert_eq!(
            line(file, &unknown),
            "/var/lib/rekeyd/ledger.db-shm: write lock of process 4711 (unknown program) of an \
             unknown user\n"
        );
        let unseen = LockHolder {
            process: None,
            ..unknown
        };
        assert_eq!(
            line(file, &unseen),
            "/var/lib/rekeyd/ledger.db-shm: write lock of a process that is not shown here: it has \
             ended, or runs in another container\n"
        );
    }
}
