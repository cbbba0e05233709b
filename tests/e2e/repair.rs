//! A rotation repairs sinks that changed, through the binary.

use std::fs;

use crate::operator_commands::delete_manually;
use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, read_ledger, text, write, write_ledger};

/// Returns an environment whose key has one file sink of this format and was rotated
/// once.
fn rotated(format: &str) -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&format!("{}format = \"{format}\"\n", file_key_text("24h")));
    world.ok(&["once"]);
    world
}

fn triggers(world: &TestEnv) -> Vec<String> {
    let history = world.history().into_iter();
    history
        .map(|row| row["trigger"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn unchanged_file_is_not_replaced() {
    for format in ["raw", "env", "json"] {
        let world = rotated(format);
        world.ok(&["once"]);
        assert_eq!(triggers(&world), ["first"], "{format}");
    }
}

#[test]
fn missing_file_is_delivered_again() {
    let world = rotated("raw");
    fs::remove_file(world.path("billing.key")).unwrap();
    world.ok(&["once"]);
    assert_eq!(triggers(&world), ["repair", "first"]);
    let history = world.history();
    let secret = world.secret_of(history[0]["credential_id"].as_str().unwrap());
    let delivered = fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(delivered.trim(), secret);
    assert_eq!(
        history[1]["phase"], "retired",
        "its consumers may have read it"
    );
}

#[test]
fn overwritten_file_is_delivered_again() {
    for (format, instead) in [
        ("raw", "sk-admin-somebody-elses\n"),
        ("raw", ""),
        ("env", "sk-admin-without-its-variable\n"),
        ("json", "{}\n"),
    ] {
        let world = rotated(format);
        write(&world.path("billing.key"), instead);
        world.ok(&["once"]);
        assert_eq!(
            triggers(&world),
            ["repair", "first"],
            "{format} {instead:?}"
        );
    }
}

/// The process was killed during the write, and the sink was removed before the next
/// start.
#[test]
fn stale_temp_of_a_past_target_is_removed() {
    for state in ["uncertain", "accepted"] {
        assert_stale_temp_is_removed(state);
    }
}

/// A delivery that was repeated may be recorded as accepted.
fn assert_stale_temp_is_removed(state: &str) {
    let world = TestEnv::start(&[]);
    let more = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/copy.key\"\n";
    let named = file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"file\"");
    world.configure(&format!("{named}{more}"));
    world.ok(&["once"]);
    let ledger = write_ledger(&world.path("ledger.db"));
    if state == "uncertain" {
        let interrupted =
            "UPDATE delivery SET state = 'uncertain', accepted_at = NULL WHERE sink = 'copy'";
        assert_eq!(ledger.execute(interrupted, []).unwrap(), 1);
    }
    drop(ledger);
    let left = world.path(".copy.key.rekeyd");
    write(&left, "sk-admin-half");
    world.configure(&named);
    world.ok(&["once"]);
    assert!(!left.exists(), "{state}");
    assert!(world.path("copy.key").exists(), "its consumers may read it");
}

/// Root created the file before rekeyd was installed. A group-only configuration does not
/// need its owner to be kept.
#[test]
fn file_of_another_owner_is_replaced_with_the_configured_group() {
    let world = TestEnv::start(&[]);
    let group = rustix::process::getegid().as_raw();
    let group = if group == 0 { 65_534 } else { group };
    world.configure(&format!("{}group = \"{group}\"\n", file_key_text("24h")));
    write(&world.path("billing.key"), "an older one\n");
    let bound = UnprivilegedEnv::new(world, &[]);
    let output = bound.run(&["once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The configuration does not belong to root any more.
    let history = bound.run(&["history", "--json"]).stdout;
    let history: serde_json::Value = serde_json::from_slice(&history).unwrap();
    let id = history[0]["credential_id"].as_str().unwrap();
    let delivered = fs::read_to_string(bound.env.path("billing.key")).unwrap();
    assert_eq!(delivered.trim(), bound.env.secret_of(id));
}

/// An error of a removed key does not count any more.
#[test]
fn removed_key_is_not_failing() {
    let world = rotated("raw");
    fs::remove_file(world.path("billing.key")).unwrap();
    let elsewhere = file_key_text("24h").replace("DIR/billing", "DIR/none/billing");
    world.configure(&elsewhere);
    assert_eq!(world.run(&["once"]).status.code(), Some(1));
    assert_eq!(world.run(&["status"]).status.code(), Some(1));
    world.configure(&file_key_text("24h").replace("billing", "other"));
    world.ok(&["once"]);
    let stdout = world.ok(&["status"]);
    assert!(stdout.contains("unmanaged"), "{stdout}");
    // Its history stays.
    assert!(world.ok(&["history", "billing"]).contains("billing"));
}

/// Returns an environment whose key was rotated twice and whose file was put back to the
/// first secret, and the ids of the two credentials.
fn gone_back(overlap: &str) -> (TestEnv, [String; 2]) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text(overlap));
    world.ok(&["once"]);
    let first = fs::read_to_string(world.path("billing.key")).unwrap();
    world.ok(&["rotate", "billing"]);
    write(&world.path("billing.key"), &first);
    let id = |row: &serde_json::Value| row["credential_id"].as_str().unwrap().to_owned();
    let history = world.history();
    let ids = [id(&history[1]), id(&history[0])];
    (world, ids)
}

fn delivered(world: &TestEnv) -> String {
    let text = fs::read_to_string(world.path("billing.key")).unwrap();
    text.trim().to_owned()
}

fn seen_since(world: &TestEnv) -> Vec<Option<String>> {
    let ledger = read_ledger(&world.path("ledger.db"));
    let mut rows = ledger
        .prepare("SELECT seen_since FROM delivery ORDER BY rotation_row")
        .unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn change_ledger(world: &TestEnv, sql: &str) {
    let ledger = write_ledger(&world.path("ledger.db"));
    assert_ne!(ledger.execute(sql, []).unwrap(), 0, "{sql}");
}

/// Somebody restored the previous credential: its consumers keep it, although its overlap
/// is over, until max-revoke-delay has passed. Then the file gets a newer one, and rekeyd
/// revokes the credential one overlap later.
#[test]
fn file_with_a_live_retired_credential_is_left_as_it_is_for_a_while() {
    let (world, [first, second]) = gone_back("1h");
    // The overlap is over.
    change_ledger(
        &world,
        "UPDATE rotation SET revoke_after = '2026-01-01T00:00:00Z' WHERE phase = 'retired'",
    );
    change_ledger(
        &world,
        "UPDATE delivery SET accepted_at = '2026-01-01T00:00:00Z'",
    );
    world.ok(&["once"]);
    assert_eq!(triggers(&world), ["manual", "first"]);
    assert_eq!(delivered(&world), world.secret_of(&first));
    assert!(world.live_ids().contains(&first));
    let status = world.ok(&["status"]);
    let line = format!("holds the retired credential {first} again");
    assert!(status.contains(&line), "{status}");
    let since = seen_since(&world);
    assert!(since[0].is_some() && since[1].is_none(), "{since:?}");
    // A restart does not move the bound.
    change_ledger(
        &world,
        "UPDATE delivery SET seen_since = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-1 day')
         WHERE seen_since IS NOT NULL",
    );
    let since = seen_since(&world);
    world.ok(&["once"]);
    assert_eq!(seen_since(&world), since);
    // `revoke` says which sink holds it.
    let refused = text(&world.run(&["revoke", &first]).stderr);
    assert!(refused.contains("billing.key"), "{refused}");
    // The bound is over.
    change_ledger(
        &world,
        "UPDATE delivery SET seen_since = '2026-01-01T00:00:00Z' WHERE seen_since IS NOT NULL",
    );
    world.ok(&["once"]);
    assert_eq!(triggers(&world), ["repair", "manual", "first"]);
    let history = world.history();
    let third = history[0]["credential_id"].as_str().unwrap();
    assert_eq!(delivered(&world), world.secret_of(third));
    let live = world.live_ids();
    assert!(live.contains(&first) && live.contains(&second), "{live:?}");
    // One overlap later it goes.
    change_ledger(
        &world,
        "UPDATE delivery SET seen_until = '2026-01-01T01:00:00Z' WHERE seen_until IS NOT NULL",
    );
    change_ledger(
        &world,
        "UPDATE rotation SET revoke_after = '2026-01-01T00:00:00Z', retry_at = NULL
         WHERE phase = 'retired'",
    );
    change_ledger(
        &world,
        "UPDATE delivery SET accepted_at = '2026-01-01T00:00:00Z'",
    );
    world.ok(&["once"]);
    assert!(!world.live_ids().contains(&first));
}

/// The next rotation is delivered to the file as ever.
#[test]
fn file_with_a_live_retired_credential_gets_the_next_one() {
    let (world, [first, _]) = gone_back("24h");
    world.ok(&["once"]);
    world.ok(&["rotate", "billing"]);
    let history = world.history();
    let third = history[0]["credential_id"].as_str().unwrap();
    assert_eq!(delivered(&world), world.secret_of(third));
    assert!(world.live_ids().contains(&first));
    let status = world.ok(&["status"]);
    assert!(!status.contains("again"), "{status}");
}

/// Its consumers are cut off already.
#[test]
fn file_with_a_dead_credential_is_repaired_at_once() {
    // The ledger knows that it is revoked, or only the provider.
    for at_provider in [false, true] {
        let (world, [first, _]) = gone_back("24h");
        let dead = world.secret_of(&first);
        if at_provider {
            delete_manually(&world, &first);
        } else {
            world.ok(&["revoke", &first, "--force"]);
        }
        world.ok(&["once"]);
        assert_eq!(triggers(&world)[0], "repair", "{at_provider}");
        assert_ne!(delivered(&world), dead);
        assert_eq!(seen_since(&world), [None, None, None], "{at_provider}");
    }
}

/// Returns when the key is tried again, from the line of the log that says so.
fn planned_retry(line: &str) -> jiff::Timestamp {
    let planned = line.split("retry_at=\"").nth(1).unwrap();
    planned.split('"').next().unwrap().parse().unwrap()
}

/// An administrator who has repaired the host does not wait for the back-off.
#[test]
fn repaired_host_is_tried_at_once_by_a_reload_and_by_a_start() {
    for is_restarted in [false, true] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h").replace("DIR/", "DIR/absent/"));
        let mut daemon = Daemon::start(&world);
        let planned = planned_retry(&daemon.wait_for("billing: rotation failed"));
        // The log has the failure before the ledger has.
        wait_until("status shows the failure", || {
            text(&world.run(&["status"]).stdout).contains("failing")
        });
        fs::create_dir(world.path("absent")).unwrap();
        if is_restarted {
            daemon.stop();
            daemon = Daemon::start(&world);
        } else {
            world.ok(&["reload"]);
        }
        daemon.wait_for("is the current credential");
        let history = world.history();
        let started = history[0]["started_at"].as_str().unwrap();
        let started: jiff::Timestamp = started.parse().unwrap();
        assert!(started < planned, "restarted: {is_restarted}");
        let status = text(&world.run(&["status"]).stdout);
        assert!(status.contains("healthy"), "{status}");
        assert!(!status.contains("absent"), "{status}");
        drop(daemon);
    }
}
