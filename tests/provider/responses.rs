//! How the HTTP adapter handles responses that the sandbox never sends: canned bytes from
//! a test server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::adapter::{OWN_SECRET, adapter};
use crate::canned_server::{CannedServer, ok, response};
use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::Secret;
use rekeyd::provider::{
    CreatedCredential, Effect, ErrorKind, Provider, ProviderError, RetryAdvice,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use url::Url;

async fn create_with_response(bytes: Vec<u8>) -> Result<CreatedCredential, ProviderError> {
    let server = CannedServer::start(vec![bytes]).await;
    let label = Label::from_recorded("billing-20261123T030000Z-5f3a9c".to_owned());
    let outcome = adapter(&server.url).create(&label, None).await;
    assert_eq!(
        server.requests().len(),
        1,
        "one request, whatever is answered"
    );
    outcome.map(|answer| answer.value)
}

fn credential_id() -> CredentialId {
    CredentialId::new("key_abc".to_owned())
}

#[tokio::test]
async fn both_official_examples_are_accepted() {
    let april = r#"{"id":"key_abc","created_at":1711471533,"last_used_at":1711471534,"name":"Administration Key","object":"organization.admin_api_key","owner":{"id":"sa_456","created_at":1711471533,"name":"My Service Account","object":"organization.user","role":"owner","type":"user"},"redacted_value":"sk-admin...def","value":"sk-admin-1234abcd"}"#;
    let later = r#"{"object":"organization.admin_api_key","id":"key_xyz","name":"New Admin Key","redacted_value":"sk-admin...xyz","created_at":1711471533,"last_used_at":1711471534,"owner":{"type":"user","object":"organization.user","id":"user_123","name":"John Doe","created_at":1711471533,"role":"owner"},"value":"sk-admin-1234abcd"}"#;
    for (body, id, redacted) in [
        (april, "key_abc", "sk-admin...def"),
        (later, "key_xyz", "sk-admin...xyz"),
    ] {
        let made = create_with_response(ok(body)).await.unwrap();
        assert_eq!(made.metadata.id.as_str(), id);
        assert_eq!(made.secret.unwrap().expose(), "sk-admin-1234abcd");
        assert_eq!(made.metadata.redacted_value.as_deref(), Some(redacted));
        let created = made.metadata.created_at.unwrap();
        assert_eq!(created.as_second(), 1_711_471_533);
    }
}

#[tokio::test]
async fn only_the_id_is_required() {
    let made = create_with_response(ok(r#"{"id":"key_abc"}"#))
        .await
        .unwrap();
    assert!(made.secret.is_none());
    let odd = r#"{"id":"key_abc","value":"sk-admin-odd-types","name":{"a":1},"created_at":"x","expires_at":true,"owner":[1],"redacted_value":5}"#;
    let made = create_with_response(ok(odd)).await.unwrap();
    assert_eq!(made.secret.unwrap().expose(), "sk-admin-odd-types");
    assert_eq!(made.metadata.created_at, None);
}

#[tokio::test]
async fn an_unreadable_success_has_unknown_effect() {
    let half = r#"{"id":"key_abc","value":"sk-admin-half-of-a-se"#;
    let broken_off = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":";
    for (case, bytes, cause) in [
        ("html", ok("<html>Welcome</html>"), ErrorKind::BadAnswer),
        ("empty", ok(""), ErrorKind::BadAnswer),
        ("truncated", ok(half), ErrorKind::BadAnswer),
        (
            "no id",
            ok(r#"{"value":"sk-admin-x"}"#),
            ErrorKind::BadAnswer,
        ),
        (
            "id of another type",
            ok(r#"{"id":5}"#),
            ErrorKind::BadAnswer,
        ),
        ("no object", ok("[]"), ErrorKind::BadAnswer),
        (
            "5 MiB",
            ok(&" ".repeat(5 * 1024 * 1024)),
            ErrorKind::BadAnswer,
        ),
        ("broken off", broken_off.to_vec(), ErrorKind::NoAnswer),
        ("nothing", Vec::new(), ErrorKind::NoAnswer),
        (
            "no HTTP",
            b"SSH-2.0-OpenSSH\r\n".to_vec(),
            ErrorKind::NoAnswer,
        ),
    ] {
        let error = create_with_response(bytes).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (cause, Effect::Unknown),
            "{case}: {error}"
        );
        assert!(error.kind.is_outage());
        let text = error.to_string();
        let operation = "cannot create credential billing-";
        let is_named = text.starts_with(operation) == (cause != ErrorKind::NoAnswer);
        assert!(is_named, "{text}");
        assert!(
            !text.contains("half") && !text.contains("http://"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in ["302 Found", "307 Temporary Redirect"] {
        let bytes = response(status, "location: /v1/elsewhere\r\n", b"");
        let error = create_with_response(bytes).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::BadAnswer, Effect::Unknown)
        );
    }
}

fn envelope(kind: &str, code: &str) -> String {
    format!(r#"{{"error":{{"type":"{kind}","message":"No.","param":null,"code":"{code}"}}}}"#)
}

#[tokio::test]
async fn each_status_maps_to_its_error_kind() {
    use Effect::{NotApplied, Unknown};
    use ErrorKind as C;
    let later = RetryAdvice::Later(None);
    for (status, code, cause, outcome, retry) in [
        (
            "400 Bad Request",
            "x",
            C::Refused,
            NotApplied,
            RetryAdvice::Never,
        ),
        (
            "401 No",
            "invalid_api_key",
            C::CredentialRefused,
            NotApplied,
            later,
        ),
        ("401 No", "missing_scope", C::Forbidden, NotApplied, later),
        (
            "403 Forbidden",
            "x",
            C::Forbidden,
            NotApplied,
            RetryAdvice::Never,
        ),
        (
            "404 Not Found",
            "x",
            C::NotFound,
            NotApplied,
            RetryAdvice::Never,
        ),
        ("408 Late", "x", C::ServerError, Unknown, later),
        ("409 Conflict", "x", C::ServerError, Unknown, later),
        ("422 No", "x", C::Refused, NotApplied, RetryAdvice::Never),
        ("429 Slow", "slow_down", C::RateLimited, NotApplied, later),
        (
            "429 Slow",
            "insufficient_quota",
            C::QuotaExhausted,
            NotApplied,
            RetryAdvice::Never,
        ),
        ("500 Oops", "x", C::ServerError, Unknown, later),
        ("503 Oops", "x", C::ServerError, Unknown, later),
    ] {
        let body = envelope("some_error", code);
        let bytes = response(status, "x-request-id: req_7\r\n", body.as_bytes());
        let error = create_with_response(bytes).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect, error.retry),
            (cause, outcome, retry),
            "{status} {code}: {error}"
        );
        assert_eq!(error.kind.is_outage(), outcome == Unknown, "{status}");
        assert_eq!(error.request_id.as_deref(), Some("req_7"));
        let names_request = error.to_string().contains("x-request-id req_7");
        let is_case_for_support = error.kind != C::CredentialRefused;
        assert_eq!(names_request, is_case_for_support, "{error}");
    }
}

#[tokio::test]
async fn limits_and_refusals_of_the_scope_are_known_by_their_codes() {
    use ErrorKind as C;
    let pause = Duration::from_secs(40);
    for (status, code, cause) in [
        ("400 No", "billing_hard_limit_reached", C::QuotaExhausted),
        (
            "403 No",
            "organization_spend_limit_exceeded",
            C::QuotaExhausted,
        ),
        ("429 No", "project_spend_limit_exceeded", C::QuotaExhausted),
        ("403 No", "rate_limit_exceeded", C::RateLimited),
        ("429 No", "x", C::RateLimited),
        ("401 No", "ip_not_authorized", C::ScopeRefused),
        ("403 No", "billing_not_active", C::ScopeRefused),
        ("404 No", "project_archived", C::ScopeRefused),
    ] {
        let body = envelope("some_error", code);
        let bytes = response(status, "retry-after: 40\r\n", body.as_bytes());
        let error = create_with_response(bytes).await.unwrap_err();
        assert_eq!(error.kind, cause, "{status} {code}");
        assert_eq!(error.effect, Effect::NotApplied, "{status} {code}");
        assert_eq!(error.retry, RetryAdvice::Later(Some(pause)), "{code}");
        assert_eq!(error.code.as_deref(), Some(code));
    }
}

#[tokio::test]
async fn an_error_without_envelope_has_unknown_effect() {
    for status in ["400 No", "401 No", "403 No", "404 No", "422 No", "429 No"] {
        for body in ["", "<html>Blocked</html>", r#"{"error":"denied"}"#, "{}"] {
            let error = create_with_response(response(status, "", body.as_bytes()))
                .await
                .unwrap_err();
            assert_eq!(
                (error.kind, error.effect),
                (ErrorKind::BadAnswer, Effect::Unknown),
                "{status} {body}"
            );
            assert!(error.kind.is_outage());
        }
    }
}

#[tokio::test]
async fn retry_after_is_reported() {
    let date = "date: Mon, 23 Nov 2026 03:00:00 GMT\r\n";
    for (headers, seconds) in [
        ("retry-after: 7\r\n".to_owned(), 7),
        ("retry-after-ms: 7000\r\nretry-after: 60\r\n".to_owned(), 7),
        (
            format!("{date}retry-after: Mon, 23 Nov 2026 03:00:07 GMT\r\n"),
            7,
        ),
    ] {
        let body = envelope("requests", "rate_limit_exceeded");
        let bytes = response("429 Too Many", &headers, body.as_bytes());
        let error = create_with_response(bytes).await.unwrap_err();
        assert_eq!(
            error.retry,
            RetryAdvice::Later(Some(Duration::from_secs(seconds))),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn an_echoed_secret_is_redacted() {
    let fresh = Secret::new("another-form-of-secret-77".to_owned());
    let echo = format!("{OWN_SECRET} and {} are wrong", fresh.expose());
    let body = format!(r#"{{"error":{{"message":"{echo}","code":"invalid_api_key"}}}}"#);
    let id = format!("x-request-id: {}\r\n", fresh.expose());
    for bytes in [
        response("401 No", &id, body.as_bytes()),
        response("502 No", &id, echo.as_bytes()),
        response("400 No", &id, echo.as_bytes()),
    ] {
        let server = CannedServer::start(vec![bytes]).await;
        let error = adapter(&server.url).verify(&fresh).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("our-own-secret"), "{text}");
        assert!(!text.contains("another-form"), "{text}");
        assert!(server.requests()[0].contains("another-form-of-secret-77"));
    }
}

#[tokio::test]
async fn requests_match_the_api() {
    let server = CannedServer::start(vec![ok(r#"{"id":"key_abc"}"#)]).await;
    let provider = adapter(&server.url);
    let day = Some(Duration::from_secs(86_400));
    let label = Label::from_recorded("a".to_owned());
    provider.create(&label, day).await.unwrap();
    let _ = provider
        .retrieve(&CredentialId::new("a/b?c".to_owned()))
        .await;
    for id in ["", ".", "..", "key_a/../key_b", "%2e%2e", "\t..", "key a"] {
        let error = provider.delete(&CredentialId::new(id.to_owned())).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::Refused);
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/organization/admin_api_keys http/1.1"));
    assert!(head.contains("\r\nauthorization: bearer sk-admin-our-own"));
    assert!(head.contains("\r\nopenai-organization: org-1"));
    assert!(head.contains("\r\ncontent-type: application/json"));
    assert!(head.contains(concat!(
        "\r\nuser-agent: rekeyd/",
        env!("CARGO_PKG_VERSION")
    )));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"name": "a", "expires_in_seconds": 86_400})
    );
    assert!(requests[1].starts_with("GET /v1/organization/admin_api_keys/a%2Fb%3Fc HTTP"));
}

#[tokio::test]
async fn not_found_requires_the_error_envelope() {
    let not_found = envelope("invalid_request_error", "not_found");
    let wrong_path = envelope("invalid_request_error", "unknown_url");
    let invalid = r#"{"error":{"message":"Invalid URL (GET /v1/x)","type":"invalid_request_error","param":null,"code":null}}"#;
    let others = r#"{"error":{"code":404,"message":"Not found.","status":"NOT_FOUND"}}"#;
    for (case, bytes, is_not_found) in [
        (
            "envelope",
            response("404 No", "", not_found.as_bytes()),
            true,
        ),
        ("path", response("404 No", "", wrong_path.as_bytes()), false),
        ("URL", response("404 No", "", invalid.as_bytes()), false),
        ("others", response("404 No", "", others.as_bytes()), false),
        ("html", response("404 No", "", b"<html>"), false),
        (
            "not deleted",
            ok(r#"{"id":"key_abc","deleted":false}"#),
            false,
        ),
        ("nothing said", ok(r#"{"id":"key_abc"}"#), false),
        ("another", ok(r#"{"id":"key_other","deleted":true}"#), false),
        ("html, 200", ok("<html>"), false),
    ] {
        let server = CannedServer::start(vec![bytes]).await;
        let provider = adapter(&server.url);
        assert_eq!(
            provider.delete(&credential_id()).await.is_ok(),
            is_not_found,
            "{case}"
        );
        let retrieved = provider.retrieve(&credential_id()).await;
        assert_eq!(
            retrieved.is_ok_and(|response| response.value.is_none()),
            is_not_found,
            "{case}"
        );
    }
    let server = CannedServer::start(vec![ok(r#"{"id":"key_abc","deleted":true}"#)]).await;
    adapter(&server.url).delete(&credential_id()).await.unwrap();
}

/// A wrong base URL has no path of the provider, whatever form its 404 has. A credential may
/// just not exist.
#[tokio::test]
async fn missing_path_of_the_list_names_the_base_url() {
    let hint = "; hint: check base-url and any proxy in between";
    let invalid =
        r#"{"error":{"message":"Invalid URL (GET /organization)","type":"invalid_request_error"}}"#;
    let not_found = envelope("invalid_request_error", "not_found");
    for body in [invalid, not_found.as_str(), "<html>"] {
        let server = CannedServer::start(vec![response("404 No", "", body.as_bytes())]).await;
        let provider = adapter(&server.url);
        let listed = provider.list(&Scope::AdminKeys).await.unwrap_err();
        assert!(listed.to_string().ends_with(hint), "{listed}");
    }
    let refused = envelope("invalid_request_error", "other");
    let server = CannedServer::start(vec![response("400 No", "", refused.as_bytes())]).await;
    let listed = adapter(&server.url).list(&Scope::AdminKeys).await;
    let listed = listed.unwrap_err();
    assert!(!listed.to_string().contains("hint"), "{listed}");
}

/// The peer may close an idle connection just when a create is sent on it, and the
/// outcome of the create would be unknown.
#[tokio::test]
async fn only_create_opens_a_new_connection() {
    let (url, requests) = keep_alive_server(None).await;
    let provider = adapter(&url);
    let label = Label::from_recorded("billing-20261123T030000Z-5f3a9c".to_owned());
    provider.list(&Scope::AdminKeys).await.unwrap();
    provider.create(&label, None).await.unwrap();
    provider.list(&Scope::AdminKeys).await.unwrap();
    provider.delete(&credential_id()).await.unwrap();
    provider.create(&label, None).await.unwrap();
    provider.check().await.unwrap();
    let requests = requests.lock().unwrap();
    assert_eq!(
        *requests,
        [0, 1, 0, 0, 2, 0],
        "the connection of each request"
    );
}

#[tokio::test]
async fn a_closed_connection_is_not_reused() {
    let closed = Arc::new(Notify::new());
    let (url, requests) = keep_alive_server(Some(Arc::clone(&closed))).await;
    let provider = adapter(&url);
    provider.check().await.unwrap();
    closed.notified().await;
    provider.check().await.unwrap();
    assert_eq!(*requests.lock().unwrap(), [0, 1]);
}

/// Returns the URL of a server that answers so many requests on each connection, and
/// closes it after the next one without an answer, and the methods of all requests.
async fn hanging_up_server(answered: usize) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let requests = Arc::clone(&shared);
            tokio::spawn(async move {
                for number in 0.. {
                    let request = crate::canned_server::read_request(&mut stream).await;
                    let Some(method) = request.split(' ').next().filter(|text| !text.is_empty())
                    else {
                        return;
                    };
                    requests.lock().unwrap().push(method.to_owned());
                    if number == answered {
                        return;
                    }
                    let body = match method {
                        "GET" => r#"{"data":[]}"#,
                        _ => r#"{"id":"key_abc","deleted":true}"#,
                    };
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
                    let answer = format!("{head}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let url = format!("http://127.0.0.1:{port}/v1");
    (url.parse().unwrap(), requests)
}

#[tokio::test]
async fn request_on_a_kept_connection_without_an_answer_is_sent_once_more() {
    let (url, requests) = hanging_up_server(1).await;
    let provider = adapter(&url);
    provider.list(&Scope::AdminKeys).await.unwrap();
    provider.check().await.unwrap();
    // Its connection is not kept.
    provider.check().await.unwrap();
    provider.delete(&credential_id()).await.unwrap();
    let seen = requests.lock().unwrap().clone();
    assert_eq!(seen, ["GET", "GET", "GET", "GET", "DELETE", "DELETE"]);
}

/// The next page is asked for while the connection of the last one is just becoming free,
/// so that the client also begins to open another one.
#[tokio::test]
async fn every_page_of_a_list_is_sent_once_more() {
    let (url, requests) = paging_server(6).await;
    let listed = adapter(&url).list(&Scope::AdminKeys).await.unwrap().value;
    assert_eq!(listed.len(), 6);
    let seen = *requests.lock().unwrap();
    assert!(seen >= 6, "{seen}");
}

/// Returns the URL of a server with so many pages, which answers the first request of each
/// connection and closes it after the second, and the number of all requests.
async fn paging_server(pages: usize) -> (Url, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(Mutex::new(0));
    let shared = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&shared);
            tokio::spawn(async move {
                let request = crate::canned_server::read_request(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                *count.lock().unwrap() += 1;
                let after = request.split("after=key_").nth(1);
                let after = after.and_then(|rest| rest.split([' ', '&']).next());
                let number: usize = after.map_or(0, |text| text.parse().unwrap()) + 1;
                let body = format!(
                    r#"{{"data":[{{"id":"key_{number}"}}],"has_more":{}}}"#,
                    number < pages
                );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
                let answer = format!("{head}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if !crate::canned_server::read_request(&mut stream)
                    .await
                    .is_empty()
                {
                    *count.lock().unwrap() += 1;
                }
            });
        }
    });
    let url = format!("http://127.0.0.1:{port}/v1");
    (url.parse().unwrap(), count)
}

#[tokio::test]
async fn neither_a_create_nor_a_request_on_a_new_connection_is_repeated() {
    let (url, requests) = hanging_up_server(0).await;
    let provider = adapter(&url);
    let label = Label::from_recorded("billing-20261123T030000Z-5f3a9c".to_owned());
    let error = provider.create(&label, None).await.unwrap_err();
    assert_eq!(error.effect, Effect::Unknown);
    let error = provider.check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoAnswer, "{error}");
    assert_eq!(*requests.lock().unwrap(), ["POST", "GET"]);

    let (url, requests) = hanging_up_server(1).await;
    let provider = adapter(&url);
    provider.check().await.unwrap();
    provider.create(&label, None).await.unwrap();
    assert_eq!(*requests.lock().unwrap(), ["GET", "POST"]);
}

/// Returns the URL of a server that keeps its connections open, and the connection of each
/// request. With `closed`, it closes each connection silently, and notifies once the client
/// has also closed it.
async fn keep_alive_server(closed: Option<Arc<Notify>>) -> (Url, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&requests);
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (requests, closed) = (Arc::clone(&shared), closed.clone());
            tokio::spawn(async move {
                loop {
                    let request = crate::canned_server::read_request(&mut stream).await;
                    let body = match request.split(' ').next().unwrap() {
                        "GET" => r#"{"data":[]}"#,
                        "POST" | "DELETE" => r#"{"id":"key_abc","deleted":true}"#,
                        _ => return,
                    };
                    requests.lock().unwrap().push(number);
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
                    let answer = format!("{head}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if let Some(closed) = &closed {
                        stream.shutdown().await.unwrap();
                        crate::canned_server::read_request(&mut stream).await;
                        closed.notify_one();
                        return;
                    }
                }
            });
        }
    });
    (
        format!("http://127.0.0.1:{port}/v1").parse().unwrap(),
        requests,
    )
}
