//! The notifications of each alert, raised and resolved.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use serde_json::json;

use crate::configuration::notifications as configuration;
use crate::function_server;
use crate::recording::Recording;
use crate::scenario::{Scenario, now};
use crate::support::{TestEnv, scratch_dir, write};

/// Runs `once` until a notification of this alert and state was received, because a retry
/// waits for its time. Without a key, the alert is the daemon's.
fn notified(scenario: &mut Scenario, key: Option<&str>, cause: &str, state: &str) {
    let expected = json!([key, cause, state]);
    // While a condition of the daemon is active, `once` waits for its end.
    let limit = match (key, state) {
        (None, "begun") => "1s",
        _ => "20s",
    };
    let find = |scenario: &Scenario| {
        let posted = scenario.receiver.received("/notify").into_iter();
        let mut bodies = posted.map(|webhook| webhook.body);
        bodies.find(|body| {
            let data = &body["data"];
            json!([data["key"], data["cause"], data["state"]]) == expected
        })
    };
    scenario.wait(&format!("a notification of {expected}"), || {
        scenario.run(&["once", "--for", limit]);
        find(scenario).is_some()
    });
    let body = find(scenario).unwrap();
    scenario.record("notifications", &format!("{cause}, {state}"), body);
}

fn make_folder(scenario: &Scenario) {
    let folder = scenario.path("missing");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Records the alerts of one key.
pub(crate) fn run_keys() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::about_keys());
    scenario.create_by_hand("alike-20200101T000000Z-0a1b2c");
    notified(&mut scenario, Some("billing"), "rotated", "once");
    notified(&mut scenario, Some("alike"), "lookalike", "once");
    notified(&mut scenario, Some("failing"), "failing", "begun");
    notified(&mut scenario, Some("failing"), "overdue", "begun");

    // An operator adopted a credential in the last quarter of its life.
    let made = scenario.create_by_hand("made-by-hand");
    scenario.edit_sandbox(&[], |keys| {
        let mut keys = keys.iter_mut();
        let key = keys.find(|key| key["id"] == *made).unwrap();
        let now = key["created_at"].as_i64().unwrap();
        key["created_at"] = json!(now - 900_000);
        key["expires_at"] = json!(now + 300_000);
    });
    let named = ["--force", "--name", "made-by-hand", "--yes"];
    scenario.ok(&[&["adopt", "expiring", &made][..], &named].concat());
    scenario.ok(&["release", &made]);
    notified(&mut scenario, Some("expiring"), "expiring", "begun");
    make_folder(&scenario);
    scenario.ok(&["rotate", "failing", "expiring"]);
    notified(&mut scenario, Some("failing"), "failing", "over");
    notified(&mut scenario, Some("failing"), "overdue", "over");
    notified(&mut scenario, Some("expiring"), "expiring", "over");

    // The hold of a retired credential ends within a day.
    scenario.ok(&["rotate", "billing"]);
    let retired = scenario.credential("billing", "retired");
    let until = now() + SignedDuration::from_hours(12);
    scenario.ok(&["hold", &retired, "--until", &until.to_string()]);
    notified(&mut scenario, Some("billing"), "hold", "begun");
    scenario.ok(&["release", &retired]);
    notified(&mut scenario, Some("billing"), "hold", "over");

    // An orphan cannot be revoked.
    let faults = [
        "--fault",
        "create:drop-after:1",
        "--fault",
        "delete:401-scope:1",
    ];
    scenario.env.restart_sandbox(&faults);
    assert!(!scenario.run(&["rotate", "billing"]).status.success());
    notified(&mut scenario, Some("billing"), "orphan", "begun");
    scenario.env.restart_sandbox(&[]);
    notified(&mut scenario, Some("billing"), "orphan", "over");
    scenario.finish()
}

/// Records the alerts of the daemon.
pub(crate) fn run_all() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::about_all());
    scenario.ok(&["once"]);
    // The key is due, so that requests are sent to the provider.
    fs::remove_file(scenario.path("one.key")).unwrap();
    scenario.env.stop_sandbox();
    notified(&mut scenario, None, "provider", "begun");
    scenario.env.restart_sandbox(&[]);
    notified(&mut scenario, None, "provider", "over");

    fs::remove_file(scenario.path("one.key")).unwrap();
    write(&scenario.path("admin-key"), "sk-admin-of-somebody-else");
    notified(&mut scenario, None, "credential", "begun");
    write(&scenario.path("admin-key"), &scenario.env.admin_key);
    notified(&mut scenario, None, "credential", "over");

    // After an unclear create, each run reconciles the ledger with the provider.
    scenario
        .env
        .restart_sandbox(&["--fault", "create:drop-before:1"]);
    assert!(!scenario.run(&["rotate", "lost"]).status.success());
    scenario.env.restart_sandbox(&[]);
    for key in ["one", "two"] {
        scenario.delete_by_hand(&scenario.credential(key, "current"));
    }
    notified(&mut scenario, None, "organization", "begun");
    scenario.ok(&["rotate", "--all"]);
    notified(&mut scenario, None, "organization", "over");
    scenario.finish()
}

/// Records the alert of a provider whose clock is wrong for a while.
pub(crate) fn run_clock() -> Recording {
    let is_right = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&is_right);
    let date = move || {
        let at = if clock.load(Ordering::Relaxed) {
            now()
        } else {
            now() - SignedDuration::from_hours(1)
        };
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let no_credential =
        r#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}"#;
    let url = function_server::serve_with(|_| (200, no_credential.to_owned()), date);
    let env = TestEnv::without_sandbox(format!("{url}/v1"), "sk-admin-of-the-test", scratch_dir());
    let mut scenario = Scenario::of(env);
    scenario.configure(&configuration::about_all());
    notified(&mut scenario, None, "clock", "begun");
    is_right.store(true, Ordering::Relaxed);
    notified(&mut scenario, None, "clock", "over");
    scenario.finish()
}
