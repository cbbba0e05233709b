//! The certificate authorities that the adapter and the probe trust.

use rekeyd::core::scope::Scope;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapter::credential_with;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rekeyd::core::secret::Secret;
use rekeyd::net::client_identity::ClientIdentityFiles;
use rekeyd::net::connect_check::check_connection;
use rekeyd::platform::path_walk::TrustedPaths;
use rekeyd::provider::openai::OpenAiProvider;
use rekeyd::provider::settings::ProviderSettings;
use rekeyd::provider::{Effect, ErrorKind, Provider};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
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
        Self::start_with(crate::tls::acceptor).await
    }

    /// Starts one with an acceptor that writes its authority to a file.
    async fn start_with(make_acceptor: impl FnOnce(&Path) -> TlsAcceptor) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = make_acceptor(&folder.path().join("ca.pem"));
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
    provider_with(url, ca_file, None)
}

fn provider_with(
    url: &Url,
    ca_file: Option<PathBuf>,
    identity: Option<ClientIdentityFiles>,
) -> OpenAiProvider {
    let settings = ProviderSettings {
        base_url: url.clone(),
        credential_file: None,
        organization: None,
        ca_file,
        identity,
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
    check_connection(&url, Some(&ca_file), None, TIMEOUT)
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
    let error = check_connection(url, ca_file.as_deref(), None, TIMEOUT)
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

/// How long a change of files may take to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists until that succeeds, or until it fails.
async fn list_until(provider: &OpenAiProvider, is_to_succeed: bool) {
    let started = Instant::now();
    while provider.list(&Scope::AdminKeys).await.is_ok() != is_to_succeed {
        assert!(started.elapsed() < PATIENCE, "expected {is_to_succeed}");
    }
}

/// Trust ends with the file that gave it, also while connections succeed.
#[tokio::test]
async fn root_that_left_the_file_is_no_longer_trusted() {
    let server = TlsServer::start().await;
    let replaced = tempfile::tempdir().unwrap();
    let ca_file = replaced.path().join("ca.pem");
    std::fs::copy(server.ca_file(), &ca_file).unwrap();
    let provider = provider_trusting(&server.url("localhost"), Some(ca_file.clone()));
    provider.list(&Scope::AdminKeys).await.unwrap();
    // Half of a file that is being written changes nothing.
    std::fs::write(&ca_file, "-----BEGIN CERTIFICATE-----\nMII").unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2_500) {
        provider.list(&Scope::AdminKeys).await.unwrap();
    }
    crate::tls::acceptor(&ca_file);
    list_until(&provider, false).await;
    std::fs::copy(server.ca_file(), &ca_file).unwrap();
    list_until(&provider, true).await;
}

/// An authority that issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Writes a certificate and its key.
    fn issue_to(&self, files: &ClientIdentityFiles) {
        use std::os::unix::fs::PermissionsExt as _;
        let (certificate, key) = self.issue("rekeyd");
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&files.key, private).unwrap();
    }

    /// Returns an acceptor that lets in nobody but clients with a certificate by this
    /// authority.
    fn acceptor(&self, ca_file: &Path) -> TlsAcceptor {
        let own = Self::new();
        std::fs::write(ca_file, own.0.pem()).unwrap();
        let (certificate, key) = own.issue("localhost");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let authority: &Certificate = self.0.as_ref();
        let mut clients = RootCertStore::empty();
        clients.add(authority.der().clone()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&ring));
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A proxy that inspects TLS may let in only clients that it knows.
#[tokio::test]
async fn client_certificate_is_shown_and_follows_its_files() {
    let clients = Authority::new();
    let server = TlsServer::start_with(|ca_file| clients.acceptor(ca_file)).await;
    let (url, ca_file) = (server.url("localhost"), server.ca_file());
    let without = provider_trusting(&url, Some(ca_file.clone()));
    let error = without.list(&Scope::AdminKeys).await.unwrap_err();
    assert_ne!(error.kind, ErrorKind::CredentialRefused, "{error}");

    let folder = tempfile::tempdir().unwrap();
    let files = ClientIdentityFiles {
        certificate: folder.path().join("client.pem"),
        key: folder.path().join("client.key"),
    };
    let provider = provider_with(&url, Some(ca_file.clone()), Some(files.clone()));
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(
        error.message.contains("cannot read client-certificate"),
        "{error}"
    );
    Authority::new().issue_to(&files);
    provider.list(&Scope::AdminKeys).await.unwrap_err();
    // Renewed, without another start.
    clients.issue_to(&files);
    list_until(&provider, true).await;
    let identity = files.read(|path| {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Ok(Secret::new(text))
    });
    let identity = identity.unwrap();
    check_connection(&url, Some(&ca_file), Some(&identity), TIMEOUT)
        .await
        .unwrap();
    Authority::new().issue_to(&files);
    list_until(&provider, false).await;
}
