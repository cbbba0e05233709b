//! Stand-in with the shape that the sinks are written against.

use std::path::Path;
use std::time::Duration;

/// What a client may do.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits<'a> {
    /// Where it is to connect to.
    pub url: &'a url::Url,
    /// The time one request may take.
    pub timeout: Duration,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<&'a Path>,
}

/// Builds a client.
///
/// # Errors
/// Why it cannot be built, in words.
pub fn client(limits: &ClientLimits<'_>) -> Result<reqwest::Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(limits.timeout)
        .connect_timeout(limits.timeout / 2)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .no_proxy()
        .build()
        .map_err(|error| error.without_url().to_string())
}
