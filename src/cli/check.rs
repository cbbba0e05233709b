//! `rekeyd check`: every problem at once, without changing anything.

use crate::cli::host::{self, Look};
use crate::cli::{Cli, Failure, environment, output};
use crate::config::{self, Problem};
use crate::core::secret::CredentialCell;
use crate::core::settings::Settings;
use crate::daemon::credential::WithCredential;
use crate::provider::Provider as _;
use crate::provider::openai::OpenAi;

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Also ask the provider (nothing is made) and reach the sinks (nothing is sent)
    #[arg(long)]
    online: bool,
    /// Print problems only
    #[arg(long, short)]
    quiet: bool,
}

impl Check {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let mut problems = config::host_problems(&settings, &environment());
        problems.extend(host::ledger(&settings).await);
        let look = if self.online {
            Look::Online
        } else {
            Look::Local
        };
        problems.extend(host::sinks(&settings, look).await);
        problems.extend(host::notifiers(&settings, look).await);
        let (found, _) = Cli::sources(&settings).read();
        if self.online && !found.is_empty() {
            problems.extend(ask_provider(&settings).await);
        } else if self.online && problems.is_empty() {
            problems.push(not_asked(&settings));
        }
        if !problems.is_empty() {
            return Err(Failure::of(&problems));
        }
        if !self.quiet {
            let keys = settings.keys.len();
            let noun = if keys == 1 { "key" } else { "keys" };
            let text = format!(
                "{}: no problem found, {keys} {noun}\n",
                cli.config.display()
            );
            output::print(text.as_bytes())?;
        }
        Ok(())
    }
}

/// The service will have an admin key, and this process has none.
fn not_asked(settings: &Settings) -> Problem {
    let at = "provider".to_owned();
    let message = "was not asked: only the service is given the admin key; run as root: \
                   CREDENTIALS_DIRECTORY=/etc/credstore rekeyd check --online";
    Problem::of_host(settings, at, message.to_owned())
}

async fn ask_provider(settings: &Settings) -> Option<Problem> {
    let cell = CredentialCell::new();
    let provider = OpenAi::new(&settings.provider, cell.clone());
    let provider = WithCredential::new(provider, cell, Cli::sources(settings));
    let error = provider.list().await.err()?;
    let at = "provider".to_owned();
    Some(Problem::of_host(settings, at, error.to_string()))
}
