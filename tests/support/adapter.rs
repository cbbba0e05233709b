//! The HTTP adapter with a credential of its own.
#![allow(dead_code)]

use std::time::Duration;

use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::core::secret::Secret;
use rekeyd::platform::path_walk::TrustedPaths;
use rekeyd::provider::openai::OpenAiProvider;
use rekeyd::provider::settings::ProviderSettings;
use url::Url;

/// The credential with which [`adapter`] authenticates.
pub(crate) const OWN_SECRET: &str = "sk-admin-our-own-secret-1234";

/// Returns the adapter for a provider at `url`.
pub(crate) fn adapter(url: &Url) -> OpenAiProvider {
    adapter_with(url, Duration::from_secs(10), credential_with(OWN_SECRET))
}

/// Returns a cell with a credential.
pub(crate) fn credential_with(secret: &str) -> ActiveCredential {
    let cell = ActiveCredential::new();
    cell.set(Secret::new(secret.to_owned()));
    cell
}

/// Returns the adapter for a provider at `url`, with this timeout and cell.
pub(crate) fn adapter_with(url: &Url, timeout: Duration, cell: ActiveCredential) -> OpenAiProvider {
    let settings = ProviderSettings {
        base_url: url.clone(),
        credential_file: None,
        organization: Some("org-1".to_owned()),
        ca_file: None,
        identity: None,
        request_timeout: timeout,
        max_in_flight: 1,
        reconcile_every: Duration::from_secs(21_600),
        trusted_paths: TrustedPaths::default(),
    };
    OpenAiProvider::new(&settings, cell)
}
