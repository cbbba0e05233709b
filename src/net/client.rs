//! The HTTP client, with nothing left to defaults that matter.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, redirect, retry};
use url::Url;

use crate::core::loopback::is_loopback;
use crate::net::{failure, tls};

/// The time that connecting may take, TLS included. Part of the request's
/// time, and short, so that a dead address is told from a slow answer: only
/// the first proves that nothing was sent.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What one client is for.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits<'a> {
    /// What it will be asked for: decides on proxies and roots.
    pub url: &'a Url,
    /// The time of one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<&'a Path>,
}

/// Builds a client for the host of `limits.url`, and only for that.
///
/// It never repeats a request, follows no redirect, speaks HTTP/1.1, and opens
/// a connection for each request: one that was kept could have been closed by
/// the other side in the meantime, and what was sent into it would be unclear.
/// Loopback targets are asked directly whatever the environment says; for all
/// others `HTTPS_PROXY` and its like count.
///
/// # Errors
/// The roots or the client cannot be set up, in words.
pub fn client(limits: &ClientLimits<'_>) -> Result<Client, String> {
    let on_loopback = is_loopback(limits.url);
    let tls = if on_loopback && limits.url.scheme() == "http" {
        tls::without_roots()?
    } else {
        tls::config(limits.ca_file)?
    };
    let mut builder = Client::builder()
        .user_agent(concat!("rekeyd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(limits.timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .http1_only()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls);
    if on_loopback {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| format!("cannot set the HTTP client up: {}", failure::explain(error)))
}

/// A client for the HTTP server on a Unix socket of this host. Its requests
/// may take as long as they take: some wait for a delivery.
///
/// # Errors
/// The client cannot be set up, in words.
pub fn local_client(socket: &Path) -> Result<Client, String> {
    Client::builder()
        .unix_socket(socket)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls::without_roots()?)
        .build()
        .map_err(|error| format!("cannot set the HTTP client up: {}", failure::explain(error)))
}
