//! The events, log lines and metrics of a provider that fails in every way of the
//! sandbox, and of a killed process.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::configuration::faults as configuration;
use crate::daemon::Daemon;
use crate::http;
use crate::receiver::NO_ANSWER;
use crate::recording::Recording;
use crate::scenario::Scenario;

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::a_key_for_each_fault());
    let daemon = scenario.daemon();
    scenario.wait("the daemon is ready", || {
        status_of(&scenario, "/readyz") == 200
    });

    // Every other request also fails, so the failure is global.
    fail(
        &mut scenario,
        &["create:401-scope:1", "list:500-before:1"],
        "forbidden",
    );
    scenario.wait_for_event("forbidden", "not-created");
    scenario.note_words();
    record_outage(&mut scenario);
    scenario.env.restart_sandbox(&[]);
    scenario.wait("the key is rotated by itself", || {
        let sql = "SELECT phase FROM history WHERE key = 'forbidden' AND trigger = 'retry'";
        scenario.cell(sql, &[]).as_deref() == Some("current")
    });

    fail(&mut scenario, &["create:429:1"], "rate-limited");
    scenario.wait_for_event("rate-limited", "not-created");
    // Until the limit has ended, each other fault would also hit the probes of this key.
    scenario.env.restart_sandbox(&[]);
    scenario.wait("the limit has ended", || {
        let sql = "SELECT phase FROM history WHERE key = 'rate-limited' AND phase = 'current'";
        scenario.cell(sql, &[]).is_some() && status_of(&scenario, "/readyz") == 200
    });
    fail(&mut scenario, &["create:html:1"], "html");
    scenario.wait_for_event("html", "label-not-found");
    fail(
        &mut scenario,
        &["create:drop-after:1", "delete:401-scope:1"],
        "lost",
    );
    scenario.wait_for_event("lost", "label-found");
    scenario.wait("the deletion was refused", || {
        let page = http::get(&scenario.metrics, "/metrics").unwrap().body;
        page.contains("operation=\"delete\",outcome=\"forbidden\"")
    });
    scenario.note_words();
    for (fault, key) in [
        ("create:garbage:1", "garbage"),
        ("create:500-after:1", "server-error"),
    ] {
        fail(&mut scenario, &[fault], key);
        scenario.wait_for_event(key, "deleted");
    }
    scenario.wait_for_event("lost", "deleted");

    scenario.env.restart_sandbox(&["--propagation", "1m"]);
    scenario.ok(&["rotate", "refused", "--no-wait"]);
    scenario.wait_for_event("refused", "verification-failed");
    scenario.wait_for_event("refused", "deleted");

    scenario.env.stop_sandbox();
    assert!(!scenario.run(&["rotate", "forbidden"]).status.success());
    scenario.env.restart_sandbox(&["--fault", "create:hang:1"]);
    scenario.wait("the provider is there again", || {
        status_of(&scenario, "/readyz") == 200
    });
    scenario.note_metrics();
    scenario.ok(&["rotate", "hanging", "--no-wait"]);
    scenario.wait_for_phase("hanging", "intended");
    scenario.wait("the credential is made", || {
        let label = scenario.cell("SELECT label FROM history WHERE key = 'hanging'", &[]);
        let keys = scenario.env.keys();
        keys.iter()
            .any(|key| label.as_deref() == key["name"].as_str())
    });
    scenario.note_words();
    daemon.kill();

    scenario.env.restart_sandbox(&[]);
    let daemon = scenario.daemon();
    scenario.wait_for_event("hanging", "label-found-after-restart");
    scenario.note_words();
    scenario.ok(&["rotate", "hanging"]);
    scenario.wait_for_event("hanging", "replaced");
    scenario.note_metrics();
    daemon.stop();
    scenario.finish()
}

fn status_of(scenario: &Scenario, page: &str) -> u16 {
    http::get(&scenario.metrics, page).map_or(0, |page| page.status)
}

/// Rotates a key while the provider has these faults.
fn fail(scenario: &mut Scenario, faults: &[&str], key: &str) {
    let faults = faults.iter().flat_map(|fault| ["--fault", *fault]);
    let faults: Vec<&str> = faults.collect();
    scenario.env.restart_sandbox(&faults);
    let output = scenario.run(&["rotate", key]);
    assert_eq!(output.status.code(), Some(1), "{key}");
}

/// Records the output while a condition of the daemon is active.
fn record_outage(scenario: &mut Scenario) {
    for page in ["/healthz", "/readyz"] {
        let answer = http::get(&scenario.metrics, page).unwrap();
        let body = if answer.status == 200 {
            answer.body.as_str()
        } else {
            "<text>"
        };
        let value = json!({
            "status": answer.status, "content-type": answer.header("content-type"), "body": body,
        });
        scenario.record("pages", &format!("{page} while the provider fails"), value);
    }
    scenario.wait("the daemon shows the problem", || {
        let answer = scenario.ask("GET", "/daemon", "").unwrap();
        answer.value()["problem"].is_string()
    });
    let answer = scenario.ask("GET", "/daemon", "").unwrap();
    let value = json!({
        "request": "GET /daemon",
        "status": answer.status,
        "content-type": answer.header("content-type"),
        "body": answer.value(),
    });
    scenario.record("control-socket", "daemon with a problem", value);
}

/// Records a command that a signal ends, and that abandons its open rotation.
pub(crate) fn run_given_up() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.receiver.answer("/silent", NO_ANSWER);
    scenario.configure(&configuration::never_delivered());
    let once = scenario.spawn(scenario.command(&["once"]));
    scenario.wait("the receiver has the webhook", || {
        !scenario.receiver.received("/silent").is_empty()
    });
    record_end(&mut scenario, "once: ended while it delivers", once);
    scenario.wait_for_event("delivering", "abandoned-during-delivery");

    scenario.env.restart_sandbox(&["--propagation", "1m"]);
    scenario.configure(&configuration::never_verified());
    let once = scenario.spawn(scenario.command(&["once"]));
    scenario.wait_for_phase("verifying", "created");
    scenario.note_words();
    record_end(&mut scenario, "once: ended while it verifies", once);
    scenario.wait_for_event("verifying", "abandoned");
    scenario.finish()
}

fn record_end(scenario: &mut Scenario, name: &str, process: Daemon) {
    process.signal(Signal::TERM);
    let code = process.wait().code();
    scenario.record("exit-codes", name, json!({"exit code": code}));
}

/// Records a provider that disagrees with the ledger.
pub(crate) fn run_differences() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::three_keys());
    scenario.ok(&["once"]);
    scenario.ok(&["rotate", "revived", "--revoke-previous-now"]);
    scenario.ok(&["once"]);
    let revived = scenario.credential("revived", "revoked");
    let label = scenario.cell("SELECT label FROM history WHERE key = 'doubled'", &[]);
    scenario.create_by_hand(&label.unwrap());
    scenario.create_by_hand("missing-20200101T000000Z-0a1b2c");
    scenario.delete_by_hand(&scenario.credential("missing", "current"));
    scenario.edit_sandbox(&[], |keys| {
        let mut keys = keys.iter_mut();
        let key = keys.find(|key| key["id"] == *revived).unwrap();
        key["deleted_at"] = Value::Null;
    });
    let daemon = scenario.daemon();
    scenario.wait_for_event("revived", "found-alive");
    scenario.wait("it is revoked again", || {
        scenario.events("revived", "deleted") == 2
    });
    scenario.wait_for_event("doubled", "duplicate-revoked");
    scenario.wait_for_event("missing", "credential-missing");
    daemon.stop();
    scenario.finish()
}
