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
        check_connection(&other, None, None, patience)
            .await
            .unwrap();
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

/// Answers one SOCKS5 request, and then one HTTP request as the host behind it. Returns
/// the name and the port that were asked for.
async fn serve_socks_once(listener: tokio::net::TcpListener) -> (String, u16) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..4], [5, 1, 0, 3], "a name, which the proxy resolves");
    let mut rest = vec![0; usize::from(head[4]) + 2];
    stream.read_exact(&mut rest).await.unwrap();
    let port = rest.split_off(rest.len() - 2);
    stream
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await.unwrap();
    let body = r#"{"data":[]}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    (
        String::from_utf8(rest).unwrap(),
        u16::from_be_bytes([port[0], port[1]]),
    )
}

#[tokio::test]
async fn requests_use_the_socks_proxy() {
    const CHILD: &str = "REKEYD_TEST_BEHIND_A_SOCKS_PROXY";
    let other = Url::parse("http://rekeyd.invalid/v1").unwrap();
    if std::env::var_os(CHILD).is_some() {
        adapter(&other).list(&Scope::AdminKeys).await.unwrap();
        return;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("socks5h://{}", listener.local_addr().unwrap());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "proxy::requests_use_the_socks_proxy"])
        .env(CHILD, "1")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env("ALL_PROXY", &address)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let run = tokio::task::spawn_blocking(move || child.output().unwrap());
    let (asked, output) = tokio::join!(serve_socks_once(listener), run);
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    assert!(text.contains("1 passed"), "{text}");
    assert_eq!(asked, ("rekeyd.invalid".to_owned(), 80));
}

/// A variable that cannot be read stops every request before it is sent.
#[tokio::test]
async fn unreadable_proxy_is_not_bypassed() {
    const CHILD: &str = "REKEYD_TEST_BEHIND_AN_UNREADABLE_PROXY";
    if std::env::var_os(CHILD).is_some() {
        let other = Url::parse("http://rekeyd.invalid/v1").unwrap();
        let error = adapter(&other).list(&Scope::AdminKeys).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(
            error.message.contains("the proxy in $HTTP_PROXY"),
            "{error}"
        );
        let error = check_connection(&other, None, None, Duration::from_secs(5)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the proxy in $HTTP_PROXY"), "{error}");
        return;
    }
    for value in [
        "http://exa mple:1",
        "socks://127.0.0.1:1",
        "ftp://127.0.0.1",
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child
            .args(["--exact", "proxy::unreadable_proxy_is_not_bypassed"])
            .env(CHILD, "1")
            .env("HTTP_PROXY", value)
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("1 passed"), "{value}: {text}");
    }
}
