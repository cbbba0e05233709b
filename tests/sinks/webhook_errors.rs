//! The error of a webhook sink never shows a secret that the receiver echoed, nor the
//! query of its URL.

use crate::canned_server::{CannedServer, response};
use crate::webhook_fixture::{SECRET_VALUE, SIGNING_SECRET, WebhookFixture};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rekeyd::sink::Sink as _;

const TOKEN: &str = "token-of-the-tests-0123456789";

/// A secret that this process has not registered.
const UNKNOWN_SECRET: &str = "sk-admin-of-somebody-else-AbC_1-2";

/// The longest excerpt of text from outside.
const MAX_QUOTE_CHARS: usize = 200;

/// The length from which a piece of a secret is a leak.
const MIN_LEAK_LEN: usize = 8;

/// Returns the error message for a response with this body.
async fn error_message(body: &[u8]) -> String {
    let server = CannedServer::start(vec![response("400 Bad Request", "", body)]).await;
    let mut hook = WebhookFixture::new(server.url.as_str());
    hook.set_bearer_token(TOKEN);
    hook.deliver().await.unwrap_err().message
}

/// Returns the excerpt of the body in the message.
async fn quoted_body(body: &[u8]) -> String {
    let message = error_message(body).await;
    let (_, quoted) = message.split_once("400 Bad Request: ").expect(&message);
    quoted
        .rsplit_once("; hint: check ")
        .expect(&message)
        .0
        .to_owned()
}

/// Returns every secret, raw and as base64 of both kinds, alone and within other text;
/// each with the part that comes from the secret alone.
fn secret_encodings() -> Vec<(String, String)> {
    let bare = SIGNING_SECRET.strip_prefix("whsec_").unwrap();
    let own = |secret: &str| secret["sk-admin-".len()..].to_owned();
    let mut forms = vec![(UNKNOWN_SECRET.to_owned(), own(UNKNOWN_SECRET))];
    for secret in [SECRET_VALUE, SIGNING_SECRET, bare, TOKEN] {
        forms.push((secret.to_owned(), own(secret)));
        for before in ["", "x", "xy", "{\"value\":\""] {
            for behind in ["", "\"}"] {
                let text = format!("{before}{secret}{behind}");
                // A base64 character has six bits; the outer ones are shared with the
                // surrounding text.
                let from = (before.len() * 8).div_ceil(6) + 1;
                let to = (before.len() + secret.len()) * 8 / 6 - 1;
                for form in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let own = form[from..to].to_owned();
                    forms.push((form, own));
                }
            }
        }
    }
    forms
}

/// Returns whether `text` shows a piece of `secret`.
fn leaks_part_of(text: &str, secret: &str) -> bool {
    (0..=secret.len() - MIN_LEAK_LEN).any(|at| text.contains(&secret[at..at + MIN_LEAK_LEN]))
}

#[tokio::test]
async fn echoed_secret_is_redacted_in_quote() {
    for (form, own) in secret_encodings() {
        assert!(
            leaks_part_of(&format!("got {form}"), &own),
            "the check can fail"
        );
        for body in [
            format!("bad payload {form} for us"),
            format!("{{\"error\":\"{form}\"}}"),
            format!("{form}{form}"),
        ] {
            let quoted = quoted_body(body.as_bytes()).await;
            assert!(quoted.contains("[secret]"), "{body}: {quoted}");
            assert!(!leaks_part_of(&quoted, &own), "{body}: {quoted}");
        }
    }
}

#[tokio::test]
async fn truncation_never_splits_a_secret() {
    // The limits are those of the excerpt, of the search, and of the read.
    for end in [MAX_QUOTE_CHARS, 8 * 1024, 32 * 1024] {
        for at in (end - SECRET_VALUE.len() - 10..end + 10).step_by(7) {
            for fill in [".", ". ", "ä"] {
                let mut body = fill.repeat(at / fill.len());
                body.push_str(SECRET_VALUE);
                body.push_str(" and more");
                let quoted = quoted_body(body.as_bytes()).await;
                assert!(
                    !leaks_part_of(&quoted, &SECRET_VALUE["sk-admin-".len()..]),
                    "{at} {fill:?}: {quoted}"
                );
            }
        }
    }
    // A mask is shorter than its secret, so many masks move the end of the excerpt.
    for count in [20, 60, 100, 136, 137, 138, 139, 140, 400] {
        let quoted = quoted_body(SECRET_VALUE.repeat(count).as_bytes()).await;
        assert!(
            !leaks_part_of(&quoted, &SECRET_VALUE["sk-admin-".len()..]),
            "{count}: {quoted}"
        );
    }
}

