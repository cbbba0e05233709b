//! What the configuration says about the provider.

use std::path::PathBuf;
use std::time::Duration;

/// `[provider]`: whom rekeyd asks for credentials, and how.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Without a slash at its end: `https://api.openai.com/v1`.
    pub base_url: url::Url,
    /// The file with our own admin key.
    pub credential_file: Option<PathBuf>,
    /// The `OpenAI-Organization` header.
    pub organization: Option<String>,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The time one request may take, from connecting to the last byte.
    pub request_timeout: Duration,
    /// How many keys send requests to the provider at once.
    pub max_in_flight: usize,
    /// How often every row of the ledger is compared with the provider.
    pub reconcile_every: Duration,
}
