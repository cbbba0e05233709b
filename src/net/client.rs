//! The HTTP client, with every setting that matters written out.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Proxy, redirect, retry};
use rustls::ClientConfig;
use url::Url;

use crate::core::loopback::is_loopback;
use crate::net::address::HostResolver;
use crate::net::client_identity::ClientIdentity;
use crate::net::connection_use::OpenedConnections;
use crate::net::error_text;
use crate::net::proxy::{self, ProxyError};
use crate::net::tls::{self, TlsError};

/// The time limit of connecting, with TLS. It is part of the request's time and
/// short, so that a dead address is distinguished from a slow response: only
/// the first proves that nothing was sent. The client starts with the second
/// family of addresses after 300 ms, and divides this time among the addresses
/// of one family, so that a dead one does not use it up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The `User-Agent` of all requests.
pub(crate) const USER_AGENT_TEXT: &str = concat!("rekeyd/", env!("CARGO_PKG_VERSION"));

/// The reason why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The roots cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The environment names a proxy that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The library rejects the settings.
    #[error("cannot set up the HTTP client: {}", error_text::describe(source))]
    Setup {
        /// The error of the library, without a URL.
        source: reqwest::Error,
    },
}

/// The options of one client.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions<'a> {
    /// The URL of its requests; determines proxies and roots.
    pub url: &'a Url,
    /// The time limit of one request, from connecting to the last byte.
    pub timeout: Duration,
    /// The file with roots (PEM) to trust in addition to the system's.
    pub ca_file: Option<&'a Path>,
    /// The certificate to show a server that asks for one.
    pub identity: Option<&'a ClientIdentity>,
}

/// The time for which [`ClientPair::pooled`] reuses an idle connection: far
/// below what any server waits before it closes one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Two clients for one host.
#[derive(Debug)]
pub struct ClientPair {
    /// Opens a connection for each request. The server may have closed a pooled
    /// one in the meantime, and the outcome of a request on it would be
    /// uncertain.
    pub fresh: Client,
    /// Reuses a connection of the last second, for requests that may be
    /// repeated without harm.
    pub pooled: Client,
}

/// Builds a client for the host of `options.url` alone.
///
/// The client never repeats a request, follows no redirect, speaks HTTP/1.1,
/// and opens a connection for each request. It connects to loopback targets
/// directly, whatever the environment says; for all others it uses the proxy
/// that `HTTPS_PROXY` and its like name.
///
/// # Errors
/// If the roots or the proxy's variable cannot be read, or the client cannot be
/// set up.
pub fn build_client(options: &ClientOptions<'_>) -> Result<Client, ClientError> {
    finish_build(client_builder(options, tls_config(options)?)?)
}

/// Builds two clients as [`build_client`] does, one of which keeps its
/// connections. The roots that they trust are read once.
///
/// # Errors
/// If the roots cannot be read or the clients cannot be set up.
pub fn build_clients(options: &ClientOptions<'_>) -> Result<ClientPair, ClientError> {
    let tls = tls_config(options)?;
    let pooled = client_builder(options, tls.clone())?
        .pool_max_idle_per_host(usize::MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .connector_layer(OpenedConnections);
    Ok(ClientPair {
        fresh: finish_build(client_builder(options, tls)?)?,
        pooled: finish_build(pooled)?,
    })
}

fn tls_config(options: &ClientOptions<'_>) -> Result<ClientConfig, TlsError> {
    if is_loopback(options.url) && options.url.scheme() == "http" {
        tls::client_config_without_roots()
    } else {
        tls::client_config(options.ca_file, options.identity)
    }
}

fn client_builder(
    options: &ClientOptions<'_>,
    tls: ClientConfig,
) -> Result<ClientBuilder, ClientError> {
    let builder = base_builder(tls)
        .user_agent(USER_AGENT_TEXT)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(options.timeout)
        .referer(false)
        // The library would bypass a proxy that it cannot read.
        .no_proxy();
    Ok(match proxy::find_proxy(options.url)? {
        Some(proxy) => {
            let proxy = Proxy::all(proxy.url).map_err(|error| ClientError::Setup {
                source: error.without_url(),
            })?;
            builder.proxy(proxy)
        }
        None => builder,
    })
}

/// Returns the settings that all clients share.
fn base_builder(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls)
        .dns_resolver(HostResolver)
}

fn finish_build(builder: ClientBuilder) -> Result<Client, ClientError> {
    builder.build().map_err(|error| ClientError::Setup {
        source: error.without_url(),
    })
}
