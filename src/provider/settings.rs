//! The settings of the provider.

use std::path::PathBuf;
use std::time::Duration;

use crate::net::ca_file;
use crate::net::proxy::check_proxy;
use crate::platform::path_walk::{self, TrustedPaths};

/// The options of `[provider]`.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The base URL without a slash at its end: `https://api.openai.com/v1`.
    pub base_url: url::Url,
    /// The file with rekeyd's own admin key.
    pub credential_file: Option<PathBuf>,
    /// The `OpenAI-Organization` header.
    pub organization: Option<String>,
    /// The file with roots (PEM) to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The time limit of one request, from connecting to the last byte.
    pub request_timeout: Duration,
    /// The number of keys that may use the provider concurrently.
    pub max_in_flight: usize,
    /// The interval of reconciliations with the provider.
    pub reconcile_every: Duration,
    /// The parts of paths that others may own or write.
    pub trusted_paths: TrustedPaths,
}

impl ProviderSettings {
    /// Lists the problems of this host that prevent every connection to the
    /// provider, each with its option. Blocks.
    #[must_use]
    pub fn connection_problems(&self) -> Vec<(&'static str, String)> {
        let ca_file = self.ca_file.as_deref().and_then(|file| {
            let error = ca_file::check(file).err().map(|error| error.to_string());
            let problem = error.or_else(|| path_walk::describe_exchange(file, &self.trusted_paths));
            Some(("ca-file", problem?))
        });
        let proxy = check_proxy(&self.base_url).err();
        let proxy = proxy.map(|error| ("base-url", error.to_string()));
        ca_file.into_iter().chain(proxy).collect()
    }
}
