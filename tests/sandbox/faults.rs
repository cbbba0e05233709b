//! The faults of requests in projects.

use rekeyd::sandbox::{Fault, FaultKind, Sandbox, SandboxOptions};
use reqwest::Method;

use crate::client::{
    ACCOUNT, PROJECT, create_key, created, get, ids, post, send_as, start_with_two_projects, text,
};

const OTHER: &str = "/organization/projects/proj_other";

fn inject(sandbox: &Sandbox, fault: &str) {
    sandbox.set_faults(vec![Fault::parse(fault).unwrap()]);
}

#[tokio::test]
async fn fault_of_one_project_leaves_the_other_alone() {
    let sandbox = start_with_two_projects().await;
    inject(&sandbox, "any@proj_other:429:1");
    for (path, expected) in [
        (OTHER.to_owned(), 429),
        (format!("{OTHER}/api_keys"), 429),
        (format!("{OTHER}/service_accounts"), 429),
        (PROJECT.to_owned(), 200),
        (format!("{PROJECT}/api_keys"), 200),
        ("/organization/projects".to_owned(), 200),
        ("/organization/admin_api_keys".to_owned(), 200),
    ] {
        assert_eq!(get(&sandbox, &path).await.0, expected, "{path}");
    }
    inject(&sandbox, "list@admin-keys:forbidden:1");
    for (path, expected) in [
        (format!("{OTHER}/api_keys"), 200),
        ("/organization/admin_api_keys".to_owned(), 403),
    ] {
        assert_eq!(get(&sandbox, &path).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn verification_fails_in_the_project_of_the_secret() {
    let sandbox = start_with_two_projects().await;
    let here = create_key(&sandbox, "{}").await;
    let path = format!("{OTHER}/service_accounts/svc_acct_other/api_keys");
    let there = created(&sandbox, &path, "{}").await;
    inject(&sandbox, "verify@proj_other:500-before:1");
    for (key, expected) in [(&here, 200), (&there, 500)] {
        let answer = send_as(text(key, "value"), &sandbox, Method::GET, "/models", "").await;
        assert_eq!(answer.unwrap().0.status().as_u16(), expected);
    }
}

#[tokio::test]
async fn every_operation_has_its_faults() {
    let sandbox = start_with_two_projects().await;
    let key = create_key(&sandbox, "{}").await;
    let (key, secret) = (text(&key, "id"), text(&key, "value"));
    let admin_key = sandbox.admin_key();
    let own = admin_key.expose();
    let requests = [
        (
            "project",
            own,
            Method::GET,
            "/organization/projects".to_owned(),
            "",
        ),
        ("project", own, Method::GET, PROJECT.to_owned(), ""),
        ("list", own, Method::GET, format!("{PROJECT}/api_keys"), ""),
        (
            "list",
            own,
            Method::GET,
            format!("{PROJECT}/service_accounts"),
            "",
        ),
        (
            "retrieve",
            own,
            Method::GET,
            format!("{PROJECT}/api_keys/{key}"),
            "",
        ),
        (
            "retrieve",
            own,
            Method::GET,
            format!("{PROJECT}/service_accounts/{ACCOUNT}"),
            "",
        ),
        (
            "update",
            own,
            Method::POST,
            format!("{PROJECT}/service_accounts/{ACCOUNT}"),
            "{}",
        ),
        (
            "update",
            own,
            Method::POST,
            format!("{PROJECT}/api_keys/{key}"),
            r#"{"scopes":[]}"#,
        ),
        (
            "create",
            own,
            Method::POST,
            format!("{PROJECT}/service_accounts"),
            r#"{"name":"x"}"#,
        ),
        (
            "create",
            own,
            Method::POST,
            format!("{PROJECT}/service_accounts/{ACCOUNT}/api_keys"),
            "{}",
        ),
        ("verify", secret, Method::GET, "/models".to_owned(), ""),
        (
            "delete",
            own,
            Method::DELETE,
            format!("{PROJECT}/api_keys/{key}"),
            "",
        ),
        (
            "delete",
            own,
            Method::DELETE,
            format!("{PROJECT}/service_accounts/{ACCOUNT}"),
            "",
        ),
    ];
    for (operation, secret, method, path, body) in requests {
        let send = async || {
            let sent = send_as(secret, &sandbox, method.clone(), &path, body).await;
            sent.ok().map(|(response, _)| response.status().as_u16())
        };
        for (kind, expected) in [
            ("drop-before", None),
            ("500-before", Some(500)),
            ("429", Some(429)),
            ("quota", Some(429)),
            ("refused", Some(403)),
            ("html", Some(403)),
            ("401-scope", Some(401)),
            ("forbidden", Some(403)),
        ] {
            inject(&sandbox, &format!("{operation}:{kind}:1"));
            assert_eq!(send().await, expected, "{operation} {path} {kind}");
        }
        // Nothing was done, and other operations go on.
        let other = if operation == "list" {
            "create"
        } else {
            "list"
        };
        inject(&sandbox, &format!("{other}:429:1"));
        assert_eq!(send().await, Some(200), "{operation} {path}");
    }
}

#[tokio::test]
async fn account_is_left_without_its_key() {
    let sandbox = start_with_two_projects().await;
    let accounts = format!("{PROJECT}/service_accounts");
    for (kind, status) in [("no-key", 200), ("no-account-key", 500)] {
        inject(&sandbox, &format!("create@proj_sandbox:{kind}:1"));
        let (given, answer) = post(&sandbox, &accounts, &format!(r#"{{"name":"{kind}"}}"#)).await;
        assert_eq!(given, status, "{kind}");
        assert!(answer["api_key"].is_null(), "{kind}");
        let (_, listed) = get(&sandbox, &accounts).await;
        let names = listed["data"].as_array().unwrap().iter();
        assert_eq!(names.filter(|account| account["name"] == kind).count(), 1);
        // A key on an account that exists is not affected.
        create_key(&sandbox, "{}").await;
    }
    assert_eq!(sandbox.live_project_keys("proj_sandbox").len(), 2);
}

#[tokio::test]
async fn answer_to_a_create_is_lost() {
    let sandbox = start_with_two_projects().await;
    let accounts = format!("{PROJECT}/service_accounts");
    let keys = format!("{accounts}/{ACCOUNT}/api_keys");
    for kind in ["drop-after", "500-after", "garbage"] {
        inject(&sandbox, &format!("create:{kind}:1"));
        for (path, body) in [
            (&accounts, format!(r#"{{"name":"account {kind}"}}"#)),
            (&keys, format!(r#"{{"name":"key {kind}"}}"#)),
        ] {
            let own = sandbox.admin_key();
            let sent = send_as(own.expose(), &sandbox, Method::POST, path, &body).await;
            let text = sent.map(|(_, text)| text);
            let text = String::from_utf8(text.unwrap_or_default()).unwrap();
            assert!(!text.contains("T3BlbkFJ"), "{kind}: {text}");
        }
    }
    sandbox.set_faults(Vec::new());
    let live = sandbox.live_project_keys("proj_sandbox");
    let named = live.iter().filter(|key| key.name.starts_with("key "));
    assert_eq!((live.len(), named.count()), (6, 3));
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 4);
}

#[tokio::test]
async fn stale_list_lacks_the_latest_change_of_its_project() {
    let sandbox = start_with_two_projects().await;
    let first = created(
        &sandbox,
        &format!("{OTHER}/service_accounts"),
        r#"{"name":"a"}"#,
    )
    .await;
    let second = created(
        &sandbox,
        &format!("{OTHER}/service_accounts"),
        r#"{"name":"b"}"#,
    )
    .await;
    // A change elsewhere is none of this project.
    create_key(&sandbox, "{}").await;
    let _ = sandbox.create_manually("admin key");
    inject(&sandbox, "list:stale-list:1");
    let keys = format!("{OTHER}/api_keys");
    let (_, listed) = get(&sandbox, &keys).await;
    assert_eq!(ids(&listed), [text(&first["api_key"], "id")]);
    let accounts = format!("{OTHER}/service_accounts");
    let (_, listed) = get(&sandbox, &accounts).await;
    assert_eq!(ids(&listed), ["svc_acct_other", text(&first, "id")]);
    // The keys that an account's deletion ended are all there still.
    assert!(sandbox.delete_account_manually("proj_other", text(&first, "id")));
    let (_, listed) = get(&sandbox, &keys).await;
    let both = [&first, &second].map(|account| text(&account["api_key"], "id"));
    assert_eq!(ids(&listed), both);
    sandbox.set_faults(Vec::new());
    assert_eq!(ids(&get(&sandbox, &keys).await.1), both[1..]);
}

#[tokio::test]
async fn late_create_arrives_after_the_connection_broke() {
    let options = SandboxOptions {
        late_create_delay: std::time::Duration::from_millis(1),
        faults: vec![Fault::parse("create:late:1").unwrap()],
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let accounts = format!("{PROJECT}/service_accounts");
    let admin_key = sandbox.admin_key();
    let body = r#"{"name":"late"}"#;
    let sent = send_as(admin_key.expose(), &sandbox, Method::POST, &accounts, body).await;
    assert!(sent.is_err());
    while sandbox.live_project_keys("proj_sandbox").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 2);
}

#[test]
fn faults_are_public() {
    let fault = Fault::parse("list@proj_a:no-key:1");
    assert!(fault.is_err(), "no list creates an account");
    let fault = Fault::parse("create@proj_a:no-key:1").unwrap();
    assert_eq!(fault.kind, FaultKind::NoKey);
    assert_eq!(fault.scope.unwrap().to_string(), "project:proj_a");
}
