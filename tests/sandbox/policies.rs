//! The rules of a project about its keys.

use std::time::Duration;

use rekeyd::sandbox::{PolicyRule, Sandbox, SandboxOptions};
use reqwest::Method;

use crate::client::{
    ACCOUNT, PROJECT, check_refusals, create_key, created, post, start_with_two_projects, text,
};

const DAY: u64 = 86_400;

fn accounts() -> String {
    format!("{PROJECT}/service_accounts")
}

fn keys_of_account() -> String {
    format!("{}/{ACCOUNT}/api_keys", accounts())
}

#[tokio::test]
async fn lifetimes_are_required_and_limited() {
    let sandbox = start_with_two_projects().await;
    let key = create_key(&sandbox, "{}").await;
    let key = format!("{PROJECT}/api_keys/{}", text(&key, "id"));
    let longest = PolicyRule::MaxLifetime(Duration::from_secs(DAY));
    assert!(sandbox.set_policy("proj_sandbox", vec![longest]));
    let (on, new) = (keys_of_account, accounts);
    check_refusals(
        &sandbox,
        &[
            (Method::POST, on(), "{}", 400),
            (Method::POST, on(), r#"{"expires_in_seconds":null}"#, 400),
            (Method::POST, on(), r#"{"expires_in_seconds":86401}"#, 400),
            (Method::POST, new(), r#"{"name":"x"}"#, 400),
            (
                Method::POST,
                new(),
                r#"{"name":"x","expires_in_seconds":86401}"#,
                400,
            ),
            (
                Method::POST,
                key.clone(),
                r#"{"expires_in_seconds":86401}"#,
                400,
            ),
        ],
    )
    .await;
    let (_, refused) = post(&sandbox, &on(), "{}").await;
    assert_eq!(refused["error"]["param"], "expires_in_seconds");
    assert!(text(&refused["error"], "message").contains("86400"));
    assert_eq!(sandbox.live_project_keys("proj_sandbox").len(), 1);
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 1);

    created(&sandbox, &on(), r#"{"expires_in_seconds":86400}"#).await;
    created(
        &sandbox,
        &new(),
        r#"{"name":"x","expires_in_seconds":86400}"#,
    )
    .await;
    created(&sandbox, &key, r#"{"expires_in_seconds":86400}"#).await;
    // An account alone has no key to limit, and another project has other rules.
    created(
        &sandbox,
        &new(),
        r#"{"name":"x","create_service_account_only":true}"#,
    )
    .await;
    let other = "/organization/projects/proj_other/service_accounts";
    created(&sandbox, other, r#"{"name":"x"}"#).await;

    assert!(sandbox.set_policy("proj_sandbox", vec![PolicyRule::RequiresLifetime]));
    check_refusals(&sandbox, &[(Method::POST, on(), "{}", 400)]).await;
    created(&sandbox, &on(), r#"{"expires_in_seconds":31536000}"#).await;
}

#[tokio::test]
async fn creates_can_be_disabled() {
    let options = SandboxOptions {
        policies: vec!["proj_sandbox:disabled".parse().unwrap()],
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    check_refusals(
        &sandbox,
        &[
            (Method::POST, keys_of_account(), "{}", 403),
            (Method::POST, accounts(), r#"{"name":"x"}"#, 403),
        ],
    )
    .await;
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 1);
    // What exists is still updated.
    assert!(sandbox.set_policy("proj_sandbox", Vec::new()));
    let key = create_key(&sandbox, "{}").await;
    assert!(sandbox.set_policy("proj_sandbox", vec![PolicyRule::Disabled]));
    let path = format!("{PROJECT}/api_keys/{}", text(&key, "id"));
    created(&sandbox, &path, r#"{"expires_in_seconds":60}"#).await;
    assert!(!sandbox.set_policy("proj_none", Vec::new()));
}
