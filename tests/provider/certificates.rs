//! Whom the adapter and the probe trust over https.

use std::path::PathBuf;
use std::time::Duration;

use crate::adapter::holding;
use rekeyd::core::settings::ProviderSettings;
use rekeyd::net::reach::reach;
use rekeyd::provider::openai::OpenAi;
use rekeyd::provider::{Cause, Outcome, Provider};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(5);

/// A server whose certificate is for `localhost`, by an authority that only
/// `ca_file` names.
struct Server {
    folder: TempDir,
    port: u16,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = crate::tls::acceptor(&folder.path().join("ca.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust it hangs up here.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let page = crate::canned::ok(r#"{"data":[{"id":"key_a"}],"has_more":false}"#);
                    // The probe asks nothing and hangs up.
                    if !crate::canned::read_request(&mut stream).await.is_empty() {
                        stream.write_all(&page).await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                }
            }
        });
        Self { folder, port }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn url(&self, host: &str) -> Url {
        let text = format!("https://{host}:{}/v1", self.port);
        text.parse().unwrap()
    }
}

fn trusting(url: &Url, ca_file: Option<PathBuf>) -> OpenAi {
    let settings = ProviderSettings {
        base_url: url.clone(),
        credential_file: None,
        organization: None,
        ca_file,
        request_timeout: PATIENCE,
        max_in_flight: 1,
        sweep_every: Duration::from_secs(21_600),
    };
    OpenAi::new(&settings, holding(crate::adapter::OWN))
}

#[tokio::test]
async fn the_roots_of_the_configuration_are_trusted_for_the_name_they_vouch_for() {
    let server = Server::start().await;
    let url = server.url("localhost");
    let provider = trusting(&url, Some(server.ca_file()));
    let listed = provider.list().await.unwrap().value;
    assert_eq!(listed[0].facts.id.as_str(), "key_a");
    let ca_file = server.ca_file();
    reach(&url, Some(&ca_file), PATIENCE).await.unwrap();

    let other = server.url("127.0.0.1");
    refused(&other, Some(ca_file)).await;
}

#[tokio::test]
async fn an_authority_that_nobody_named_is_not_trusted() {
    let server = Server::start().await;
    refused(&server.url("localhost"), None).await;
    let stranger = Server::start().await;
    refused(&server.url("localhost"), Some(stranger.ca_file())).await;
}

/// Neither the adapter nor the probe goes on with the server at `url`, and
/// nothing was sent.
async fn refused(url: &Url, ca_file: Option<PathBuf>) {
    let error = reach(url, ca_file.as_deref(), PATIENCE).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    let error = trusting(url, ca_file).list().await.unwrap_err();
    assert_eq!(
        (error.cause, error.outcome),
        (Cause::Unreachable, Outcome::NotDone)
    );
    assert!(error.message.contains("certificate"), "{error}");
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_named() {
    let url = "https://localhost:9/v1".parse().unwrap();
    let provider = trusting(&url, Some(PathBuf::from("/nowhere/ca.pem")));
    let error = provider.list().await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(error.message.contains("/nowhere/ca.pem"), "{error}");
}
