//! Whether a target can be reached: a connection and nothing sent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::loopback::is_loopback;

/// Connects to `url` as a request would (TCP, and TLS for https) and closes
/// the connection. Behind a proxy of the environment, only the proxy is
/// reached.
///
/// # Errors
/// Why it cannot be reached, in words.
pub async fn reach(
    url: &url::Url,
    ca_file: Option<&Path>,
    timeout: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, connect(url, ca_file)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no connection within {} s", timeout.as_secs())),
    }
}

async fn connect(url: &url::Url, ca_file: Option<&Path>) -> Result<(), String> {
    if let Some((host, port)) = proxy_of(url) {
        return tcp(&host, port)
            .await
            .map(|_| ())
            .map_err(|why| format!("the proxy: {why}"));
    }
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let stream = tcp(&host, url.port_or_known_default().unwrap_or(443)).await?;
    if url.scheme() != "https" {
        return Ok(());
    }
    let connector = TlsConnector::from(Arc::new(super::tls::config(ca_file)?));
    let name = ServerName::try_from(host.clone())
        .map_err(|_| format!("{host} is no name that a certificate can bear"))?;
    match connector.connect(name, stream).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("TLS with {host}: {error}")),
    }
}

fn proxy_of(url: &url::Url) -> Option<(String, u16)> {
    if is_loopback(url) {
        return None;
    }
    let target = url.as_str().parse().ok()?;
    let proxy = Matcher::from_env().intercept(&target)?;
    let port = proxy.uri().port_u16();
    Some((proxy.uri().host()?.to_owned(), port.unwrap_or(80)))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))
}
