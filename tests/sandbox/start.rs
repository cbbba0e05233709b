//! The start of a sandbox, its state file and its end.

use std::path::Path;
use std::time::Duration;

use rekeyd::sandbox::{ADMIN_KEY_NAME, DEFAULT_ADMIN_KEY, Sandbox, SandboxError, SandboxOptions};
use serde_json::{Value, json};

use crate::client::{ACCOUNT, PROJECT, create_key, created, get, ids, text};

#[tokio::test]
async fn state_file_is_private_and_survives_restart() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let options = SandboxOptions {
        state_file: Some(file.clone()),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    let (_, kept_key) = sandbox.create_manually("kept");
    let (id, deleted_key) = sandbox.create_manually("gone");
    assert!(sandbox.delete_manually(&id));
    drop(sandbox);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    assert!(sandbox.accepts(&kept_key) && !sandbox.accepts(&deleted_key));
    let live = sandbox.live_keys();
    let names: Vec<&str> = live.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, [ADMIN_KEY_NAME, "kept"]);

    // The admin key stays deleted, however often a start names it.
    assert!(sandbox.delete_manually(&live[0].id));
    drop(sandbox);
    let sandbox = Sandbox::start(options).await.unwrap();
    assert!(!sandbox.accepts(DEFAULT_ADMIN_KEY));
}

#[tokio::test]
async fn start_errors_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    std::fs::write(&file, r#"{"keys":[{"secret":"sk-admin-in-the-file"#).unwrap();
    let options = SandboxOptions {
        state_file: Some(file),
        ..SandboxOptions::default()
    };
    let error = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(error.contains("state.json") && !error.contains("in-the-file"));

    let first = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let options = SandboxOptions {
        listen: first.address(),
        ..SandboxOptions::default()
    };
    let error = Sandbox::start(options).await.err().unwrap();
    assert!(matches!(error, SandboxError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn dropped_sandbox_stops_serving() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let url = sandbox.base_url();
    let patience = Duration::from_secs(5);
    rekeyd::net::connect_check::check_connection(&url, None, None, patience)
        .await
        .unwrap();
    drop(sandbox);
    let stopped = async {
        while rekeyd::net::connect_check::check_connection(&url, None, None, patience)
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, stopped).await.unwrap();
}

#[tokio::test]
async fn admin_key_works_immediately_after_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = SandboxOptions {
        state_file: Some(folder.path().join("state.json")),
        ..SandboxOptions::default()
    };
    for hours in [0, 1, 2] {
        options.delays.new_key = Duration::from_secs(hours * 3600);
        let sandbox = Sandbox::start(options.clone()).await.unwrap();
        assert!(sandbox.accepts(DEFAULT_ADMIN_KEY), "{hours}");
        let (_, fresh) = sandbox.create_manually("fresh");
        assert_eq!(sandbox.accepts(&fresh), hours == 0);
    }
}

/// Returns the options of a sandbox that keeps its state in `folder`.
fn kept_in(folder: &Path) -> SandboxOptions {
    SandboxOptions {
        state_file: Some(folder.join("state.json")),
        ..SandboxOptions::default()
    }
}

#[tokio::test]
async fn projects_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = kept_in(folder.path());
    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    let key = create_key(&sandbox, r#"{"name":"kept","scopes":["api.model.read"]}"#).await;
    let project = sandbox.create_project("another");
    let account = sandbox.create_account(&project, "kept as well");
    let gone = sandbox.create_account(&project, "gone");
    assert!(sandbox.delete_account_manually(&project, &gone));
    assert!(sandbox.archive(&project));
    drop(sandbox);

    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    assert!(sandbox.accepts(text(&key, "value")));
    let kept = sandbox.live_project_keys("proj_sandbox");
    assert_eq!(kept[0].id, text(&key, "id"));
    assert_eq!(kept[0].account.as_deref(), Some(ACCOUNT));
    assert_eq!(kept[0].scopes.as_deref().unwrap(), ["api.model.read"]);
    let accounts = sandbox.live_accounts(&project);
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].id, account);
    let (_, shown) = get(&sandbox, &format!("/organization/projects/{project}")).await;
    assert_eq!(shown["status"], "archived");

    // The state file decides, unless an option does.
    drop(sandbox);
    let options = SandboxOptions {
        projects: vec![format!("{project},active").parse().unwrap()],
        ..options
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let (_, shown) = get(&sandbox, "/organization/projects").await;
    assert_eq!(ids(&shown), ["proj_sandbox", project.as_str()]);
}

#[tokio::test]
async fn state_file_of_the_first_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = kept_in(folder.path());
    let key = |id: &str, value: &str, deleted_at: Option<i64>| {
        json!({
            "id": id, "name": id, "value": value, "created_at": 1_764_000_000_000_i64,
            "expires_at": null, "last_used_at": null, "deleted_at": deleted_at,
        })
    };
    let keys = [
        key("key_kept", "sk-admin-kept", None),
        key("key_gone", "sk-admin-gone", Some(1_764_000_001_000)),
    ];
    let file = options.state_file.clone().unwrap();
    std::fs::write(&file, json!(keys).to_string()).unwrap();
    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    assert!(sandbox.accepts("sk-admin-kept") && !sandbox.accepts("sk-admin-gone"));
    assert!(sandbox.accepts(DEFAULT_ADMIN_KEY));
    created(
        &sandbox,
        &format!("{PROJECT}/service_accounts"),
        r#"{"name":"new"}"#,
    )
    .await;
    drop(sandbox);

    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["version"], 2);
    assert_eq!(
        written["keys"][0], keys[0],
        "admin keys have the former members"
    );
    let sandbox = Sandbox::start(options).await.unwrap();
    assert_eq!(sandbox.live_accounts("proj_sandbox").len(), 2);
    assert_eq!(sandbox.live_keys().len(), 2);
}

#[tokio::test]
async fn state_file_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = kept_in(folder.path());
    let later = r#"{"version":3,"keys":[],"accounts":[],"projects":[]}"#;
    std::fs::write(options.state_file.as_ref().unwrap(), later).unwrap();
    let error = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(error.contains("version 3"), "{error}");
}

#[tokio::test]
async fn policy_of_an_unknown_project_is_refused() {
    let options = SandboxOptions {
        policies: vec!["proj_none:disabled".parse().unwrap()],
        ..SandboxOptions::default()
    };
    let error = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(error.contains("--project proj_none"), "{error}");
}
