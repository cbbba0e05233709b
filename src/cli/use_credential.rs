//! `rekeyd use-credential`: gives a running daemon another admin key.

use std::path::PathBuf;

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::daemon_options::{CommandTarget, DaemonOptions};
use crate::cli::dispatch::{find_daemon, report_results};
use crate::cli::failure::Failure;
use crate::config::settings::Settings;
use crate::core::secret_text::SecretForm;
use crate::daemon::control::protocol::{ControlRequest, SentSecret};
use crate::platform::path_walk::TrustedPaths;
use crate::platform::secret_file::{self, PermissionCheck};
use crate::provider::failover::CredentialSource as _;

#[derive(Debug, clap::Args)]
pub(crate) struct UseCredentialCommand {
    /// File with the admin key, which nobody else may write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl UseCredentialCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let (daemon, trusted_paths) = match self.daemon.target(options).await? {
            CommandTarget::Daemon(daemon) => (*daemon, TrustedPaths::default()),
            CommandTarget::File(settings) => match find_daemon(&self.daemon, &settings).await? {
                Some(daemon) => (daemon, settings.trusted_paths().clone()),
                None => return Err(no_daemon(&settings)),
            },
        };
        let file = std::path::absolute(&self.file)?;
        // This process reads the file: the daemon may not be able to.
        let check = PermissionCheck::Enforce(trusted_paths);
        let secret = secret_file::read(&file, &check, SecretForm::AdminKey)
            .map_err(|error| Failure::Other(error.to_string()))?;
        let request = ControlRequest::UseCredential {
            secret: SentSecret(secret),
            file: file.display().to_string(),
        };
        report_results(&daemon.send(&request).await?)
    }
}

/// Says where the next process finds the key.
fn no_daemon(settings: &Settings) -> Failure {
    let place = credential_sources(settings).first_place();
    let storing = place.map_or_else(
        || "store it in [provider] credential-file".to_owned(),
        |place| place.storing(),
    );
    Failure::Other(format!(
        "no rekeyd is running that could use another admin key; hint: {storing}, and the next \
         start finds it"
    ))
}
