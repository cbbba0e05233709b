//! The JSON of `status`, `history`, `schedule` and `audit`, and the CSV of
//! `history`, in several states of the ledger.

use std::fs;

use serde_json::{Value, json};

use crate::configuration::commands as configuration;
use crate::recording::Recording;
use crate::scenario::Scenario;

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::three_keys());
    record(
        &mut scenario,
        &["status", "history", "audit", "schedule"],
        "before the first run",
    );

    scenario.ok(&["once"]);
    record(&mut scenario, &["status"], "after the first rotation");
    scenario.record_command("status", "of one key", &["status", "by-age", "--json"]);
    let count = ["schedule", "by-age", "-n", "2", "--json"];
    scenario.record_command("schedule", "of one key", &count);
    let from = "2026-10-20T00:00:00Z";
    let change = ["schedule", "scheduled", "--from", from, "-n", "1", "--json"];
    scenario.record_command("schedule", "from a given time", &change);

    let reason = "somebody left";
    scenario.normalizer.given(&[reason]);
    scenario.ok(&["rotate", "billing", "--reason", reason]);
    record(&mut scenario, &["status", "history"], "during the overlap");
    scenario.record_command("history", "of one key", &["history", "billing", "--json"]);
    let limited = [
        "history", "billing", "--since", "1h", "--limit", "1", "--json",
    ];
    scenario.record_command("history", "limited", &limited);
    record_csv(&mut scenario);
    scenario.ok(&["hold", "billing", "--until", "2099-01-01T00:00:00Z"]);
    scenario.ok(&["pause", "by-age", "--until", "2099-01-01T00:00:00Z"]);
    scenario.record_command("status", "held and paused", &["status", "--json"]);
    scenario.check_output("show", &["show", "billing", "--json"]);
    scenario.check_output("show", &["show", "by-age", "--json"]);
    scenario.ok(&["hold", "billing"]);
    scenario.ok(&["pause", "by-age"]);
    scenario.record_command(
        "status",
        "held and paused without end",
        &["status", "--json"],
    );
    scenario.ok(&["release", "billing"]);
    scenario.ok(&["resume", "by-age"]);

    let first = scenario.create_by_hand("made-by-hand");
    let name = ["--name", "made-by-hand", "--yes"];
    scenario.ok(&[&["adopt", "scheduled", &first][..], &name].concat());
    scenario.ok(&["release", &first]);
    let second = scenario.create_by_hand("made-by-hand-too");
    // Nothing shows that the file holds the current credential.
    fs::remove_file(scenario.path("billing.key")).unwrap();
    let name = ["--name", "made-by-hand-too", "--yes"];
    scenario.ok(&[&["adopt", "billing", &second][..], &name].concat());
    scenario.ok(&["release", &second]);
    let adopted = "adopted as current and as stranded";
    record(&mut scenario, &["status", "history", "audit"], adopted);

    scenario.configure(&configuration::one_fails());
    assert!(!scenario.run(&["once"]).status.success());
    record(&mut scenario, &["status"], "one key fails");
    scenario.configure(&configuration::one_is_overdue());
    scenario.wait("a key is overdue", || {
        let status = status(&scenario);
        let mut keys = status["keys"].as_array().unwrap().iter();
        keys.any(|key| key["overdue"] == true)
    });
    record(&mut scenario, &["status"], "one key is overdue");
    scenario.check_output("show", &["show", "failing", "--json"]);
    scenario.check_output("schedule", &["schedule", "--json"]);

    scenario.configure(&configuration::one_key());
    scenario.ok(&["once"]);
    record(
        &mut scenario,
        &["status", "history"],
        "keys are not configured any more",
    );
    scenario.env.stop_sandbox();
    let away = scenario.run(&["rotate", "billing"]);
    assert!(!away.status.success());
    record(&mut scenario, &["status", "audit"], "the provider is away");

    record_audit(&mut scenario);
    scenario.finish()
}

fn status(scenario: &Scenario) -> Value {
    let output = scenario.run(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Records these commands. The keys of the history are sorted: the order of two rotations
/// in the same second is random.
fn record(scenario: &mut Scenario, commands: &[&str], name: &str) {
    for command in commands {
        let mut outcome = scenario.outcome(&[command, "--json"]);
        if let Some(rows) = outcome["standard output"].as_array_mut()
            && *command == "history"
        {
            rows.sort_by_key(|row| row["key"].as_str().unwrap().to_owned());
        }
        scenario.record(command, name, outcome);
    }
}

/// Records the columns in order, and the number of rows.
fn record_csv(scenario: &mut Scenario) {
    let printed = scenario.ok(&["history", "--csv"]);
    let mut lines = printed.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows = lines.count();
    scenario.record("history", "CSV", json!({"header": header, "rows": rows}));
}

/// Records every state that a credential can have at the provider.
fn record_audit(scenario: &mut Scenario) {
    scenario.env.restart_sandbox(&[]);
    scenario.ok(&["rotate", "billing", "--revoke-previous-now"]);
    scenario.ok(&["once"]);
    let label = |phase: &str| {
        let sql = "SELECT label FROM history WHERE key = 'billing' AND phase = ?1 LIMIT 1";
        scenario.cell(sql, &[phase]).unwrap()
    };
    // One credential has the label of another, and one is a lookalike.
    scenario.create_by_hand(&label("current"));
    scenario.create_by_hand("billing-20200101T000000Z-0a1b2c");
    // A revoked credential is alive, and a live one is gone.
    let (current, revoked) = (
        scenario.credential("billing", "current"),
        scenario.credential("billing", "revoked"),
    );
    scenario.delete_by_hand(&current);
    scenario.edit_sandbox(&[], |keys| {
        let mut keys = keys.iter_mut();
        let key = keys.find(|key| key["id"] == *revoked).unwrap();
        key["deleted_at"] = Value::Null;
    });
    record(scenario, &["audit"], "not as the ledger says");
    // A list from before the last change does not count.
    scenario
        .env
        .restart_sandbox(&["--fault", "list:stale-list:1"]);
    let by_age = scenario.credential("by-age", "current");
    scenario.ok(&["revoke", &by_age, "--force"]);
    record(scenario, &["audit"], "a stale list");
}