#[tokio::test]
async fn quote_is_short_and_printable() {
    let nasty =
        b"line one\r\nline\ttwo \x1b[31mred\x07 \x00 \xff\xfe \xe2\x80\xae back \xc2\x85 end";
    let quoted_nasty = quoted_body(nasty).await;
    assert!(
        quoted_nasty.starts_with("line one line two"),
        "{quoted_nasty}"
    );
    assert!(quoted_nasty.ends_with("end"), "{quoted_nasty}");
    assert!(!quoted_nasty.chars().any(char::is_control));
    // Such marks reverse the rest of a line on a terminal.
    assert!(!quoted_nasty.contains('\u{202e}'), "{quoted_nasty:?}");
    let long = quoted_body("word ".repeat(20_000).as_bytes()).await;
    assert_eq!(long.chars().count(), MAX_QUOTE_CHARS + 1, "{long}");
    assert!(long.ends_with('…'), "{long}");
    let empty = error_message(b"").await;
    assert!(empty.contains("400 Bad Request; hint: "), "{empty}");
}

#[tokio::test]
async fn secret_split_over_lines_is_redacted() {
    let whole = STANDARD.encode(format!("{{\"value\":\"{SECRET_VALUE}\"}}"));
    // Mail and many tools wrap base64, and JSON escapes the line breaks.
    for separator in ["\n", "\r\n", " ", "\\n", "\\r\\n"] {
        let lines: Vec<_> = whole
            .as_bytes()
            .chunks(38)
            .map(|line| String::from_utf8_lossy(line))
            .collect();
        let quoted = quoted_body(lines.join(separator).as_bytes()).await;
        assert!(
            !leaks_part_of(&quoted, &whole[20..]),
            "{separator:?}: {quoted}"
        );
    }
}

#[tokio::test]
async fn url_query_is_never_shown() {
    let refusing = CannedServer::start(vec![response("400 Bad Request", "", b"no")]).await;
    let silent = CannedServer::start(vec![Vec::new()]).await;
    let unused_url = "http://127.0.0.1:9/v1".parse().unwrap();
    for url in [&refusing.url, &silent.url, &unused_url] {
        for scheme in ["http", "https"] {
            let mut url = url.clone();
            url.set_scheme(scheme).unwrap();
            url.set_query(Some("token=query-of-the-tests"));
            url.set_fragment(Some("fragment-of-the-tests"));
            let hook = WebhookFixture::new(url.as_str());
            let sink = hook.sink();
            let preflight = sink.preflight().await;
            let delivery = sink
                .deliver(&crate::webhook_fixture::payload())
                .await
                .unwrap_err();
            let output = format!("{preflight:?} {delivery} {delivery:?} {sink:?}");
            assert!(output.contains("/v1"), "the URL is shown: {output}");
            assert!(!output.contains("of-the-tests"), "{output}");
        }
    }
    for (query, echoed) in [
        ("token=tok%2Fen-of-the-tests", "tok/en-of-the-tests"),
        ("token=tok%2Fen-of-the-tests", "tok%2Fen-of-the-tests"),
        (
            "a=1&b=2&c=3&d=4-of-the-tests",
            "/hook?a=1&b=2&c=3&d=4-of-the-tests",
        ),
    ] {
        let echoing = CannedServer::start(vec![response("400 X", "", echoed.as_bytes())]).await;
        let mut url = echoing.url.clone();
        url.set_query(Some(query));
        let output = WebhookFixture::new(url.as_str())
            .deliver()
            .await
            .unwrap_err()
            .message;
        assert!(
            output.contains("[secret]") && !output.contains("of-the-tests"),
            "{output}"
        );
    }
    let sent = refusing.requests().join("\n");
    assert!(sent.contains("?token=query-of-the-tests "), "it is sent");
}
