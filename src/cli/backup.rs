//! `rekeyd backup`: copies the ledger, also while rekeyd runs.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::ledger;

#[derive(Debug, clap::Args)]
pub(crate) struct BackupCommand {
    /// File to create
    path: PathBuf,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl BackupCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        let path = absolute(&self.path)?;
        let daemon = dispatch::ask_configured(&settings).await;
        if let Some(damage) = dispatch::ledger_damage(daemon.as_ref(), &settings) {
            return Err(Failure::Other(format!(
                "cannot back up the ledger {}, because it is damaged: {damage}",
                settings.ledger.display()
            )));
        }
        ledger::back_up(&settings.ledger, &path)?;
        give_to_owner_of(&settings.ledger, &path)?;
        let (ledger, target) = (settings.ledger.display(), self.path.display());
        output::print(format!("backed up the ledger {ledger} to {target}\n").as_bytes())
    }
}

/// Gives the copy that root made to the user of the ledger, who restores it.
fn give_to_owner_of(ledger: &Path, copy: &Path) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        let found = ledger.metadata()?;
        chown(copy, Some(found.uid()), Some(found.gid()))?;
    }
    Ok(())
}

/// Returns the path from the root, as SQLite's URLs need it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}
