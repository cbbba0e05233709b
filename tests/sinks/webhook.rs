//! The webhook sink: what a receiver gets, and how each response is classified.

use std::io::Write as _;
use std::time::Duration;

use crate::canned_server::{CannedServer, ok, response};
use crate::webhook_fixture::{
    FIRST_ATTEMPT_AT, SECRET_VALUE, SIGNING_SECRET, WebhookFixture, payload,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rekeyd::core::ids::{CredentialId, RotationId};
use rekeyd::net::client_identity::ClientIdentityFiles;
use rekeyd::sink::{Acceptance, ReplacedCredential, Sink as _};
use ring::hmac;
use serde_json::{Value, json};

/// A second signing secret, without padding as some tools write it.
const OTHER_SIGNING_SECRET: &str = "whsec_YW5vdGhlci1zaWduaW5nLXNlY3JldC0xMjM0NTY";

/// One received request.
struct WebhookRequest {
    head: String,
    body: String,
}

impl WebhookRequest {
    fn all(server: &CannedServer) -> Vec<Self> {
        let split = |request: String| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            Self {
                head: head.to_owned(),
                body: body.to_owned(),
            }
        };
        server.requests().into_iter().map(split).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Returns whether any signature is the one of Standard Webhooks: HMAC-SHA256 over
    /// `id.timestamp.body`, computed here.
    fn is_signed_with(&self, secret: &str) -> bool {
        let encoded = secret.strip_prefix("whsec_").unwrap();
        let padded = format!("{encoded}{}", "=".repeat((4 - encoded.len() % 4) % 4));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(padded).unwrap());
        let [id, timestamp] =
            ["webhook-id", "webhook-timestamp"].map(|name| self.header(name).unwrap());
        let signed = format!("{id}.{timestamp}.{}", self.body);
        let tag = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
        self.signatures()
            .iter()
            .any(|one| *one == format!("v1,{tag}"))
    }

    fn signatures(&self) -> Vec<&str> {
        self.header("webhook-signature")
            .unwrap()
            .split(' ')
            .collect()
    }
}

#[tokio::test]
async fn signature_follows_standard_webhooks() {
    let server = CannedServer::start(vec![ok("")]).await;
    let hook = WebhookFixture::new(server.url.as_str());
    hook.deliver().await.unwrap();
    let [requests] = &WebhookRequest::all(&server)[..] else {
        panic!("one request");
    };
    assert!(
        requests.head.starts_with("POST /v1 HTTP/1.1\r\n"),
        "{}",
        requests.head
    );
    assert_eq!(requests.header("content-type"), Some("application/json"));
    let length = requests.body.len().to_string();
    assert_eq!(requests.header("content-length"), Some(length.as_str()));
    assert_eq!(requests.header("authorization"), None);
    assert_eq!(
        requests.header("webhook-timestamp"),
        Some(FIRST_ATTEMPT_AT.to_string().as_str())
    );
    assert_eq!(requests.signatures().len(), 1);
    assert!(requests.is_signed_with(SIGNING_SECRET));
    assert!(
        !requests.is_signed_with(OTHER_SIGNING_SECRET),
        "the check can fail"
    );
    // An id with a dot could be signed as another id with another body.
    assert!(!requests.header("webhook-id").unwrap().contains('.'));
}

#[tokio::test]
async fn two_signing_secrets_give_two_signatures() {
    let server = CannedServer::start(vec![ok("")]).await;
    let hook = WebhookFixture::new(server.url.as_str());
    hook.sign_with(&format!("{SIGNING_SECRET}\n{OTHER_SIGNING_SECRET}\n"));
    hook.deliver().await.unwrap();
    let requests = &WebhookRequest::all(&server)[0];
    assert_eq!(requests.signatures().len(), 2);
    assert!(
        requests.is_signed_with(SIGNING_SECRET) && requests.is_signed_with(OTHER_SIGNING_SECRET)
    );
}

#[tokio::test]
async fn every_attempt_has_the_same_id_and_body() {
    let busy = response("503 Service Unavailable", "", b"");
    let server = CannedServer::start(vec![busy, Vec::new(), ok("")]).await;
    let mut hook = WebhookFixture::new(server.url.as_str());
    for accepted in [false, false, true, true] {
        assert_eq!(hook.deliver().await.is_ok(), accepted);
    }
    let tries = WebhookRequest::all(&server);
    let first = &tries[0];
    for (number, one) in (FIRST_ATTEMPT_AT..).zip(&tries) {
        assert_eq!(one.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(one.body, first.body);
        // Only the time of an attempt differs.
        let at = number.to_string();
        assert_eq!(one.header("webhook-timestamp"), Some(at.as_str()));
        assert!(one.is_signed_with(SIGNING_SECRET));
    }
    assert_eq!(tries.len(), 4);

    // Another rotation or another sink is another message.
    let mut next = payload();
    next.rotation = RotationId::new([8; 8]);
    hook.sink().deliver(&next).await.unwrap();
    hook.settings.id.name = "second".to_owned();
    hook.deliver().await.unwrap();
    let all = WebhookRequest::all(&server);
    let ids = [0, 4, 5].map(|at| all[at].header("webhook-id").unwrap());
    assert!(
        ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2],
        "{ids:?}"
    );
}

