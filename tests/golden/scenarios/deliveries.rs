//! Sinks that reject, fail, are removed and added, and a process that is killed during a
//! delivery.

use std::fs;

use rusqlite::types::Value as Sql;
use serde_json::{Map, Value, json};

use crate::configuration::deliveries as configuration;
use crate::receiver::NO_ANSWER;
use crate::recording::Recording;
use crate::scenario::{Scenario, sql_to_text};
use crate::support::write;

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    write(
        &scenario.path("on-change"),
        "echo said\n[ -e \"$1\" ] || { echo why >&2; exit 3; }\n",
    );
    for (path, status) in [
        ("/refusing", 404),
        ("/failing", 500),
        ("/hanging", NO_ANSWER),
        ("/optional", 404),
    ] {
        scenario.receiver.answer(path, status);
    }
    scenario.configure(&configuration::first());
    let daemon = scenario.daemon();
    for (key, sink, state) in [
        ("refusing", "webhook", "refused"),
        ("refusing", "file", "accepted"),
        ("failing", "webhook", "uncertain"),
        ("failing", "file", "accepted"),
        ("hanging", "webhook", "uncertain"),
        ("optional", "webhook", "refused"),
        ("moving", "another", "accepted"),
        ("used", "file", "accepted"),
    ] {
        scenario.wait_for_delivery(key, sink, state);
    }
    scenario.wait_for_event("changed", "on-change-failed");
    scenario.wait_for_event("failing", "delivery-uncertain");
    scenario.wait("the receiver has the webhook", || {
        !scenario.receiver.received("/hanging").is_empty()
    });
    scenario.note_words();
    record_rows(&mut scenario, "sinks that do not take the secret", "");
    scenario.record_command(
        "status",
        "sinks do not take the secret",
        &["status", "--json"],
    );
    scenario.note_metrics();

    // A sink is added while the rotation is open.
    scenario.configure(&configuration::with_a_sink_added());
    scenario.ok(&["reload"]);
    scenario.receiver.answer("/hanging", 204);
    scenario.wait_for_event("hanging", "sink-added");
    scenario.wait_for_phase("hanging", "current");

    // The process loses its secrets; a written delivery needs none, and a file that is as
    // it was left has its own.
    daemon.kill();
    let file = scenario.path("failing.key");
    let content = fs::read(&file).unwrap();
    fs::write(&file, content).unwrap();
    scenario.receiver.answer("/refusing", 204);
    scenario.receiver.answer("/failing", 204);
    let daemon = scenario.daemon();
    scenario.wait_for_event("refusing", "secret-recovered");
    // The next attempt is a minute away.
    scenario.ok(&["rotate", "refusing"]);
    scenario.wait_for_phase("refusing", "current");
    scenario.wait_for_event("failing", "interrupted");
    scenario.wait_for_event("failing", "replaced");
    scenario.wait_for_phase("failing", "current");
    scenario.ok(&["rotate", "changed", "--no-wait"]);
    scenario.wait_for_event("changed", "retry-requested");
    write(&scenario.path("ready"), "");
    // It would be retried later by itself.
    scenario.ok(&["rotate", "changed"]);
    scenario.wait_for_phase("changed", "current");

    scenario.ok(&["rotate", "optional"]);
    scenario.wait_for_delivery("optional", "webhook", "refused");
    scenario.wait_for_event("optional", "delivery-skipped");
    scenario.ok(&["rotate", "moving"]);
    scenario.configure(&configuration::with_a_sink_removed());
    scenario.ok(&["reload"]);
    scenario.wait_for_event("moving", "sink-removed");
    scenario.wait_for_event("moving", "overlap-extended");
    scenario.wait_for_event("moving", "timetable-changed");
    scenario.note_words();
    // The number of this key's rotations so far depends on the host's speed.
    let name = "sinks that came, went and missed one";
    record_rows(&mut scenario, name, "changed");
    scenario.configure(&configuration::with_the_sink_again());
    scenario.ok(&["reload"]);
    scenario.wait_for_event("moving", "sink-returned");

    hold_back(&scenario);
    daemon.stop();

    // The delivered file is gone: the next start detects that.
    let delivered = scenario.events("changed", "delivered");
    fs::remove_file(scenario.path("changed.key")).unwrap();
    let daemon = scenario.daemon();
    scenario.wait_for_event("changed", "sink-drifted");
    scenario.wait("it is delivered anew", || {
        scenario.events("changed", "delivered") > delivered
    });
    daemon.stop();
    scenario.finish()
}

/// Makes a consumer use the retired credential, so that its revocation is deferred.
fn hold_back(scenario: &Scenario) {
    let secret = fs::read_to_string(scenario.path("used.key")).unwrap();
    let id = scenario.credential("used", "current");
    let current_at = "SELECT current_at FROM history WHERE credential_id = ?1";
    let current_at = scenario.cell(current_at, &[&id]).unwrap();
    let current_at: jiff::Timestamp = current_at.parse().unwrap();
    // Both times are in whole seconds: within the first one, the use could be rekeyd's
    // own verification.
    scenario.wait("a use in a later second than the last delivery", || {
        scenario.provider("GET", "?limit=1", secret.trim(), "");
        let key = scenario.provider("GET", &format!("/{id}"), &scenario.env.admin_key, "");
        key["last_used_at"].as_i64().unwrap() > current_at.as_second()
    });
    scenario.ok(&["rotate", "used"]);
    scenario.wait_for_event("used", "revocation-deferred");
}

/// Records the rows of the view `deliveries`, without the number of attempts.
fn record_rows(scenario: &mut Scenario, name: &str, except_of: &str) {
    const COLUMNS: [&str; 8] = [
        "rotation",
        "key",
        "sink",
        "state",
        "attempts",
        "last_attempt_at",
        "accepted_at",
        "error",
    ];
    let sql = format!(
        "SELECT d.{} FROM deliveries d JOIN history h ON h.rotation = d.rotation
         WHERE h.phase NOT IN ('retired', 'revoked') AND d.key <> ?1
         ORDER BY d.key, h.sequence, d.sink",
        COLUMNS.join(", d.")
    );
    let rows = scenario.query(&sql, &[except_of]).into_iter().map(|row| {
        let members = COLUMNS.iter().zip(row).map(|(column, value)| {
            let value = match value {
                Sql::Null => Value::Null,
                Sql::Integer(_) => json!("<number>"),
                Sql::Real(_) | Sql::Text(_) | Sql::Blob(_) => json!(sql_to_text(&value)),
            };
            ((*column).to_owned(), value)
        });
        Value::Object(members.collect::<Map<_, _>>())
    });
    let rows = Value::Array(rows.collect());
    scenario.record("deliveries", name, rows);
}
