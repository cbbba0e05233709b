//! A check that a host accepts connections, which sends no request.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::core::duration;
use crate::net::client_identity::ClientIdentity;
use crate::net::proxy::{self, ProxyAddress, ProxyError};
use crate::net::proxy_tunnel::open_tunnel;
use crate::net::tls::{self, TlsError};
use crate::net::{address, error_text};

/// The reason why a host accepts no connection. Never shows the path or the
/// query of the URL.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection took too long.
    #[error("cannot connect to {host}: timed out after {}", duration::to_text(*limit))]
    TimedOut {
        /// The host of the URL.
        host: String,
        /// The time it had.
        limit: Duration,
    },
    /// The URL has no host.
    #[error("cannot connect: the URL has no host")]
    NoHost,
    /// The URL has no port, and its scheme implies none.
    #[error("cannot connect to {host}: the URL has no port")]
    NoPort {
        /// The host of the URL.
        host: String,
    },
    /// The environment names a proxy that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The proxy does not accept the connection.
    #[error(
        "cannot connect to the proxy {host}:{port}: {}",
        error_text::explain_causes(source)
    )]
    ProxyUnreachable {
        /// The host of the proxy.
        host: String,
        /// The port of the proxy.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// The proxy opens no connection to the host.
    #[error(
        "the proxy {proxy} opens no connection to {host}: {reason}; hint: let the proxy allow \
         it, or exempt the host in $NO_PROXY"
    )]
    ProxyRefused {
        /// The host and port of the proxy.
        proxy: String,
        /// The host and port of the URL.
        host: String,
        /// What the proxy answered.
        reason: String,
    },
    /// The host does not accept the connection.
    #[error(
        "cannot connect to {host}:{port}: {}",
        error_text::explain_causes(source)
    )]
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
    #[error("cannot use {host} as a TLS server name: {source}")]
    TlsName {
        /// The host of the URL.
        host: String,
        /// The error of the parser.
        source: InvalidDnsNameError,
    },
    /// The host does not speak TLS, or presents a certificate that is not
    /// trusted.
    #[error(
        "TLS handshake with {host} failed: {}",
        error_text::explain_causes(source)
    )]
    Handshake {
        /// The host of the URL.
        host: String,
        /// The error of the handshake.
        source: io::Error,
    },
}

/// Connects to the host of `url`, with a TLS handshake for https, and
/// disconnects. Where the environment names a proxy, it is only asked for a connection to
/// the host.
///
/// # Errors
/// If the host, or the proxy to it, cannot be reached.
pub async fn check_connection(
    url: &Url,
    ca_file: Option<&Path>,
    identity: Option<&ClientIdentity>,
    timeout: Duration,
) -> Result<(), ConnectError> {
    match tokio::time::timeout(timeout, try_connect(url, ca_file, identity)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(ConnectError::TimedOut {
            host: describe_way(url),
            limit: timeout,
        }),
    }
}

/// Returns the host of `url` and the proxy to it.
fn describe_way(url: &Url) -> String {
    let peer = proxy::describe_peer(url);
    peer.strip_prefix(" at ").unwrap_or("the host").to_owned()
}

async fn try_connect(
    url: &Url,
    ca_file: Option<&Path>,
    identity: Option<&ClientIdentity>,
) -> Result<(), ConnectError> {
    if let Some(proxy) = proxy::find_proxy(url)? {
        let ProxyAddress { host, port, .. } = proxy.clone();
        let unreachable = |source| ConnectError::ProxyUnreachable {
            host: host.clone(),
            port,
            source,
        };
        let addresses = address::resolve(&host, port).await.map_err(unreachable)?;
        let connected = address::try_each(addresses, TcpStream::connect).await;
        let stream = connected.map_err(|errors| unreachable(most_telling(errors)))?;
        let (Some(target), Some(target_port)) = (url.host_str(), url.port_or_known_default())
        else {
            return Err(ConnectError::NoHost);
        };
        let opened = open_tunnel(stream, &proxy, url, target, target_port).await;
        return opened.map_err(|reason| ConnectError::ProxyRefused {
            proxy: format!("{host}:{port}"),
            host: format!("{target}:{target_port}"),
            reason,
        });
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
    let tls = (url.scheme() == "https").then(|| TlsParty::new(&host, ca_file, identity));
    let tls = tls.transpose()?;
    let unreachable = |source| ConnectError::Unreachable {
        host: host.clone(),
        port,
        source,
    };
    let addresses = address::resolve(&host, port).await.map_err(unreachable)?;
    // As a delivery's client does, another address is tried when one does not
    // complete the handshake.
    let attempt = |address| connect(address, tls.clone());
    address::try_each(addresses, attempt)
        .await
        .map_err(|errors| {
            let (handshake, connect): (Vec<_>, Vec<_>) = errors
                .into_iter()
                .partition(|(step, _)| *step == ConnectStep::Handshake);
            let errors =
                |list: Vec<(ConnectStep, io::Error)>| list.into_iter().map(|(_, error)| error);
            match errors(handshake).next() {
                Some(source) => ConnectError::Handshake {
                    host: host.clone(),
                    source,
                },
                None => unreachable(most_telling(errors(connect).collect())),
            }
        })
}

/// The server of a handshake, and what proves that it is the right one.
#[derive(Clone)]
struct TlsParty {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsParty {
    fn new(
        host: &str,
        ca_file: Option<&Path>,
        identity: Option<&ClientIdentity>,
    ) -> Result<Self, ConnectError> {
        let config = tls::client_config(ca_file, identity)?;
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|source| ConnectError::TlsName {
            host: host.to_owned(),
            source,
        })?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name })
    }
}

