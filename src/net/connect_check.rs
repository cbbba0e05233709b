//! A check that a host accepts connections, which sends no request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::core::loopback::is_loopback;
use crate::net::{error_text, tls};

/// Connects to the host of `url`, with a TLS handshake for https, and
/// disconnects. Where the environment names a proxy, only the connection to the
/// proxy is checked, since reaching the host behind it takes a request.
///
/// # Errors
/// The host that cannot be reached, and why.
pub async fn check_connection(
    url: &Url,
    ca_file: Option<&Path>,
    timeout: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, try_connect(url, ca_file)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(format!(
            "cannot connect to {}: no answer within {timeout:?}",
            url.host_str().unwrap_or("the target")
        )),
    }
}

async fn try_connect(url: &Url, ca_file: Option<&Path>) -> Result<(), String> {
    if !is_loopback(url)
        && let Some((host, port)) = proxy_for(url)?
    {
        connect_tcp(&host, port, "the proxy ").await?;
        return Ok(());
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err("cannot connect: the URL names no host".to_owned()),
    };
    let port = url
        .port_or_known_default()
        .ok_or_else(|| format!("cannot connect to {host}: the URL names no port"))?;
    let stream = connect_tcp(&host, port, "").await?;
    if url.scheme() == "https" {
        tls_handshake(&host, stream, ca_file).await?;
    }
    Ok(())
}

/// Returns host and port of the proxy that the environment names for `url`.
fn proxy_for(url: &Url) -> Result<Option<(String, u16)>, String> {
    // Neither the path nor the query affects the choice of a proxy.
    let origin = url.origin().ascii_serialization();
    let target = origin
        .parse()
        .map_err(|error| format!("cannot look for a proxy for {origin}: {error}"))?;
    let Some(proxy) = Matcher::from_env().intercept(&target) else {
        return Ok(None);
    };
    let uri = proxy.uri();
    let Some(host) = uri.host() else {
        return Err("cannot use the proxy of the environment: it names no host".to_owned());
    };
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        Some(scheme) if scheme.starts_with("socks") => 1080,
        Some(_) | None => 80,
    });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Some((host.to_owned(), port)))
}

async fn connect_tcp(host: &str, port: u16, role: &str) -> Result<TcpStream, String> {
    TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("cannot connect to {role}{host}:{port}: {error}"))
}

async fn tls_handshake(
    host: &str,
    stream: TcpStream,
    ca_file: Option<&Path>,
) -> Result<(), String> {
    let config = tls::client_config(ca_file)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| format!("cannot use {host} as a TLS name: {error}"))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| {
            format!(
                "the TLS handshake with {host} failed: {}",
                error_text::chain(&error)
            )
        })?;
    Ok(())
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
        assert_eq!(check_connection(&url, None, TIMEOUT).await, Ok(()));
        drop(listener);
        let error = check_connection(&url, None, TIMEOUT).await.unwrap_err();
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
        assert!(outcome.unwrap_err().contains("TLS handshake"));
    }
}
