//! `rekeyd backup`: copies the ledger, also while rekeyd runs.

use std::path::{Path, PathBuf};

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::passed_file::{self, passed_file};
use crate::cli::service_view;
use crate::config::settings::Settings;
use crate::daemon::ledger_access;
use crate::ledger::{self, NewCopy};

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
        let answer = dispatch::ask_writer(&settings).await;
        if let Some(damage) = answer.ledger_damage(&settings) {
            return Err(Failure::Other(format!(
                "cannot back up the ledger {}, because it is damaged: {damage}",
                settings.ledger.display()
            )));
        }
        if let Some(file) = passed_file() {
            ledger_access::check_reader(&settings)?;
            return Ok(ledger::write_copy(&settings.ledger, file, &path)?);
        }
        back_up(&settings, &path)?;
        let (ledger, target) = (settings.ledger.display(), self.path.display());
        output::print(format!("backed up the ledger {ledger} to {target}\n").as_bytes())
    }
}

/// Copies the ledger. Root copies it as its owner, who may not be able to write to the folder
/// of the copy.
fn back_up(settings: &Settings, path: &Path) -> Result<(), Failure> {
    let ledger = &settings.ledger;
    if passed_file::is_roots_path(path) {
        let mut copy = None;
        let create = || {
            let created = copy.insert(NewCopy::create(ledger, path)?);
            Ok(created.clone_file()?)
        };
        if let (true, Some(copy)) = (service_view::run_with_file(settings, create)?, copy) {
            return Ok(copy.finish()?);
        }
    } else {
        service_view::enter_as_owner(settings)?;
    }
    ledger_access::check_reader(settings)?;
    Ok(ledger::back_up(ledger, path)?)
}

/// Returns the path from the root, as SQLite's URLs need it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}
