//! `rekeyd restore`: puts a backup of the ledger back.

use std::path::PathBuf;

use crate::cli::backup::absolute;
use crate::cli::context::GlobalOptions;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::daemon::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreCommand {
    /// Backup to restore
    path: PathBuf,
}

impl RestoreCommand {
    pub(crate) fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = options.load_settings()?;
        let restored = runtime::restore(&settings, &absolute(&self.path)?)?;
        let (ledger, source) = (settings.ledger.display(), self.path.display());
        let mut text = format!("restored the ledger {ledger} from {source}\n");
        if let Some(previous) = &restored.previous {
            text.push_str(&format!(
                "kept the previous ledger as {}\n",
                previous.display()
            ));
        }
        text.push_str(
            "at its next start, rekeyd compares it with the provider first, and reports credentials \
             that were created since as lookalikes\n",
        );
        for key in &restored.dropped_requests {
            text.push_str(&format!(
                "note: dropped a rotation of {key} that was requested before the backup, and may \
                 have run since; if it is still needed, run: rekeyd rotate {key}\n"
            ));
        }
        if restored.is_of_other_host {
            text.push_str(
                "note: this backup comes from another machine; if rekeyd has stopped there for \
                 good, start with: rekeyd run --take-over\n",
            );
        }
        output::print(text.as_bytes())
    }
}
