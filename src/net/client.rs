//! The HTTP client with every limit written out.

use std::path::Path;
use std::time::Duration;

use crate::core::loopback::is_loopback;
use crate::net::failure;

/// The longest that connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is not kept longer: servers close theirs, and a request
/// on a connection that is just being closed has an unclear outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client may do.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits<'a> {
    /// Where it is to connect to.
    pub url: &'a url::Url,
    /// The time one request may take, from connecting to the last byte.
    pub timeout: Duration,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<&'a Path>,
}

/// Builds a client for one target. It follows no redirect, repeats nothing by
/// itself, speaks HTTP/1.1, and asks a proxy of the environment unless the
/// target is on loopback.
///
/// # Errors
/// Why it cannot be built, in words.
pub fn client(limits: &ClientLimits<'_>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("rekeyd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(limits.timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .referer(false);
    if is_loopback(limits.url) {
        builder = builder.no_proxy();
    }
    // Loading the system's roots costs milliseconds that plain http can spare.
    let config = if limits.url.scheme() == "https" {
        super::tls::config(limits.ca_file)?
    } else {
        super::tls::rootless()?
    };
    builder
        .tls_backend_preconfigured(config)
        .build()
        .map_err(|error| failure::text(&error))
}
