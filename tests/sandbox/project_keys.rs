//! The keys of a project.

use rekeyd::core::ids::ProjectId;
use rekeyd::core::scope::Scope;
use rekeyd::sandbox::{ApiOperation, KeyOwner, Sandbox, SandboxOptions, Support};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{
    ACCOUNT, PROJECT, check_refusals, create_key, created, delete, get, ids, post, start,
    start_with_two_projects, text,
};

fn keys() -> String {
    format!("{PROJECT}/api_keys")
}

fn keys_of_account() -> String {
    format!("{PROJECT}/service_accounts/{ACCOUNT}/api_keys")
}

fn path_of(key: &Value) -> String {
    format!("{}/{}", keys(), text(key, "id"))
}

#[tokio::test]
async fn key_is_created_on_an_account() {
    let sandbox = start().await;
    let made = create_key(&sandbox, r#"{"name":"label"}"#).await;
    assert_eq!(
        made["object"],
        "organization.project.service_account.api_key"
    );
    assert!(text(&made, "id").starts_with("key_"));
    assert!(text(&made, "value").starts_with("sk-svcacct-"));
    assert!(sandbox.accepts(text(&made, "value")));
    assert!(made.get("redacted_value").is_none() && made.get("owner").is_none());
    let (_, shown) = get(&sandbox, &path_of(&made)).await;
    assert_eq!(shown["object"], "organization.project.api_key");
    assert_eq!(shown["name"], "label");
    assert_eq!(shown["created_at"], made["created_at"]);
    assert_eq!(shown["owner"]["service_account"]["id"], ACCOUNT);
    assert!(shown["last_used_at"].is_null() && shown["expires_at"].is_null());
    // An admin key is none of the project's, and the other way round.
    let (_, listed) = get(&sandbox, &keys()).await;
    assert_eq!(ids(&listed), [text(&made, "id")]);
    assert_eq!(sandbox.live_keys().len(), 1);
}

#[tokio::test]
async fn every_member_of_a_create_is_optional() {
    let sandbox = start().await;
    for (body, scopes, expires_in) in [
        ("", None, None),
        ("{}", None, None),
        (r#"{"scopes":[]}"#, None, None),
        (
            r#"{"scopes":["api.a","api.b"]}"#,
            Some(vec!["api.a", "api.b"]),
            None,
        ),
        (r#"{"expires_in_seconds":null}"#, None, None),
        (r#"{"expires_in_seconds":60}"#, None, Some(60)),
        (r#"{"expires_in_seconds":31536000}"#, None, Some(31_536_000)),
    ] {
        let made = create_key(&sandbox, body).await;
        assert_eq!(made["name"], "Secret Key", "{body}");
        let live = sandbox.live_project_keys("proj_sandbox");
        let key = live.iter().find(|key| key.id == made["id"]).unwrap();
        let limited: Option<Vec<_>> = key
            .scopes
            .as_ref()
            .map(|scopes| scopes.iter().map(String::as_str).collect());
        assert_eq!(limited, scopes, "{body}");
        let created_at = made["created_at"].as_i64().unwrap();
        assert_eq!(
            key.expires_at.map(|end| end - created_at),
            expires_in,
            "{body}"
        );
        assert_eq!(made["expires_at"].as_i64(), key.expires_at, "{body}");
    }
}

#[tokio::test]
async fn list_leaves_out_keys_of_inactive_owners() {
    let sandbox = start().await;
    let active = create_key(&sandbox, r#"{"name":"a"}"#).await;
    let alone = r#"{"name":"b","create_service_account_only":true}"#;
    let alone = created(&sandbox, &format!("{PROJECT}/service_accounts"), alone).await;
    let account = text(&alone, "id");
    let path = format!("{PROJECT}/service_accounts/{account}/api_keys");
    let inactive = created(&sandbox, &path, "{}").await;
    let create = |owner, name| {
        sandbox
            .create_project_key_manually("proj_sandbox", owner, name)
            .0
    };
    let member = create(KeyOwner::Member, "c");
    let former = create(KeyOwner::FormerMember, "d");
    let (active, inactive) = (text(&active, "id"), text(&inactive, "id"));
    for (query, expected) in [
        ("", vec![active, &member]),
        ("?owner_project_access=active", vec![active, &member]),
        ("?owner_project_access=inactive", vec![inactive, &former]),
        (
            "?owner_project_access=any",
            vec![active, inactive, &member, &former],
        ),
    ] {
        let (_, listed) = get(&sandbox, &format!("{}{query}", keys())).await;
        assert_eq!(ids(&listed), expected, "{query}");
    }
    // One by one, each is shown.
    let (_, shown) = get(&sandbox, &format!("{}/{former}", keys())).await;
    assert_eq!(shown["owner_project_access"], "inactive");
    assert_eq!(shown["owner"]["type"], "user");
    assert!(text(&shown, "redacted_value").starts_with("sk-proj..."));
    // With a role, the account's keys are listed.
    let path = format!("{PROJECT}/service_accounts/{account}");
    assert_eq!(post(&sandbox, &path, r#"{"role":"member"}"#).await.0, 200);
    let (_, listed) = get(&sandbox, &keys()).await;
    assert_eq!(ids(&listed), [active, inactive, &member]);
}

#[tokio::test]
async fn list_pages_over_keys() {
    let sandbox = start().await;
    for number in 0..25 {
        let owner = if number % 5 == 0 {
            KeyOwner::FormerMember
        } else {
            KeyOwner::Account(ACCOUNT)
        };
        let _ = sandbox.create_project_key_manually("proj_sandbox", owner, &number.to_string());
        // Keys elsewhere are on no page.
        let _ = sandbox.create_manually("admin key");
    }
    for (query, expected) in [
        ("owner_project_access=any", 25),
        ("limit=7", 20),
        ("limit=20", 20),
    ] {
        let (mut found, mut after) = (0, String::new());
        loop {
            let (_, page) = get(&sandbox, &format!("{}?{query}{after}", keys())).await;
            found += ids(&page).len();
            if page["has_more"] == false {
                break;
            }
            after = format!("&after={}", text(&page, "last_id"));
        }
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn deleted_key_is_gone_and_its_account_stays() {
    let sandbox = start().await;
    let made = create_key(&sandbox, "{}").await;
    let other = create_key(&sandbox, "{}").await;
    let (status, answer) = delete(&sandbox, &path_of(&made)).await;
    assert_eq!(status, 200);
    let expected = json!({
        "id": made["id"], "object": "organization.project.api_key.deleted", "deleted": true,
    });
    assert_eq!(answer, expected);
    assert!(!sandbox.accepts(text(&made, "value")) && sandbox.accepts(text(&other, "value")));
    assert_eq!(get(&sandbox, &path_of(&made)).await.0, 404);
    assert_eq!(delete(&sandbox, &path_of(&made)).await.0, 404);
    let (_, rest) = get(&sandbox, &format!("{}?after={}", keys(), text(&made, "id"))).await;
    assert_eq!(ids(&rest), [text(&other, "id")]);
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 1);
}

#[tokio::test]
async fn deletion_of_account_keys_may_be_refused() {
    let options = SandboxOptions {
        account_key_deletion: Support::Refused,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let made = create_key(&sandbox, "{}").await;
    let (status, answer) = delete(&sandbox, &path_of(&made)).await;
    assert_eq!(status, 400);
    assert!(text(&answer["error"], "message").contains("service account"));
    assert!(sandbox.accepts(text(&made, "value")));
    // A user's key can be deleted all the same, and an account with its keys.
    let (user_key, _) =
        sandbox.create_project_key_manually("proj_sandbox", KeyOwner::Member, "of a user");
    assert_eq!(
        delete(&sandbox, &format!("{}/{user_key}", keys())).await.0,
        200
    );
    let account = format!("{PROJECT}/service_accounts/{ACCOUNT}");
    assert_eq!(delete(&sandbox, &account).await.0, 200);
    assert!(!sandbox.accepts(text(&made, "value")));
}

#[tokio::test]
async fn update_moves_the_end_and_replaces_permissions() {
    let sandbox = start().await;
    let made = create_key(&sandbox, r#"{"scopes":["api.a"],"expires_in_seconds":60}"#).await;
    let live = || sandbox.live_project_keys("proj_sandbox").remove(0);
    let created_at = made["created_at"].as_i64().unwrap();

    let (status, updated) = post(&sandbox, &path_of(&made), r#"{"expires_in_seconds":3600}"#).await;
    assert_eq!(status, 200);
    assert_eq!(updated["object"], "organization.project.api_key");
    assert!(updated.get("value").is_none());
    let end = updated["expires_at"].as_i64().unwrap();
    assert!((3_600..3_660).contains(&(end - created_at)), "{updated}");
    assert_eq!(live().scopes.as_deref().unwrap(), ["api.a"]);

    // It may be moved back, and permissions leave it as it is.
    let body = r#"{"expires_in_seconds":1800,"scopes":["api.b"]}"#;
    let (_, updated) = post(&sandbox, &path_of(&made), body).await;
    let end = updated["expires_at"].as_i64().unwrap();
    assert!((1_800..1_860).contains(&(end - created_at)), "{updated}");
    let (_, updated) = post(&sandbox, &path_of(&made), r#"{"scopes":[]}"#).await;
    assert_eq!(updated["expires_at"], end);
    assert_eq!(live().scopes, None);
    assert!(sandbox.accepts(text(&made, "value")));
    assert_eq!(get(&sandbox, &path_of(&made)).await.1, updated);
}

#[tokio::test]
async fn expired_key_is_gone_and_cannot_be_updated() {
    let sandbox = start().await;
    let made = create_key(&sandbox, r#"{"expires_in_seconds":1}"#).await;
    let secret = text(&made, "value");
    while sandbox.accepts(secret) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    check_refusals(
        &sandbox,
        &[
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":60}"#,
                400,
            ),
            (Method::GET, path_of(&made), "", 404),
            (Method::DELETE, path_of(&made), "", 404),
        ],
    )
    .await;
    let (_, listed) = get(&sandbox, &format!("{}?owner_project_access=any", keys())).await;
    assert!(ids(&listed).is_empty());
}

#[tokio::test]
async fn update_may_be_unknown() {
    let options = SandboxOptions {
        key_update: Support::Refused,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let made = create_key(&sandbox, "{}").await;
    let (status, answer) = post(&sandbox, &path_of(&made), r#"{"expires_in_seconds":60}"#).await;
    assert_eq!(status, 404);
    assert_eq!(answer["error"]["code"], "unknown_url");
    assert_eq!(
        sandbox.live_project_keys("proj_sandbox")[0].expires_at,
        None
    );
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let sandbox = start_with_two_projects().await;
    let made = create_key(&sandbox, "{}").await;
    let owner = KeyOwner::Account("svc_acct_other");
    let (foreign, foreign_secret) =
        sandbox.create_project_key_manually("proj_other", owner, "foreign");
    let at = |rest: &str| format!("{}{rest}", keys());
    let none = "/organization/projects/proj_none/api_keys".to_owned();
    let foreign = at(&format!("/{foreign}"));
    let admin_key = at(&format!("/{}", sandbox.live_keys()[0].id));
    let end = r#"{"expires_in_seconds":60}"#;
    check_refusals(
        &sandbox,
        &[
            (Method::GET, at("?limit=0"), "", 400),
            (Method::GET, at("?limit=101"), "", 400),
            (Method::GET, at("?limit=-1"), "", 400),
            (Method::GET, at("?after=key_none"), "", 400),
            (
                Method::GET,
                at(&foreign.replace(&at("/"), "?after=")),
                "",
                400,
            ),
            (Method::GET, at("?owner_project_access=all"), "", 400),
            (Method::GET, none.clone(), "", 404),
            (Method::GET, format!("{none}/key_none"), "", 404),
            (Method::POST, format!("{none}/key_none"), end, 404),
            (Method::DELETE, format!("{none}/key_none"), "", 404),
            (Method::GET, at("/key_none"), "", 404),
            (Method::GET, foreign.clone(), "", 404),
            (Method::POST, foreign.clone(), end, 404),
            (Method::DELETE, foreign, "", 404),
            (Method::GET, admin_key.clone(), "", 404),
            (Method::DELETE, admin_key, "", 404),
            (Method::POST, keys(), "{}", 404),
            (Method::POST, path_of(&made), "", 400),
            (Method::POST, path_of(&made), "{}", 400),
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":null}"#,
                400,
            ),
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":0}"#,
                400,
            ),
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":31536001}"#,
                400,
            ),
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":"60"}"#,
                400,
            ),
            (Method::POST, path_of(&made), r#"{"scopes":null}"#, 400),
            (Method::POST, path_of(&made), r#"{"scopes":[""]}"#, 400),
            (
                Method::POST,
                path_of(&made),
                r#"{"scopes":["api.a"],"expires_in_seconds":null}"#,
                400,
            ),
        ],
    )
    .await;
    let live = sandbox.live_project_keys("proj_sandbox").remove(0);
    assert_eq!((live.scopes, live.expires_at), (None, None));
    assert!(sandbox.accepts(&foreign_secret));
}

#[tokio::test]
async fn invalid_creates_are_refused() {
    let sandbox = start_with_two_projects().await;
    let elsewhere = |project: &str, account: &str| {
        format!("/organization/projects/{project}/service_accounts/{account}/api_keys")
    };
    let on = keys_of_account;
    check_refusals(
        &sandbox,
        &[
            (Method::POST, elsewhere("proj_none", ACCOUNT), "{}", 404),
            (Method::POST, elsewhere("proj_other", ACCOUNT), "{}", 404),
            (
                Method::POST,
                elsewhere("proj_sandbox", "svc_acct_none"),
                "{}",
                404,
            ),
            (Method::POST, on(), "[]", 400),
            (Method::POST, on(), "{", 400),
            (Method::POST, on(), r#"{"name":""}"#, 400),
            (Method::POST, on(), r#"{"name":null}"#, 400),
            (Method::POST, on(), r#"{"scopes":"api.a"}"#, 400),
            (Method::POST, on(), r#"{"scopes":[7]}"#, 400),
            (Method::POST, on(), r#"{"scopes":null}"#, 400),
            (Method::POST, on(), r#"{"expires_in_seconds":0}"#, 400),
            (
                Method::POST,
                on(),
                r#"{"expires_in_seconds":31536001}"#,
                400,
            ),
            (Method::POST, on(), r#"{"expires_in_seconds":1.5}"#, 400),
            (Method::GET, on(), "", 404),
        ],
    )
    .await;
    for project in ["proj_sandbox", "proj_other"] {
        assert!(sandbox.live_project_keys(project).is_empty(), "{project}");
    }
    let project = |id| Scope::Project(ProjectId::new(id));
    let creates = |id| sandbox.requests_in(&project(id), ApiOperation::Create);
    assert_eq!((creates("proj_none"), creates("proj_other")), (1, 1));
}

#[tokio::test]
async fn archived_project_shows_no_keys() {
    let sandbox = start().await;
    let made = create_key(&sandbox, "{}").await;
    assert!(sandbox.archive("proj_sandbox"));
    check_refusals(
        &sandbox,
        &[
            (Method::POST, keys_of_account(), "{}", 400),
            (
                Method::POST,
                path_of(&made),
                r#"{"expires_in_seconds":60}"#,
                400,
            ),
            (Method::GET, path_of(&made), "", 404),
            (Method::DELETE, path_of(&made), "", 404),
        ],
    )
    .await;
    // The list does not say that the project is archived.
    let (status, listed) = get(&sandbox, &format!("{}?owner_project_access=any", keys())).await;
    assert_eq!((status, ids(&listed).len()), (200, 0));
    assert!(sandbox.restore("proj_sandbox"));
    assert!(sandbox.accepts(text(&made, "value")));
    assert_eq!(get(&sandbox, &path_of(&made)).await.0, 200);
}
