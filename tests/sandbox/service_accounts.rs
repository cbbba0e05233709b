//! The service accounts of a project.

use rekeyd::sandbox::KeyOwner;
use reqwest::Method;
use serde_json::json;

use crate::client::{
    ACCOUNT, PROJECT, check_refusals, created, delete, get, ids, post, start,
    start_with_two_projects, text,
};

fn accounts() -> String {
    format!("{PROJECT}/service_accounts")
}

#[tokio::test]
async fn account_is_created_with_its_key() {
    let sandbox = start().await;
    let made = created(&sandbox, &accounts(), r#"{"name":"label"}"#).await;
    assert_eq!(made["object"], "organization.project.service_account");
    assert_eq!(made["role"], "member");
    let key = &made["api_key"];
    assert_eq!(
        key["object"],
        "organization.project.service_account.api_key"
    );
    assert!(text(key, "value").starts_with("sk-svcacct-"));
    assert!(sandbox.accepts(text(key, "value")));
    assert!(key["expires_at"].is_null());
    assert!(key.get("redacted_value").is_none() && key.get("owner").is_none());

    let (_, shown) = get(&sandbox, &format!("{}/{}", accounts(), text(&made, "id"))).await;
    let members = ["object", "id", "name", "role", "created_at"];
    assert_eq!(shown.as_object().unwrap().len(), members.len());
    assert!(members.iter().all(|member| shown[member] == made[member]));

    // The key bears its own name, and names its owner.
    let (_, item) = get(&sandbox, &format!("{PROJECT}/api_keys/{}", text(key, "id"))).await;
    assert_eq!(item["name"], "Secret Key");
    assert_eq!(item["owner"]["type"], "service_account");
    assert_eq!(item["owner"]["service_account"]["id"], made["id"]);
    assert_eq!(item["owner"]["service_account"]["name"], "label");
    assert_eq!(item["owner_project_access"], "active");
    let value = text(key, "value");
    let redacted = format!("sk-svcacct...{}", &value[value.len() - 3..]);
    assert_eq!(item["redacted_value"], redacted);
    assert!(item.get("value").is_none());
}

#[tokio::test]
async fn first_key_has_the_lifetime_of_the_create() {
    let sandbox = start().await;
    let body = r#"{"name":"x","expires_in_seconds":31536000}"#;
    let made = created(&sandbox, &accounts(), body).await;
    let at = |member: &str| made["api_key"][member].as_i64().unwrap();
    assert_eq!(at("expires_at") - at("created_at"), 31_536_000);
    let body = r#"{"name":"x","expires_in_seconds":null,"create_service_account_only":null}"#;
    let made = created(&sandbox, &accounts(), body).await;
    assert!(made["api_key"]["expires_at"].is_null());
}

#[tokio::test]
async fn account_alone_has_no_key_and_no_access() {
    let sandbox = start().await;
    let body = r#"{"name":"alone","create_service_account_only":true}"#;
    let made = created(&sandbox, &accounts(), body).await;
    assert_eq!(
        (&made["role"], &made["api_key"]),
        (&json!("none"), &json!(null))
    );
    assert!(sandbox.live_project_keys("proj_sandbox").is_empty());
    let id = text(&made, "id");
    let (_, shown) = get(&sandbox, &format!("{}/{id}", accounts())).await;
    assert_eq!(shown["role"], "none");

    let (status, updated) = post(
        &sandbox,
        &format!("{}/{id}", accounts()),
        r#"{"role":"member","name":"renamed"}"#,
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        (&updated["role"], &updated["name"]),
        (&json!("member"), &json!("renamed"))
    );
}

#[tokio::test]
async fn deletion_ends_the_keys_of_the_account_alone() {
    let sandbox = start().await;
    let deleted = created(&sandbox, &accounts(), r#"{"name":"deleted"}"#).await;
    let id = text(&deleted, "id");
    let (_, second) =
        sandbox.create_project_key_manually("proj_sandbox", KeyOwner::Account(id), "second");
    let other = created(&sandbox, &accounts(), r#"{"name":"other"}"#).await;

    let (status, answer) = delete(&sandbox, &format!("{}/{id}", accounts())).await;
    assert_eq!(status, 200);
    let expected = json!({
        "id": id, "object": "organization.project.service_account.deleted", "deleted": true,
    });
    assert_eq!(answer, expected);
    assert!(!sandbox.accepts(text(&deleted["api_key"], "value")) && !sandbox.accepts(&second));
    assert!(sandbox.accepts(text(&other["api_key"], "value")));
    let (_, keys) = get(
        &sandbox,
        &format!("{PROJECT}/api_keys?owner_project_access=any"),
    )
    .await;
    assert_eq!(ids(&keys), [text(&other["api_key"], "id")]);
    let (status, _) = delete(&sandbox, &format!("{}/{id}", accounts())).await;
    assert_eq!(status, 404);
    // A deleted account is still a cursor.
    let (_, rest) = get(&sandbox, &format!("{}?after={id}", accounts())).await;
    assert_eq!(ids(&rest), [text(&other, "id")]);
}

#[tokio::test]
async fn list_pages_over_accounts() {
    let sandbox = start().await;
    for number in 0..24 {
        let _ = sandbox.create_account("proj_sandbox", &number.to_string());
    }
    let (_, first) = get(&sandbox, &accounts()).await;
    assert_eq!((ids(&first).len(), &first["has_more"]), (20, &json!(true)));
    assert_eq!(ids(&first)[0], ACCOUNT);
    let last = text(&first, "last_id");
    let (_, rest) = get(&sandbox, &format!("{}?after={last}&limit=100", accounts())).await;
    assert_eq!((ids(&rest).len(), &rest["has_more"]), (5, &json!(false)));
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let sandbox = start_with_two_projects().await;
    let at = |rest: &str| format!("{}{rest}", accounts());
    let none = "/organization/projects/proj_none/service_accounts".to_owned();
    let foreign = at("/svc_acct_other");
    let known = at(&format!("/{ACCOUNT}"));
    check_refusals(
        &sandbox,
        &[
            (Method::GET, at("?limit=0"), "", 400),
            (Method::GET, at("?limit=101"), "", 400),
            (Method::GET, at("?after=svc_acct_none"), "", 400),
            (Method::GET, at("?after=svc_acct_other"), "", 400),
            (Method::GET, none.clone(), "", 404),
            (Method::POST, none.clone(), r#"{"name":"x"}"#, 404),
            (Method::GET, format!("{none}/{ACCOUNT}"), "", 404),
            (Method::POST, format!("{none}/{ACCOUNT}"), "{}", 404),
            (Method::DELETE, format!("{none}/{ACCOUNT}"), "", 404),
            (Method::GET, at("/svc_acct_none"), "", 404),
            (Method::GET, foreign.clone(), "", 404),
            (Method::POST, foreign.clone(), "{}", 404),
            (Method::DELETE, foreign, "", 404),
            (Method::POST, known.clone(), r#"{"role":"none"}"#, 400),
            (Method::POST, known.clone(), r#"{"role":7}"#, 400),
            (Method::POST, known, r#"{"name":""}"#, 400),
            (Method::POST, at(""), "", 400),
            (Method::POST, at(""), "{}", 400),
            (Method::POST, at(""), r#"{"name":null}"#, 400),
            (
                Method::POST,
                at(""),
                r#"{"name":"x","expires_in_seconds":0}"#,
                400,
            ),
            (
                Method::POST,
                at(""),
                r#"{"name":"x","expires_in_seconds":31536001}"#,
                400,
            ),
            (
                Method::POST,
                at(""),
                r#"{"name":"x","create_service_account_only":1}"#,
                400,
            ),
            (
                Method::POST,
                at(""),
                r#"{"name":"x","create_service_account_only":true,"expires_in_seconds":1}"#,
                400,
            ),
        ],
    )
    .await;
    for (project, account) in [("proj_sandbox", ACCOUNT), ("proj_other", "svc_acct_other")] {
        let live = sandbox.live_accounts(project);
        assert_eq!(live.len(), 1, "{project}");
        assert_eq!(live[0].id, account);
    }
}

#[tokio::test]
async fn archived_project_has_no_accounts() {
    let sandbox = start().await;
    let made = created(&sandbox, &accounts(), r#"{"name":"x"}"#).await;
    assert!(sandbox.archive("proj_sandbox"));
    let one = format!("{}/{ACCOUNT}", accounts());
    check_refusals(
        &sandbox,
        &[
            (Method::POST, accounts(), r#"{"name":"y"}"#, 400),
            (Method::GET, accounts(), "", 400),
            (Method::GET, one.clone(), "", 404),
            (Method::POST, one.clone(), "{}", 400),
            (Method::DELETE, one.clone(), "", 400),
        ],
    )
    .await;
    let secret = text(&made["api_key"], "value");
    assert!(!sandbox.accepts(secret));
    assert!(sandbox.restore("proj_sandbox"));
    assert!(sandbox.accepts(secret));
    assert_eq!(get(&sandbox, &one).await.0, 200);
}
