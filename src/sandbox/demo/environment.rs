//! The environment of a demo: the sandbox as the provider, a receiver, and the
//! files with their secrets. Only this module uses the sandbox.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::config::settings::Settings;
use crate::core::secret::Secret;
use crate::daemon::{event_loop, runtime};
use crate::engine::{Engine, RunMode};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::provider::failover::AdminCredentialSources;
use crate::sandbox::demo::error::DemoError;
use crate::sandbox::demo::folder::DemoFolder;
use crate::sandbox::receiver::{Receiver, Recorder};
use crate::sandbox::{DEFAULT_ADMIN_KEY, Sandbox, SandboxOptions};

/// The files that are created in the folder of the demo.
pub(crate) const ENVIRONMENT_FILES: [&str; 3] = [ADMIN_KEY_FILE, WEBHOOK_SECRET_FILE, LEDGER_FILE];

/// The admin key of the sandbox.
pub(crate) const ADMIN_KEY_FILE: &str = "admin-key";
/// The secret that signs webhooks.
const WEBHOOK_SECRET_FILE: &str = "webhook-secret";
/// The ledger.
pub(crate) const LEDGER_FILE: &str = "ledger.db";

/// A running sandbox and receiver, which stop on drop.
pub(crate) struct DemoEnvironment {
    sandbox: Sandbox,
    /// The receiver of all webhooks.
    pub(crate) receiver: Receiver,
    /// The `base-url` of the sandbox.
    pub(crate) provider_url: Url,
    /// The URL of the receiver.
    pub(crate) receiver_url: Url,
    /// The file with the sandbox's admin key.
    pub(crate) credential_file: PathBuf,
    /// The file with the secret that signs webhooks.
    pub(crate) signing_secret_file: PathBuf,
}

impl DemoEnvironment {
    /// Starts both, and writes their secrets to `folder`.
    pub(crate) async fn start(folder: &DemoFolder, recorder: Recorder) -> Result<Self, DemoError> {
        let sandbox = Sandbox::start(SandboxOptions::default()).await?;
        let signing = generate_signing_secret()?;
        let receiver = Receiver::start_with(&signing, recorder).await?;
        let parse =
            |url: &str| Url::parse(url).map_err(|error| DemoError::Other(error.to_string()));
        Ok(Self {
            provider_url: sandbox.base_url(),
            receiver_url: parse(&receiver.url())?,
            credential_file: folder.write_new(ADMIN_KEY_FILE, DEFAULT_ADMIN_KEY)?,
            signing_secret_file: folder.write_new(WEBHOOK_SECRET_FILE, signing.expose())?,
            sandbox,
            receiver,
        })
    }

    /// Runs the real daemon until a signal stops it, or after `limit` once no rotation is
    /// open. Shows the engine to `observe` at each step.
    pub(crate) async fn run(
        &self,
        settings: &Arc<Settings>,
        limit: Option<Duration>,
        observe: impl Fn(&Engine),
    ) -> Result<(), DemoError> {
        let sources = AdminCredentialSources {
            file: settings.provider.credential_file.clone(),
            ..AdminCredentialSources::default()
        };
        let runtime = runtime::start(settings, sources, "rekeyd demo", RunMode::Daemon).await?;
        Ok(event_loop::run_for(runtime, limit, observe).await?)
    }

    /// Whether the sandbox accepts this secret now.
    pub(crate) fn accepts(&self, secret: &str) -> bool {
        self.sandbox.accepts(secret)
    }
}

fn generate_signing_secret() -> Result<Secret, DemoError> {
    let mut bytes = [0; 32];
    let filled = SystemEntropy::new().fill(&mut bytes);
    filled.map_err(|error| DemoError::Other(error.to_string()))?;
    Ok(Secret::new(format!("whsec_{}", STANDARD.encode(bytes))))
}
