//! A check that a host accepts connections, which sends no request.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::InvalidUri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::core::loopback::is_loopback;
use crate::net::error_text;
use crate::net::tls::{self, TlsError};

/// The reason why a host accepts no connection. Never shows the path or the
/// query of the URL.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection took too long.
    #[error("cannot connect to {host}: no answer within {limit:?}")]
    TimedOut {
        /// The host of the URL.
        host: String,
        /// The time it had.
        limit: Duration,
    },
    /// The URL has no host.
    #[error("cannot connect: the URL names no host")]
    NoHost,
    /// The URL has no port, and its scheme implies none.
    #[error("cannot connect to {host}: the URL names no port")]
    NoPort {
        /// The host of the URL.
        host: String,
    },
    /// The URL is none that a proxy can be chosen for.
    #[error("cannot look for a proxy for {origin}: {source}")]
    ProxyLookup {
        /// Scheme, host and port of the URL.
        origin: String,
        /// The error of the parser.
        source: InvalidUri,
    },
    /// The environment names a proxy without a host.
    #[error("cannot use the proxy of the environment: it names no host")]
    ProxyWithoutHost,
    /// The proxy does not accept the connection.
    #[error("cannot connect to the proxy {host}:{port}: {source}")]
    ProxyUnreachable {
        /// The host of the proxy.
        host: String,
        /// The port of the proxy.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// The host does not accept the connection.
    #[error("cannot connect to {host}:{port}: {source}")]
    Unreachable {
        /// The host of the URL.
        host: String,
        /// The port of the URL.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// The roots to trust cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host cannot be the name in a certificate.
    #[error("cannot use {host} as a TLS name: {source}")]
    TlsName {
        /// The host of the URL.
        host: String,
        /// The error of the parser.
        source: InvalidDnsNameError,
    },
    /// The host does not speak TLS, or presents a certificate that is not
    /// trusted.
    #[error("the TLS handshake with {host} failed: {}", error_text::chain(source))]
    Handshake {
        /// The host of the URL.
        host: String,
        /// The error of the handshake.
        source: io::Error,
    },
}

/// Connects to the host of `url`, with a TLS handshake for https, and
/// disconnects. Where the environment names a proxy, only the connection to the
/// proxy is checked, since reaching the host behind it takes a request.
///
/// # Errors
/// If the host, or the proxy to it, cannot be reached.
pub async fn check_connection(
    url: &Url,
    ca_file: Option<&Path>,
    timeout: Duration,
) -> Result<(), ConnectError> {
    match tokio::time::timeout(timeout, try_connect(url, ca_file)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(ConnectError::TimedOut {
            host: url.host_str().unwrap_or("the target").to_owned(),
            limit: timeout,
        }),
    }
}

async fn try_connect(url: &Url, ca_file: Option<&Path>) -> Result<(), ConnectError> {
    if !is_loopback(url)
        && let Some((host, port)) = proxy_for(url)?
    {
        return match TcpStream::connect((host.as_str(), port)).await {
            Ok(_) => Ok(()),
            Err(source) => Err(ConnectError::ProxyUnreachable { host, port, source }),
        };
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(ConnectError::NoHost),
    };
    let Some(port) = url.port_or_known_default() else {
        return Err(ConnectError::NoPort { host });
    };
    let stream = match TcpStream::connect((host.as_str(), port)).await {
        Ok(stream) => stream,
        Err(source) => return Err(ConnectError::Unreachable { host, port, source }),
    };
    if url.scheme() == "https" {
        tls_handshake(host, stream, ca_file).await?;
    }
    Ok(())
}

/// Returns host and port of the proxy that the environment names for `url`.
fn proxy_for(url: &Url) -> Result<Option<(String, u16)>, ConnectError> {
    // Neither the path nor the query affects the choice of a proxy.
    let origin = url.origin().ascii_serialization();
    let target = match origin.parse() {
        Ok(target) => target,
        Err(source) => return Err(ConnectError::ProxyLookup { origin, source }),
    };
    let Some(proxy) = Matcher::from_env().intercept(&target) else {
        return Ok(None);
    };
    let uri = proxy.uri();
    let Some(host) = uri.host() else {
        return Err(ConnectError::ProxyWithoutHost);
    };
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        Some(scheme) if scheme.starts_with("socks") => 1080,
        Some(_) | None => 80,
    });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Some((host.to_owned(), port)))
}

async fn tls_handshake(
    host: String,
    stream: TcpStream,
    ca_file: Option<&Path>,
) -> Result<(), ConnectError> {
    let config = tls::client_config(ca_file)?;
    let name = match ServerName::try_from(host.clone()) {
        Ok(name) => name,
        Err(source) => return Err(ConnectError::TlsName { host, source }),
    };
    let connector = TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(_) => Ok(()),
        Err(source) => Err(ConnectError::Handshake { host, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn open_port_connects_and_closed_port_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}/hook?token=x")).unwrap();
        check_connection(&url, None, TIMEOUT).await.unwrap();
        drop(listener);
        let error = check_connection(&url, None, TIMEOUT).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(&format!("cannot connect to 127.0.0.1:{port}")),
            "{error}"
        );
        assert!(!error.contains("token"), "{error}");
    }

    #[tokio::test]
    async fn https_to_a_server_without_tls_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
        let hang_up = async {
            let (stream, _) = listener.accept().await.unwrap();
            drop(stream);
        };
        let (outcome, ()) = tokio::join!(check_connection(&url, None, TIMEOUT), hang_up);
        let error = outcome.unwrap_err().to_string();
        let expected = "the TLS handshake with 127.0.0.1 failed: ";
        assert!(error.starts_with(expected), "{error}");
    }
}
