//! `GET /models`, which verifies the secret of a project's key.

use rekeyd::sandbox::{ApiOperation, Fault, KeyOwner, Sandbox, SandboxOptions};
use reqwest::Method;
use serde_json::Value;

use crate::client::{ACCOUNT, PROJECT, create_key, get, send_as, start, text};

/// Sends the request with `secret`. Returns the status and the answer; HTML is `null`.
async fn verify(sandbox: &Sandbox, secret: &str) -> (u16, Value) {
    let (response, text) = send_as(secret, sandbox, Method::GET, "/models", "")
        .await
        .unwrap();
    let answer = serde_json::from_slice(&text).unwrap_or_default();
    (response.status().as_u16(), answer)
}

#[tokio::test]
async fn key_with_all_permissions_is_accepted() {
    let sandbox = start().await;
    let made = create_key(&sandbox, "{}").await;
    let (status, answer) = verify(&sandbox, text(&made, "value")).await;
    assert_eq!((status, &answer["object"]), (200, &"list".into()));
    assert_eq!(answer["data"][0]["object"], "model");
    let (_, shown) = get(
        &sandbox,
        &format!("{PROJECT}/api_keys/{}", text(&made, "id")),
    )
    .await;
    assert!(shown["last_used_at"].is_i64());
    assert_eq!(sandbox.requests(ApiOperation::Verify), 1);
    // Its secret is none for the Admin API.
    let path = "/organization/admin_api_keys";
    let refused = send_as(text(&made, "value"), &sandbox, Method::GET, path, "").await;
    let (response, body) = refused.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(response.status(), 401);
    assert!(
        body.contains("Missing scopes: api.management.write"),
        "{body}"
    );
}

#[tokio::test]
async fn limited_key_is_refused_with_the_missing_scope() {
    let sandbox = start().await;
    for (scope, is_enough) in [
        ("api.model.read", true),
        ("api.all.read", true),
        ("api.responses.write", false),
    ] {
        let made = create_key(&sandbox, &format!(r#"{{"scopes":["{scope}"]}}"#)).await;
        let (status, _) = verify(&sandbox, text(&made, "value")).await;
        assert_eq!(status == 200, is_enough, "{scope}");
    }
    // The API answers with either status.
    let mut seen = [0, 0];
    while seen.contains(&0) {
        let owner = KeyOwner::Account(ACCOUNT);
        let (id, secret) = sandbox.create_project_key_manually("proj_sandbox", owner, "limited");
        assert!(sandbox.limit_permissions("proj_sandbox", &id, &["api.files.read"]));
        let (status, answer) = verify(&sandbox, &secret).await;
        let message = text(&answer["error"], "message");
        assert!(
            message.contains("Missing scopes: api.model.read"),
            "{message}"
        );
        let is_odd = id.bytes().next_back().unwrap() % 2 == 1;
        assert_eq!(status, if is_odd { 401 } else { 403 }, "{id}");
        seen[usize::from(is_odd)] += 1;
        assert!(sandbox.accepts(&secret), "it is authenticated");
    }
}

#[tokio::test]
async fn unknown_and_deleted_secrets_are_invalid() {
    let sandbox = start().await;
    let made = create_key(&sandbox, "{}").await;
    assert!(sandbox.delete_project_key_manually("proj_sandbox", text(&made, "id")));
    for secret in [text(&made, "value"), "sk-svcacct-unknown", ""] {
        let (status, answer) = verify(&sandbox, secret).await;
        assert_eq!(status, 401, "{secret}");
        assert_eq!(answer["error"]["code"], "invalid_api_key", "{secret}");
    }
    let mut options = SandboxOptions::default();
    options.delays.new_key = std::time::Duration::from_secs(3600);
    let sandbox = Sandbox::start(options).await.unwrap();
    let fresh = create_key(&sandbox, "{}").await;
    let (status, answer) = verify(&sandbox, text(&fresh, "value")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (401, &"invalid_api_key".into())
    );
}

#[tokio::test]
async fn other_refusals_say_nothing_of_the_secret() {
    let sandbox = start().await;
    let made = create_key(&sandbox, "{}").await;
    let secret = text(&made, "value");
    for (fault, expected) in [("html", 403), ("forbidden", 403), ("refused", 403)] {
        sandbox.set_faults(vec![Fault::parse(&format!("verify:{fault}:1")).unwrap()]);
        let (status, answer) = verify(&sandbox, secret).await;
        assert_eq!(status, expected, "{fault}");
        let answer = answer.to_string().to_lowercase();
        assert!(
            !answer.contains("scope") && !answer.contains("invalid_api_key"),
            "{fault}"
        );
    }
    sandbox.set_faults(Vec::new());
    assert!(sandbox.archive("proj_sandbox"));
    let (status, answer) = verify(&sandbox, secret).await;
    assert_eq!(status, 401);
    assert_eq!(answer["error"]["code"], "not_authorized_invalid_project");
}

#[tokio::test]
async fn admin_key_has_no_models() {
    let sandbox = start().await;
    let own = sandbox.admin_key();
    let (status, answer) = verify(&sandbox, own.expose()).await;
    assert!([401, 403].contains(&status));
    assert!(text(&answer["error"], "message").contains("api.model.read"));
}
