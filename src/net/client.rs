//! The HTTP client, with nothing left to defaults that matter.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect, retry};
use rustls::ClientConfig;
use url::Url;

use crate::core::loopback::is_loopback;
use crate::net::{error_text, tls};

/// The time that connecting may take, TLS included. Part of the request's
/// time, and short, so that a dead address is told from a slow answer: only
/// the first proves that nothing was sent.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What one client is for.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions<'a> {
    /// What it will be asked for: decides on proxies and roots.
    pub url: &'a Url,
    /// The time of one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<&'a Path>,
}

/// How long a connection that [`ClientPair::pooled`] is done with may be used
/// again: far below what any server waits before it closes one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Two clients for one host.
#[derive(Debug)]
pub struct ClientPair {
    /// Opens a connection for each request: one that was kept could have been
    /// closed by the other side in the meantime, and what was sent into it
    /// would be unclear.
    pub fresh: Client,
    /// Uses a connection of the last second again. For what can be asked once
    /// more without harm.
    pub pooled: Client,
}

/// Builds a client for the host of `limits.url`, and only for that.
///
/// It never repeats a request, follows no redirect, speaks HTTP/1.1, and opens
/// a connection for each request. Loopback targets are asked directly whatever
/// the environment says; for all others `HTTPS_PROXY` and its like count.
///
/// # Errors
/// The roots or the client cannot be set up, in words.
pub fn build_client(limits: &ClientOptions<'_>) -> Result<Client, String> {
    finish_build(client_builder(limits, tls_config(limits)?))
}

/// Builds two clients as [`build_client`] does, of which one keeps its connections.
/// They trust the same roots, which are read once.
///
/// # Errors
/// The roots or the clients cannot be set up, in words.
pub fn build_clients(limits: &ClientOptions<'_>) -> Result<ClientPair, String> {
    let tls = tls_config(limits)?;
    let keeping = client_builder(limits, tls.clone())
        .pool_max_idle_per_host(usize::MAX)
        .pool_idle_timeout(IDLE_TIMEOUT);
    Ok(ClientPair {
        fresh: finish_build(client_builder(limits, tls))?,
        pooled: finish_build(keeping)?,
    })
}

fn tls_config(limits: &ClientOptions<'_>) -> Result<ClientConfig, String> {
    if is_loopback(limits.url) && limits.url.scheme() == "http" {
        tls::client_config_without_roots()
    } else {
        tls::client_config(limits.ca_file)
    }
}

fn client_builder(limits: &ClientOptions<'_>, tls: ClientConfig) -> ClientBuilder {
    let builder = base_builder(tls)
        .user_agent(concat!("rekeyd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(limits.timeout)
        .referer(false);
    if is_loopback(limits.url) {
        builder.no_proxy()
    } else {
        builder
    }
}

/// What holds for every client here.
fn base_builder(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls)
}

fn finish_build(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| {
        format!(
            "cannot set the HTTP client up: {}",
            error_text::explain(error)
        )
    })
}

/// A client for the HTTP server on a Unix socket of this host. Its requests
/// may take as long as they take: some wait for a delivery.
///
/// # Errors
/// The client cannot be set up, in words.
pub fn build_unix_client(socket: &Path) -> Result<Client, String> {
    let tls = tls::client_config_without_roots()?;
    finish_build(base_builder(tls).unix_socket(socket).no_proxy())
}
