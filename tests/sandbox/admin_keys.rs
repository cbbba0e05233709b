//! The admin keys of the organization.

use rekeyd::sandbox::{ADMIN_KEY_NAME, Sandbox, SandboxOptions};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::client::{send_as, start};

/// Sends a request about admin keys, with the sandbox's own.
async fn send_request(
    sandbox: &Sandbox,
    method: Method,
    rest: &str,
    body: &str,
) -> (Response, Value) {
    let path = format!("/organization/admin_api_keys{rest}");
    let own = sandbox.admin_key();
    let (response, text) = send_as(own.expose(), sandbox, method, &path, body)
        .await
        .unwrap();
    (response, serde_json::from_slice(&text).unwrap())
}

async fn list_page(sandbox: &Sandbox, query: &str) -> Value {
    send_request(sandbox, Method::GET, query, "").await.1
}

#[tokio::test]
async fn list_pages_in_both_orders() {
    let sandbox = start().await;
    for number in 0..24 {
        let _ = sandbox.create_manually(&number.to_string());
    }
    let first = list_page(&sandbox, "").await;
    assert_eq!(first["data"].as_array().unwrap().len(), 20);
    assert_eq!(first["has_more"], true);
    assert_eq!(first["data"][0]["name"], ADMIN_KEY_NAME);
    let after = first["last_id"].as_str().unwrap();
    let rest = list_page(&sandbox, &format!("?after={after}")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 5);
    assert_eq!(rest["has_more"], false);
    let newest = list_page(&sandbox, "?order=desc&limit=2").await;
    assert_eq!(newest["data"][0]["name"], "23");
    let after = newest["last_id"].as_str().unwrap();
    let older = list_page(&sandbox, &format!("?order=desc&limit=2&after={after}")).await;
    assert_eq!(older["data"][0]["name"], "21");
    assert_eq!(older["has_more"], true);
    for bad in ["?limit=0", "?limit=101", "?order=up", "?after=key_none"] {
        let refused = list_page(&sandbox, bad).await;
        assert!(refused["error"]["message"].is_string(), "{bad}");
    }
}

#[tokio::test]
async fn deleted_key_is_still_a_cursor() {
    let sandbox = start().await;
    let (first, _) = sandbox.create_manually("first");
    let _ = sandbox.create_manually("second");
    assert!(sandbox.delete_manually(&first));
    let rest = list_page(&sandbox, &format!("?after={first}")).await;
    assert_eq!(rest["data"][0]["name"], "second");
}

#[tokio::test]
async fn every_response_has_a_date_and_its_own_request_id() {
    let sandbox = start().await;
    let mut ids = Vec::new();
    for rest in ["", "/key_none", "/no/such/path"] {
        let (answer, _) = send_request(&sandbox, Method::GET, rest, "").await;
        let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("date").ends_with(" GMT"), "{rest}");
        ids.push(header("x-request-id"));
    }
    assert!(ids.iter().all(|id| id.starts_with("req_")), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn create_validates_and_applies_lifetime() {
    let sandbox = start().await;
    for bad in [
        "",
        "[]",
        r#"{"name":""}"#,
        r#"{"name":7}"#,
        r#"{"name":"x","expires_in_seconds":0}"#,
        r#"{"name":"x","expires_in_seconds":31536001}"#,
        r#"{"name":"x","expires_in_seconds":"1"}"#,
    ] {
        let (answer, body) = send_request(&sandbox, Method::POST, "", bad).await;
        assert_eq!(answer.status(), 400, "{bad}");
        assert_eq!(body["error"]["type"], "invalid_request_error", "{bad}");
    }
    let request = r#"{"name":"x","expires_in_seconds":31536000}"#;
    let (_, made) = send_request(&sandbox, Method::POST, "", request).await;
    let at = |field: &str| made[field].as_i64().unwrap();
    assert_eq!(at("expires_at") - at("created_at"), 31_536_000);
    assert!(sandbox.accepts(made["value"].as_str().unwrap()));
    let (_, lasting) = send_request(&sandbox, Method::POST, "", r#"{"name":"y"}"#).await;
    assert!(lasting["expires_at"].is_null());
    // Invalid requests had no effect: only these two credentials exist.
    assert_eq!(sandbox.live_keys().len(), 3);
}

#[tokio::test]
async fn last_use_is_stored_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let options = SandboxOptions {
        state_file: Some(folder.path().join("state.json")),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    let _ = sandbox.create_manually("unused");
    let listed = list_page(&sandbox, "").await;
    let used = listed["data"][0]["last_used_at"].as_i64().unwrap();
    assert!(used >= listed["data"][0]["created_at"].as_i64().unwrap());
    assert!(listed["data"][1]["last_used_at"].is_null());
    drop(sandbox);
    let text = std::fs::read_to_string(folder.path().join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    let keys = &state["keys"];
    assert_eq!(keys[0]["last_used_at"].as_i64().unwrap() / 1000, used);
    assert!(keys[1]["last_used_at"].is_null());
}
