//! Which requests use the proxy of the environment.

use rekeyd::core::scope::Scope;
use std::time::Duration;

use crate::adapter::adapter;
use crate::canned_server::{CannedServer, ok, response};
use rekeyd::net::connect_check::check_connection;
use rekeyd::provider::{ErrorKind, Provider};
use url::Url;

/// Runs this test again in a process whose environment names a proxy, because a process
/// cannot change its own environment safely.
#[tokio::test]
async fn loopback_requests_bypass_the_proxy() {
    const CHILD: &str = "REKEYD_TEST_BEHIND_A_PROXY";
    let direct = CannedServer::start(vec![ok(r#"{"data":[]}"#)]).await;
    if std::env::var_os(CHILD).is_some() {
        adapter(&direct.url).list(&Scope::AdminKeys).await.unwrap();
        let other = Url::parse("http://rekeyd.invalid/v1").unwrap();
        let error = adapter(&other).list(&Scope::AdminKeys).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ServerError, "{error}");
        let patience = Duration::from_secs(5);
        check_connection(&other, None, patience).await.unwrap();
        return;
    }
    let proxy = CannedServer::start(vec![response("502 No", "", b"from the proxy")]).await;
    let address = format!("http://127.0.0.1:{}", proxy.url.port().unwrap());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "proxy::loopback_requests_bypass_the_proxy"])
        .env(CHILD, "1")
        .env("HTTP_PROXY", &address)
        .env("http_proxy", &address)
        .env("ALL_PROXY", &address)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let run = tokio::task::spawn_blocking(move || child.output().unwrap());
    let output = run.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    let requests = proxy.requests();
    let requests: Vec<_> = requests.iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(requests.len(), 1, "{text}");
    assert!(requests[0].starts_with("GET http://rekeyd.invalid/v1/"));
}