/// The step in which an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectStep {
    Connect,
    Handshake,
}

async fn connect(
    address: SocketAddr,
    tls: Option<TlsParty>,
) -> Result<(), (ConnectStep, io::Error)> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| (ConnectStep::Connect, error))?;
    if let Some(TlsParty { connector, name }) = tls {
        let shaken = connector.connect(name, stream).await;
        shaken.map_err(|error| (ConnectStep::Handshake, error))?;
    }
    Ok(())
}

/// Returns the error that says most of why no address of a host answers: one
/// of a host rather than one of this host's network, which may lack a family.
pub(super) fn most_telling(errors: Vec<io::Error>) -> io::Error {
    let is_local = |error: &io::Error| {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, Unsupported};
        matches!(
            error.kind(),
            AddrNotAvailable | HostUnreachable | NetworkUnreachable | Unsupported
        )
    };
    let (local, mut remote): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_local);
    remote.extend(local);
    let none = || io::Error::from(io::ErrorKind::NotConnected);
    remote.into_iter().next().unwrap_or_else(none)
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
        check_connection(&url, None, None, TIMEOUT).await.unwrap();
        drop(listener);
        let error = check_connection(&url, None, None, TIMEOUT)
            .await
            .unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(&format!("cannot connect to 127.0.0.1:{port}")),
            "{error}"
        );
        assert!(!error.contains("token"), "{error}");
    }

    /// `localhost` has two addresses, of which only the second answers.
    #[tokio::test]
    async fn second_address_is_tried_when_the_first_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "localhost.", "a.localhost"] {
            let url = Url::parse(&format!("http://{host}:{port}/")).unwrap();
            check_connection(&url, None, None, TIMEOUT).await.unwrap();
        }
    }

    #[test]
    fn refusal_says_more_than_a_network_without_a_family() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NetworkUnreachable};
        for (kinds, expected) in [
            (
                &[NetworkUnreachable, ConnectionRefused][..],
                ConnectionRefused,
            ),
            (&[ConnectionRefused, NetworkUnreachable], ConnectionRefused),
            (&[ConnectionReset, ConnectionRefused], ConnectionReset),
            (&[NetworkUnreachable], NetworkUnreachable),
        ] {
            let errors = kinds.iter().map(|kind| io::Error::from(*kind)).collect();
            assert_eq!(most_telling(errors).kind(), expected);
        }
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
        let (outcome, ()) = tokio::join!(check_connection(&url, None, None, TIMEOUT), hang_up);
        let error = outcome.unwrap_err().to_string();
        let expected = "TLS handshake with 127.0.0.1 failed: ";
        assert!(error.starts_with(expected), "{error}");
    }

    /// Serves TLS with a certificate that it has issued itself, and checks the
    /// connection to it with that certificate as the root.
    async fn check_own_root(is_authority: bool) -> Result<(), ConnectError> {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        if is_authority {
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let certificate = parameters.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            // An error means that the client refuses the certificate.
            let _ = acceptor.accept(stream).await;
        };
        let url = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
        let check = check_connection(&url, Some(file.path()), None, TIMEOUT);
        tokio::join!(check, serve).0
    }

    #[tokio::test]
    async fn certificate_as_its_own_root_is_taken_or_refused_with_advice() {
        check_own_root(false).await.unwrap();
        let error = check_own_root(true).await.unwrap_err().to_string();
        assert!(
            error.contains("basicConstraints=critical,CA:FALSE"),
            "{error}"
        );
    }
}