#[tokio::test]
async fn body_has_exactly_the_documented_fields() {
    let server = CannedServer::start(vec![ok("")]).await;
    let hook = WebhookFixture::new(server.url.as_str());
    let mut expected = json!({
        "type": "key.rotated",
        "timestamp": "2026-11-23T03:00:01Z",
        "data": {
            "key": "billing",
            "rotation": "0707070707070707",
            "sequence": 42,
            "value": SECRET_VALUE,
            "credential": {
                "id": "key_abc",
                "name": "billing-20261123T030000Z-5f3a9c",
                "created_at": 1_711_471_533,
                "expires_at": null,
                "redacted_value": "sk-admin...def",
            },
            "previous": null,
        },
    });
    hook.deliver().await.unwrap();
    let mut full = payload();
    full.credential.expires_at = Some("2026-12-24T00:00:00Z".parse().unwrap());
    full.previous = Some(ReplacedCredential {
        id: CredentialId::new("key_xyz".to_owned()),
        not_before: "2026-11-24T03:00:01Z".parse().unwrap(),
    });
    hook.sink().deliver(&full).await.unwrap();
    let bodies: Vec<Value> = WebhookRequest::all(&server)
        .iter()
        .map(|requests| serde_json::from_str(&requests.body).unwrap())
        .collect();
    assert_eq!(bodies[0], expected);
    expected["data"]["credential"]["expires_at"] = json!(1_798_070_400);
    expected["data"]["previous"] = json!({"id": "key_xyz", "not_before": "2026-11-24T03:00:01Z"});
    assert_eq!(bodies[1], expected);
}

#[tokio::test]
async fn responses_are_classified_as_documented() {
    use Acceptance::{NotAccepted, Rejected, Uncertain};
    let status = |status: &str| response(status, "location: http://127.0.0.1:9/\r\n", b"why");
    let mut cases: Vec<(Vec<u8>, Option<Acceptance>)> = Vec::new();
    for (classed, statuses) in [
        (None, &[200, 201, 202, 204, 299][..]),
        (Some(NotAccepted), &[429]),
        (
            Some(Rejected),
            &[400, 401, 403, 404, 405, 409, 410, 422, 499],
        ),
        (Some(Uncertain), &[300, 301, 302, 303, 304, 307, 308]),
        (Some(Uncertain), &[408, 500, 501, 502, 503, 504, 599]),
    ] {
        cases.extend(
            statuses
                .iter()
                .map(|number| (status(&format!("{number} X")), classed)),
        );
    }
    let broken: [&[u8]; 5] = [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-nobody\r\n\r\n",
        b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nhalf",
    ];
    cases.extend(broken.map(|bytes| (bytes.to_vec(), Some(Uncertain))));
    for (bytes, expected) in cases {
        let response = String::from_utf8_lossy(&bytes).into_owned();
        let server = CannedServer::start(vec![bytes]).await;
        let outcome = WebhookFixture::new(server.url.as_str()).deliver().await;
        assert_eq!(
            outcome.err().map(|error| error.acceptance),
            expected,
            "{response:?}"
        );
        assert_eq!(server.requests().len(), 1, "tried once: {response:?}");
    }
}

#[tokio::test]
async fn unsent_request_is_not_accepted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unused_address = listener.local_addr().unwrap();
    drop(listener);
    let error = WebhookFixture::new(&format!("http://{unused_address}/"))
        .deliver()
        .await
        .unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");

    // A server that answers like this, or closes the connection, speaks no TLS.
    for reply in [&b"HTTP/1.1 400 X\r\n\r\n"[..], b""] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let peer = std::thread::spawn(move || listener.accept().unwrap().0.write_all(reply));
        let error = WebhookFixture::new(&url).deliver().await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
        peer.join().unwrap().unwrap();
    }

    let server = CannedServer::start(vec![ok("")]).await;
    let hook = WebhookFixture::new(server.url.as_str());
    std::fs::remove_file(&hook.target.signing_secret_file).unwrap();
    let error = hook.deliver().await.unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn timeout_is_uncertain_only_after_sending() {
    // The system accepts the connections; no program reads from them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for (scheme, expected) in [
        ("http", Acceptance::Uncertain),
        ("https", Acceptance::NotAccepted),
    ] {
        let mut hook = WebhookFixture::new(&format!("{scheme}://{address}/"));
        hook.target.owner = None;
        hook.target.unauthenticated_receiver = scheme == "http";
        hook.settings.timeout = Duration::from_secs(1);
        let error = hook.deliver().await.unwrap_err();
        assert_eq!(error.acceptance, expected, "{scheme}: {error}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = CannedServer::start(vec![ok("")]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", target.url);
        let server =
            CannedServer::start(vec![response(&format!("{status} X"), &location, b"")]).await;
        let error = WebhookFixture::new(server.url.as_str())
            .deliver()
            .await
            .unwrap_err();
        assert!(
            error.message.contains("rekeyd follows no redirects"),
            "{error}"
        );
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn bearer_token_is_sent() {
    let server = CannedServer::start(vec![ok("")]).await;
    let mut hook = WebhookFixture::new(server.url.as_str());
    hook.set_bearer_token("token-of-the-tests-1\n");
    hook.deliver().await.unwrap();
    hook.set_bearer_token("two\nlines");
    let error = hook.deliver().await.unwrap_err();
    assert!(
        error
            .message
            .contains("has 2 lines; hint: write nothing but the secret"),
        "{error}"
    );
    let requests = WebhookRequest::all(&server);
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].header("authorization"),
        Some("Bearer token-of-the-tests-1")
    );
}

