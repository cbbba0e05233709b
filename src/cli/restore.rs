//! `rekeyd restore`: puts a backup of the ledger back.

use std::path::PathBuf;

use crate::cli::backup::absolute;
use crate::cli::context::GlobalOptions;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::daemon::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreCommand {
    /// The backup
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
                "the former ledger is kept as {}\n",
                previous.display()
            ));
        }
        text.push_str(
            "the next start compares it with the provider before anything else, and reports what \
             was created since as lookalikes\n",
        );
        for key in &restored.dropped_requests {
            text.push_str(&format!(
                "note: dropped the rotation of {key} that was requested when the backup was made, \
                 and may have been made since; if it is still needed, run: rekeyd rotate {key}\n"
            ));
        }
        if restored.is_of_other_host {
            text.push_str(
                "note: another machine wrote this backup; if that one has stopped for good, start \
                 with: rekeyd run --take-over\n",
            );
        }
        output::print(text.as_bytes())
    }
}
