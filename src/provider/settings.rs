//! The settings of the provider.

use std::path::PathBuf;
use std::time::Duration;

/// The options of `[provider]`.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The base URL without a slash at its end: `https://api.openai.com/v1`.
    pub base_url: url::Url,
    /// The file with rekeyd's own admin key.
    pub credential_file: Option<PathBuf>,
    /// The `OpenAI-Organization` header.
    pub organization: Option<String>,
    /// The file with roots (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The time limit of one request, from connecting to the last byte.
    pub request_timeout: Duration,
    /// The number of keys that may use the provider concurrently.
    pub max_in_flight: usize,
    /// The interval of reconciliations with the provider.
    pub reconcile_every: Duration,
}
