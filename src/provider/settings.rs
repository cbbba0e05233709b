//! The settings of the provider.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::secret_text::SecretForm;
use crate::net::ca_file;
pub use crate::net::client_identity::ClientIdentityFiles;
use crate::net::client_identity::{ClientIdentity, ClientIdentityError};
use crate::net::proxy::check_proxy;
use crate::platform::path_walk::{self, TrustedPaths};
use crate::platform::secret_file;

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
    /// The certificate to show the provider, or a proxy in its place.
    pub identity: Option<ClientIdentityFiles>,
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
        let identity = self.read_identity().err();
        let identity = identity.map(|error| ("client-certificate", error.to_string()));
        let proxy = check_proxy(&self.base_url).err();
        let proxy = proxy.map(|error| ("base-url", error.to_string()));
        ca_file.into_iter().chain(identity).chain(proxy).collect()
    }

    /// Reads the certificate to show the provider, if there is one. Blocks.
    ///
    /// # Errors
    /// It cannot be read or used.
    pub fn read_identity(&self) -> Result<Option<ClientIdentity>, ClientIdentityError> {
        let read_key = |path: &Path| {
            secret_file::read_configured(path, SecretForm::Lines, &self.trusted_paths)
                .map_err(|error| error.to_string())
        };
        self.identity
            .as_ref()
            .map(|files| files.read(read_key))
            .transpose()
    }
}
