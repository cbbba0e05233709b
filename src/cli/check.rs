//! `rekeyd check`: every problem at once, without changing anything.

use crate::cli::context::{GlobalOptions, credential_sources, read_environment};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::preflight::{self, CheckLevel};
use crate::config::settings::Settings;
use crate::config::{self, Problem};
use crate::core::scope::Scope;
use crate::core::secret::ActiveCredential;
use crate::ledger::PendingMigration;
use crate::provider::Provider as _;
use crate::provider::failover::{CredentialSource as _, FailoverProvider};
use crate::provider::openai::OpenAiProvider;

#[derive(Debug, clap::Args)]
pub(crate) struct CheckCommand {
    /// Also ask the provider (nothing is made) and reach the sinks (nothing is sent)
    #[arg(long)]
    online: bool,
    /// Print problems only
    #[arg(long, short)]
    quiet: bool,
}

impl CheckCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = options.load_settings()?;
        let mut problems = config::host_problems(&settings, &read_environment());
        let ledger = preflight::check_ledger(&settings).await;
        let pending_migration = ledger.unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let look = if self.online {
            CheckLevel::Online
        } else {
            CheckLevel::Local
        };
        problems.extend(preflight::check_sinks(&settings, look).await);
        problems.extend(preflight::check_channels(&settings, look).await);
        let (found, _) = credential_sources(&settings).read_all().await;
        if self.online && !found.is_empty() {
            problems.extend(check_provider(&settings).await);
        } else if self.online && problems.is_empty() {
            problems.push(provider_not_checked(&settings));
        }
        if !problems.is_empty() {
            return Err(Failure::from_problems(&problems));
        }
        if !self.quiet {
            let keys = settings.keys.len();
            let noun = if keys == 1 { "key" } else { "keys" };
            let mut text = format!(
                "{}: no problem found, {keys} {noun}\n",
                options.config.display()
            );
            if let Some(migration) = pending_migration {
                text.push_str(&announce(&settings, &migration));
            }
            output::print(text.as_bytes())?;
        }
        Ok(())
    }
}

/// What the next `run` or `once` does first.
fn announce(settings: &Settings, migration: &PendingMigration) -> String {
    format!(
        "note: rekeyd {} wrote the ledger {}; the next `rekeyd run` or `rekeyd once` migrates it, \
         and keeps the former file as {}\n",
        migration.release,
        settings.ledger.display(),
        migration.kept_path.display()
    )
}

/// The service will have an admin key, and this process has none.
fn provider_not_checked(settings: &Settings) -> Problem {
    let at = "provider".to_owned();
    let message = "was not asked: only the service is given the admin key; run as root: \
                   CREDENTIALS_DIRECTORY=/etc/credstore rekeyd check --online";
    Problem::for_host(&settings.file, at, message.to_owned())
}

async fn check_provider(settings: &Settings) -> Option<Problem> {
    let cell = ActiveCredential::new();
    let provider = OpenAiProvider::new(&settings.provider, cell.clone());
    let provider = FailoverProvider::new(provider, cell, credential_sources(settings));
    let error = provider.list(&Scope::AdminKeys).await.err()?;
    let at = "provider".to_owned();
    Some(Problem::for_host(&settings.file, at, error.to_string()))
}