#[tokio::test]
async fn secret_files_are_read_for_each_delivery() {
    let server = CannedServer::start(vec![ok("")]).await;
    let mut hook = WebhookFixture::new(server.url.as_str());
    let token = hook.set_bearer_token("token-of-the-tests-1");
    let sink = hook.sink();
    sink.deliver(&payload()).await.unwrap();
    hook.sign_with(OTHER_SIGNING_SECRET);
    crate::support::write(&token, "token-of-the-tests-2");
    sink.deliver(&payload()).await.unwrap();
    let requests = WebhookRequest::all(&server);
    assert!(
        requests[0].is_signed_with(SIGNING_SECRET)
            && !requests[0].is_signed_with(OTHER_SIGNING_SECRET)
    );
    assert!(
        requests[1].is_signed_with(OTHER_SIGNING_SECRET)
            && !requests[1].is_signed_with(SIGNING_SECRET)
    );
    assert_eq!(
        requests[1].header("authorization"),
        Some("Bearer token-of-the-tests-2")
    );
    // A missing file is not served from a cache.
    hook.sign_with("whsec_");
    assert!(sink.preflight().await.is_err());
    assert_eq!(
        sink.deliver(&payload()).await.unwrap_err().acceptance,
        Acceptance::NotAccepted
    );
}

/// Whoever exchanges the roots can read what is sent.
#[tokio::test]
async fn roots_and_secrets_that_another_user_could_exchange_are_not_used() {
    let mut hook = WebhookFixture::new("https://localhost:9/");
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&roots, made.cert.pem()).unwrap();
    hook.target.ca_file = Some(roots.clone());
    assert_eq!(hook.sink().check().await, []);
    let set_mode = |path: &std::path::Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let signing = hook.target.signing_secret_file.clone();
    for (part, open, closed, expected) in [
        (folder.path(), 0o777, 0o700, "roots.pem; hint"),
        (&roots, 0o646, 0o644, "roots.pem; hint: run `chmod o-w"),
        (signing.parent().unwrap(), 0o777, 0o700, "signing; hint"),
    ] {
        set_mode(part, open);
        let refused = hook.sink().preflight().await.unwrap_err().to_string();
        assert!(
            refused.contains("so another user could exchange"),
            "{refused}"
        );
        assert!(refused.contains(expected), "{refused}");
        let error = hook.deliver().await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
        assert!(error.message.contains(expected), "{error}");
        set_mode(part, closed);
    }
    assert_eq!(hook.sink().check().await, []);
}

#[tokio::test]
async fn client_certificate_is_checked_with_its_key() {
    let mut hook = WebhookFixture::new("https://localhost:9/");
    let folder = tempfile::tempdir().unwrap();
    let files = ClientIdentityFiles {
        certificate: folder.path().join("client.pem"),
        key: folder.path().join("client.key"),
    };
    hook.target.identity = Some(files.clone());
    let made = || rcgen::generate_simple_self_signed(vec!["rekeyd".to_owned()]).unwrap();
    let (own, other) = (made(), made());
    let write_key = |text: &str, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&files.key, text).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let problem = async || {
        let problems = hook.sink().check().await;
        let texts: Vec<_> = problems
            .iter()
            .map(|problem| problem.message.clone())
            .collect();
        let error = hook.deliver().await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
        texts.join("; ")
    };
    let found = problem().await;
    assert!(found.contains("cannot read client-certificate"), "{found}");
    std::fs::write(&files.certificate, own.cert.pem()).unwrap();
    write_key(&other.signing_key.serialize_pem(), 0o600);
    let found = problem().await;
    assert!(
        found.contains("is not the key of client-certificate"),
        "{found}"
    );
    let key = own.signing_key.serialize_pem();
    // A file with one name would be narrowed by the process that works.
    std::fs::hard_link(&files.key, folder.path().join("other")).unwrap();
    write_key(&key, 0o604);
    let found = problem().await;
    assert!(found.contains("has mode 0604"), "{found}");
    assert!(!found.contains(key.lines().nth(1).unwrap()), "{found}");
    write_key(&key, 0o600);
    assert_eq!(problem().await, "");
}
