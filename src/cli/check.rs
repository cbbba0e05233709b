//! `rekeyd check`: reports every problem at once, and changes nothing.

use crate::cli::context::{GlobalOptions, credential_sources, read_environment};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::preflight::{self, CheckLevel};
use crate::config::settings::Settings;
use crate::config::{self, Problem};
use crate::core::scope::Scope;
use crate::core::secret::ActiveCredential;
use crate::ledger::{LedgerNotes, PendingMigration};
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
        let notes = ledger.unwrap_or_else(|problem| {
            problems.push(problem);
            LedgerNotes::default()
        });
        let level = if self.online {
            CheckLevel::Online
        } else {
            CheckLevel::Local
        };
        problems.extend(preflight::check_sinks(&settings, level).await);
        problems.extend(preflight::check_channels(&settings, level).await);
        let (secrets, _) = credential_sources(&settings).read_all().await;
        if self.online && !secrets.is_empty() {
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
            if keys == 0 {
                text.push_str(
                    "note: no key is configured, so nothing is rotated; add a [key.NAME]\n",
                );
            }
            if let Some(migration) = notes.pending_migration {
                text.push_str(&migration_note(&settings, &migration));
            }
            if let Some(file_system) = notes.network_file_system {
                text.push_str(&network_note(&settings, file_system));
            }
            output::print(text.as_bytes())?;
        }
        Ok(())
    }
}

/// Says that the ledger is protected by its lock file alone.
fn network_note(settings: &Settings, file_system: &str) -> String {
    let path = settings.ledger.display();
    format!(
        "note: the ledger {path} is on {file_system}, where rekeyd cannot lock the file itself; \
         only {path}.lock keeps a second rekeyd away: do not remove it, or put the ledger on a \
         local disk\n"
    )
}

/// Announces the migration that the next `run` or `once` makes.
fn migration_note(settings: &Settings, migration: &PendingMigration) -> String {
    format!(
        "note: rekeyd {} wrote the ledger {}; the next `rekeyd run` or `rekeyd once` migrates it, \
         and keeps the former file as {}\n",
        migration.release,
        settings.ledger.display(),
        migration.kept_path.display()
    )
}

/// Returns the problem that only the service receives the admin key.
fn provider_not_checked(settings: &Settings) -> Problem {
    let location = "provider".to_owned();
    let message = "was not asked: only the service is given the admin key; run as root: \
                   CREDENTIALS_DIRECTORY=/etc/credstore rekeyd check --online";
    Problem::for_host(&settings.file, location, message.to_owned())
}

async fn check_provider(settings: &Settings) -> Option<Problem> {
    let active_credential = ActiveCredential::new();
    let provider = OpenAiProvider::new(&settings.provider, active_credential.clone());
    let provider = FailoverProvider::new(provider, active_credential, credential_sources(settings));
    let error = provider.list(&Scope::AdminKeys).await.err()?;
    let location = "provider".to_owned();
    Some(Problem::for_host(
        &settings.file,
        location,
        error.to_string(),
    ))
}
