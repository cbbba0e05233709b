//! `rekeyd check`: every problem at once, without changing anything.

use std::sync::Arc;

use crate::cli::{Cli, Failure, output};
use crate::config;
use crate::core::secret::CredentialCell;
use crate::core::settings::Settings;
use crate::daemon::credential::WithCredential;
use crate::daemon::start;
use crate::engine::clock::{Clock, HostClock};
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
        let mut problems: Vec<String> = config::host_problems(&settings)
            .iter()
            .map(ToString::to_string)
            .collect();
        let (found, unread) = Cli::sources(&settings).read();
        if found.is_empty() && settings.provider.credential_file.is_none() {
            problems.extend(unread);
        }
        problems.extend(self.sinks(&settings).await);
        if self.online && !found.is_empty() {
            problems.extend(ask_provider(&settings).await);
        }
        if problems.is_empty() {
            if !self.quiet {
                let keys = settings.keys.len();
                let text = format!("{}: no problem found, {keys} keys\n", cli.config.display());
                output::print(text.as_bytes())?;
            }
            return Ok(());
        }
        Err(Failure::Configuration(problems.join("\n")))
    }

    async fn sinks(&self, settings: &Settings) -> Vec<String> {
        let clock: Arc<dyn Clock> = Arc::new(HostClock);
        let mut problems = Vec::new();
        for key in &settings.keys {
            for (sink, _) in start::sinks(key, &clock) {
                let local = sink.inspect().await;
                let found = if self.online && local.is_empty() {
                    sink.preflight().await.err().into_iter().collect()
                } else {
                    local
                };
                let at = format!("key.{}: sink {}", key.name, sink.id().name);
                problems.extend(found.into_iter().map(|problem| format!("{at}: {problem}")));
            }
        }
        problems
    }
}

async fn ask_provider(settings: &Settings) -> Option<String> {
    let cell = CredentialCell::new();
    let provider = OpenAi::new(&settings.provider, cell.clone());
    let provider = WithCredential::new(provider, cell, Cli::sources(settings));
    provider
        .list()
        .await
        .err()
        .map(|error| format!("provider: {error}"))
}
