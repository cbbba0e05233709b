//! The HTTP adapter with a credential of its own.
#![allow(dead_code)]

use std::time::Duration;

use rekeyd::core::secret::{CredentialCell, Secret};
use rekeyd::core::settings::ProviderSettings;
use rekeyd::provider::openai::OpenAi;
use url::Url;

/// The credential that [`adapter`] asks with.
pub(crate) const OWN: &str = "sk-admin-our-own-secret-1234";

/// The adapter for a provider at `url`.
pub(crate) fn adapter(url: &Url) -> OpenAi {
    with(url, Duration::from_secs(10), holding(OWN))
}

/// A cell with a credential in it.
pub(crate) fn holding(secret: &str) -> CredentialCell {
    let cell = CredentialCell::new();
    cell.set(Secret::new(secret.to_owned()));
    cell
}

/// The adapter for a provider at `url`, with all that it depends on.
pub(crate) fn with(url: &Url, timeout: Duration, cell: CredentialCell) -> OpenAi {
    let settings = ProviderSettings {
        base_url: url.clone(),
        credential_file: None,
        organization: Some("org-1".to_owned()),
        ca_file: None,
        request_timeout: timeout,
        max_in_flight: 1,
        sweep_every: Duration::from_secs(21_600),
    };
    OpenAi::new(&settings, cell)
}
