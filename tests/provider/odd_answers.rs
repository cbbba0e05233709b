//! Answers in a form that nobody asked for.

use rekeyd::core::scope::Scope;
use rekeyd::provider::{ErrorKind, Provider};

use crate::adapter::adapter;
use crate::canned_server::{CannedServer, response};

const PAGE: &str = r#"{"data":[]}"#;

/// Returns the error of a list that is answered like this; `None` if the page was read.
async fn list_error(status: &str, headers: &str, body: &[u8]) -> Option<(ErrorKind, String)> {
    let server = CannedServer::start(vec![response(status, headers, body)]).await;
    let listed = adapter(&server.url).list(&Scope::AdminKeys).await;
    listed.err().map(|error| (error.kind, error.to_string()))
}

#[tokio::test]
async fn byte_order_mark_is_left_out() {
    let body = format!("\u{feff}{PAGE}");
    assert_eq!(list_error("200 OK", "", body.as_bytes()).await, None);
    let error = "\u{feff}{\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\"}}";
    let (kind, _) = list_error("400 Bad Request", "", error.as_bytes())
        .await
        .unwrap();
    assert_eq!(kind, ErrorKind::Refused);
}

#[tokio::test]
async fn encoding_that_nobody_asked_for_is_named() {
    for (encoding, status, kind) in [
        ("gzip", "200 OK", ErrorKind::BadAnswer),
        ("br", "200 OK", ErrorKind::BadAnswer),
        ("gzip", "503 Service Unavailable", ErrorKind::ServerError),
        ("gzip", "404 Not Found", ErrorKind::BadAnswer),
    ] {
        let header = format!("content-encoding: {encoding}\r\n");
        let (found, message) = list_error(status, &header, b"\x1f\x8b\x08").await.unwrap();
        assert_eq!(found, kind, "{status}: {message}");
        let expected = format!("encoded as {encoding}, which rekeyd did not request");
        assert!(message.contains(&expected), "{message}");
    }
    let identity = list_error("200 OK", "content-encoding: identity\r\n", PAGE.as_bytes());
    assert_eq!(identity.await, None);
}

#[tokio::test]
async fn too_many_header_fields_are_named() {
    let few: String = (0..90).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert_eq!(list_error("200 OK", &few, PAGE.as_bytes()).await, None);
    let many: String = (0..120)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let (kind, message) = list_error("200 OK", &many, PAGE.as_bytes()).await.unwrap();
    assert_eq!(kind, ErrorKind::NoAnswer, "{message}");
    assert!(message.contains("more than 100 headers"), "{message}");
}
