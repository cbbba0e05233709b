//! `rekeyd backup`: copies the ledger, also while rekeyd runs.

use std::path::{Path, PathBuf};

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::ledger;

#[derive(Debug, clap::Args)]
pub(crate) struct BackupCommand {
    /// The new file
    path: PathBuf,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl BackupCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        ledger::back_up(&settings.ledger, &absolute(&self.path)?)?;
        let (ledger, target) = (settings.ledger.display(), self.path.display());
        output::print(format!("copied the ledger {ledger} to {target}\n").as_bytes())
    }
}

/// Returns the path from the root, as SQLite's URLs need it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}
