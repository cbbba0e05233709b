//! The HTTP client, with nothing left to defaults that matter.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect, retry};
use rustls::ClientConfig;
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

/// How long a connection that [`Clients::keeping`] is done with may be used
/// again: far below what any server waits before it closes one.
const KEPT: Duration = Duration::from_secs(1);

/// Two clients for one host.
#[derive(Debug)]
pub struct Clients {
    /// Opens a connection for each request: one that was kept could have been
    /// closed by the other side in the meantime, and what was sent into it
    /// would be unclear.
    pub opening: Client,
    /// Uses a connection of the last second again. For what can be asked once
    /// more without harm.
    pub keeping: Client,
}

/// Builds a client for the host of `limits.url`, and only for that.
///
/// It never repeats a request, follows no redirect, speaks HTTP/1.1, and opens
/// a connection for each request. Loopback targets are asked directly whatever
/// the environment says; for all others `HTTPS_PROXY` and its like count.
///
/// # Errors
/// The roots or the client cannot be set up, in words.
pub fn client(limits: &ClientLimits<'_>) -> Result<Client, String> {
    built(builder(limits, tls(limits)?))
}

/// Builds two clients as [`client`] does, of which one keeps its connections.
/// They trust the same roots, which are read once.
///
/// # Errors
/// The roots or the clients cannot be set up, in words.
pub fn clients(limits: &ClientLimits<'_>) -> Result<Clients, String> {
    let tls = tls(limits)?;
    let keeping = builder(limits, tls.clone())
        .pool_max_idle_per_host(usize::MAX)
        .pool_idle_timeout(KEPT);
    Ok(Clients {
        opening: built(builder(limits, tls))?,
        keeping: built(keeping)?,
    })
}

fn tls(limits: &ClientLimits<'_>) -> Result<ClientConfig, String> {
    if is_loopback(limits.url) && limits.url.scheme() == "http" {
        tls::without_roots()
    } else {
        tls::config(limits.ca_file)
    }
}

fn builder(limits: &ClientLimits<'_>, tls: ClientConfig) -> ClientBuilder {
    let builder = bare(tls)
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
fn bare(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls)
}

fn built(builder: ClientBuilder) -> Result<Client, String> {
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
    let tls = tls::without_roots()?;
    built(bare(tls).unix_socket(socket).no_proxy())
}
