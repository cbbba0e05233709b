//! The sandbox itself, where no provider's contract asks about it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rekeyd::net::client::{ClientLimits, client};
use rekeyd::sandbox::{ADMIN_NAME, DEFAULT_ADMIN_KEY, Options, Sandbox, SandboxError};

#[tokio::test]
async fn the_state_file_outlives_the_sandbox_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let options = Options {
        state: Some(file.clone()),
        ..Options::default()
    };
    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    let (_, kept) = sandbox.make_by_hand("kept");
    let (id, gone) = sandbox.make_by_hand("gone");
    assert!(sandbox.delete_by_hand(&id));
    drop(sandbox);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let sandbox = Sandbox::start(options.clone()).await.unwrap();
    assert!(sandbox.accepts(&kept) && !sandbox.accepts(&gone));
    let live = sandbox.live();
    let names: Vec<&str> = live.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, [ADMIN_NAME, "kept"]);

    // The key of the start stays deleted, however often it is named again.
    assert!(sandbox.delete_by_hand(&live[0].id));
    drop(sandbox);
    let sandbox = Sandbox::start(options).await.unwrap();
    assert!(!sandbox.accepts(DEFAULT_ADMIN_KEY));
}

#[tokio::test]
async fn what_cannot_be_had_at_the_start_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    std::fs::write(&file, r#"{"keys":[{"secret":"sk-admin-in-the-file"#).unwrap();
    let options = Options {
        state: Some(file),
        ..Options::default()
    };
    let error = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(error.contains("state.json") && !error.contains("in-the-file"));

    let first = Sandbox::start(Options::default()).await.unwrap();
    let options = Options {
        listen: first.address(),
        ..Options::default()
    };
    let error = Sandbox::start(options).await.err().unwrap();
    assert!(matches!(error, SandboxError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn a_dropped_sandbox_answers_nobody() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let url = sandbox.base_url();
    let patience = Duration::from_secs(5);
    rekeyd::net::reach::reach(&url, None, patience)
        .await
        .unwrap();
    drop(sandbox);
    let stopped = async {
        while rekeyd::net::reach::reach(&url, None, patience)
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, stopped).await.unwrap();
}

#[tokio::test]
async fn the_sandbox_pages_both_ways() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    for number in 0..24 {
        let _ = sandbox.make_by_hand(&number.to_string());
    }
    let names = |query: &str| {
        let url = format!("{}/organization/admin_api_keys{query}", sandbox.base_url());
        let key = sandbox.admin_key();
        async move {
            let client = client(&ClientLimits {
                url: &url.parse().unwrap(),
                timeout: Duration::from_secs(5),
                ca_file: None,
            });
            let request = client.unwrap().get(url).bearer_auth(key.expose());
            let text = request.send().await.unwrap().text().await.unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        }
    };
    let first = names("").await;
    assert_eq!(first["data"].as_array().unwrap().len(), 20);
    assert_eq!(first["has_more"], true);
    assert_eq!(first["data"][0]["name"], ADMIN_NAME);
    let rest = names(&format!("?after={}", first["last_id"].as_str().unwrap())).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 5);
    assert_eq!(rest["has_more"], false);
    let newest = names("?order=desc&limit=2").await;
    assert_eq!(newest["data"][0]["name"], "23");
    for bad in ["?limit=0", "?limit=101", "?order=up", "?after=key_none"] {
        assert!(names(bad).await["error"]["message"].is_string(), "{bad}");
    }
}
