//! The certificate authorities that the adapter and the probe trust.

use rekeyd::core::scope::Scope;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapter::credential_with;
use rekeyd::net::connect_check::check_connection;
use rekeyd::platform::path_walk::TrustedPaths;
use rekeyd::provider::openai::OpenAiProvider;
use rekeyd::provider::settings::ProviderSettings;
use rekeyd::provider::{Effect, ErrorKind, Provider};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A server with a certificate for `localhost`, by an authority that only `ca_file`
/// names.
struct TlsServer {
    directory: TempDir,
    port: u16,
}

impl TlsServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = crate::tls::acceptor(&folder.path().join("ca.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust the certificate closes the connection
                // here.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let page =
                        crate::canned_server::ok(r#"{"data":[{"id":"key_a"}],"has_more":false}"#);
                    // The probe sends no request and closes the connection.
                    if !crate::canned_server::read_request(&mut stream)
                        .await
                        .is_empty()
                    {
                        stream.write_all(&page).await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                }
            }
        });
        Self {
            directory: folder,
            port,
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn url(&self, host: &str) -> Url {
        let text = format!("https://{host}:{}/v1", self.port);
        text.parse().unwrap()
    }
}

fn provider_trusting(url: &Url, ca_file: Option<PathBuf>) -> OpenAiProvider {
    let settings = ProviderSettings {
        base_url: url.clone(),
        credential_file: None,
        organization: None,
        ca_file,
        request_timeout: TIMEOUT,
        max_in_flight: 1,
        reconcile_every: Duration::from_secs(21_600),
        trusted_paths: TrustedPaths::default(),
    };
    OpenAiProvider::new(&settings, credential_with(crate::adapter::OWN_SECRET))
}

#[tokio::test]
async fn configured_roots_are_trusted_for_their_host_name() {
    let server = TlsServer::start().await;
    let url = server.url("localhost");
    let provider = provider_trusting(&url, Some(server.ca_file()));
    let listed = provider.list(&Scope::AdminKeys).await.unwrap().value;
    assert_eq!(listed[0].metadata.id.as_str(), "key_a");
    let ca_file = server.ca_file();
    check_connection(&url, Some(&ca_file), TIMEOUT)
        .await
        .unwrap();

    let other = server.url("127.0.0.1");
    check_connection_is_rejected(&other, Some(ca_file)).await;
}

/// An authority may be replaced while the daemon runs.
#[tokio::test]
async fn replaced_roots_are_read_after_a_certificate_was_not_trusted() {
    let server = TlsServer::start().await;
    let replaced = tempfile::tempdir().unwrap();
    let ca_file = replaced.path().join("ca.pem");
    crate::tls::acceptor(&ca_file);
    let provider = provider_trusting(&server.url("localhost"), Some(ca_file.clone()));
    for _ in 0..2 {
        let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
        assert_eq!(error.effect, Effect::NotApplied);
        assert!(error.message.contains("certificate"), "{error}");
    }
    std::fs::copy(server.ca_file(), &ca_file).unwrap();
    provider.list(&Scope::AdminKeys).await.unwrap();
}

#[tokio::test]
async fn an_unconfigured_authority_is_not_trusted() {
    let server = TlsServer::start().await;
    check_connection_is_rejected(&server.url("localhost"), None).await;
    let unrelated_server = TlsServer::start().await;
    check_connection_is_rejected(&server.url("localhost"), Some(unrelated_server.ca_file())).await;
}

/// Asserts that neither the adapter nor the probe accepts the server at `url`, and that
/// nothing was sent.
async fn check_connection_is_rejected(url: &Url, ca_file: Option<PathBuf>) {
    let error = check_connection(url, ca_file.as_deref(), TIMEOUT)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = provider_trusting(url, ca_file)
        .list(&Scope::AdminKeys)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Unreachable, Effect::NotApplied)
    );
    assert!(error.message.contains("certificate"), "{error}");
}

/// As the check of a connection does.
#[tokio::test]
async fn unknown_authority_is_explained() {
    let server = TlsServer::start().await;
    let provider = provider_trusting(&server.url("localhost"), None);
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert!(
        error
            .message
            .contains("name the issuer's root certificate with ca-file"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreadable_ca_file_is_named_in_the_error() {
    let url = "https://localhost:9/v1".parse().unwrap();
    let provider = provider_trusting(&url, Some(PathBuf::from("/nowhere/ca.pem")));
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(error.message.contains("/nowhere/ca.pem"), "{error}");
}
