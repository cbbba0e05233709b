//! Requests to a sandbox, as any program could send them.

use std::time::Duration;

use rekeyd::net::client::{ClientOptions, build_client};
use rekeyd::sandbox::{DEFAULT_PROJECT, Sandbox, SandboxOptions};
use reqwest::{Method, Response};
use serde_json::Value;

/// The service account of the default project.
pub(crate) const ACCOUNT: &str = "svc_acct_sandbox";

/// The path of the default project.
pub(crate) const PROJECT: &str = "/organization/projects/proj_sandbox";

pub(crate) async fn start() -> Sandbox {
    Sandbox::start(SandboxOptions::default()).await.unwrap()
}

/// Returns a sandbox with the default project and `proj_other`.
pub(crate) async fn start_with_two_projects() -> Sandbox {
    let projects = [DEFAULT_PROJECT, "proj_other"].map(|id| id.parse().unwrap());
    let options = SandboxOptions {
        projects: projects.to_vec(),
        ..SandboxOptions::default()
    };
    Sandbox::start(options).await.unwrap()
}

/// Sends a request with the sandbox's own admin key. The path is below the base URL.
pub(crate) async fn send(
    sandbox: &Sandbox,
    method: Method,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let (response, text) = send_as(sandbox.admin_key().expose(), sandbox, method, path, body)
        .await
        .unwrap();
    let answer = serde_json::from_slice(&text);
    (response.status().as_u16(), answer.unwrap())
}

/// Sends a request with `secret`. Returns the response and its body.
pub(crate) async fn send_as(
    secret: &str,
    sandbox: &Sandbox,
    method: Method,
    path: &str,
    body: &str,
) -> Result<(Response, Vec<u8>), reqwest::Error> {
    let url = format!("{}{path}", sandbox.base_url());
    let client = build_client(&ClientOptions {
        url: &url.parse().unwrap(),
        timeout: Duration::from_secs(30),
        ca_file: None,
        identity: None,
    });
    let request = client.unwrap().request(method, url);
    let request = request.bearer_auth(secret).body(body.to_owned());
    let mut response = request.send().await?;
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        text.extend_from_slice(&chunk);
    }
    Ok((response, text))
}

pub(crate) async fn get(sandbox: &Sandbox, path: &str) -> (u16, Value) {
    send(sandbox, Method::GET, path, "").await
}

pub(crate) async fn post(sandbox: &Sandbox, path: &str, body: &str) -> (u16, Value) {
    send(sandbox, Method::POST, path, body).await
}

pub(crate) async fn delete(sandbox: &Sandbox, path: &str) -> (u16, Value) {
    send(sandbox, Method::DELETE, path, "").await
}

/// Sends a request that must succeed, and returns its answer.
pub(crate) async fn created(sandbox: &Sandbox, path: &str, body: &str) -> Value {
    let (status, answer) = post(sandbox, path, body).await;
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

/// Creates a key on the account of the default project.
pub(crate) async fn create_key(sandbox: &Sandbox, body: &str) -> Value {
    let path = format!("{PROJECT}/service_accounts/{ACCOUNT}/api_keys");
    created(sandbox, &path, body).await
}

/// Returns the text of a member.
pub(crate) fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member].as_str().unwrap()
}

/// Returns the ids of a list's objects.
pub(crate) fn ids(list: &Value) -> Vec<&str> {
    let items = list["data"].as_array().unwrap().iter();
    items.map(|item| text(item, "id")).collect()
}

/// Checks requests that must be refused: each a method, a path, a body, and the status.
/// Every answer must be an error of the API.
pub(crate) async fn check_refusals(sandbox: &Sandbox, cases: &[(Method, String, &str, u16)]) {
    for (method, path, body, expected) in cases {
        let (status, answer) = send(sandbox, method.clone(), path, body).await;
        assert_eq!(status, *expected, "{method} {path} {body}: {answer}");
        let error = &answer["error"];
        assert!(error["message"].is_string(), "{method} {path}: {answer}");
        assert_eq!(error["type"], "invalid_request_error", "{method} {path}");
    }
}
