//! What `status` and `history` say of a daemon that is not running, of a ledger that it
//! cannot write, and of what an operator holds or paused.

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text};
use rustix::process::Signal;

fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world
}

fn running(world: &TestEnv) -> Daemon {
    let mut daemon = Daemon::start(world);
    daemon.wait_for("is the current credential");
    daemon
}

/// Returns the exit code of `status` and its first line.
fn status(world: &TestEnv, arguments: &[&str]) -> (Option<i32>, String) {
    let output = world.run(&[&["status"], arguments].concat());
    let stdout = text(&output.stdout);
    let first = stdout.lines().next().unwrap_or_default().to_owned();
    (output.status.code(), first)
}

fn status_json(world: &TestEnv) -> Value {
    let output = world.run(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn daemon_that_is_not_running_is_a_problem_and_a_timer_is_none() {
    let world = world();
    // Nothing rotates, whether or not a command has written the ledger.
    for command in ["check", "pause", "resume"] {
        match command {
            "check" => world.ok(&["check"]),
            command => world.ok(&[command, "billing"]),
        };
        let (code, first) = status(&world, &[]);
        assert_eq!(code, Some(1), "{command}: {first}");
        assert!(first.starts_with("rekeyd is not running"), "{first}");
        assert_eq!(status(&world, &["--offline"]).0, Some(0), "{command}");
        let state = status_json(&world)["keys"][0]["state"].clone();
        assert_eq!(state, if command == "pause" { "paused" } else { "new" });
    }

    world.ok(&["once"]);
    let (code, first) = status(&world, &[]);
    assert_eq!(code, Some(0), "{first}");
    assert!(
        first.contains("the last `rekeyd once` ended at 2"),
        "{first}"
    );
    assert_eq!(status_json(&world)["keys"][0]["state"], "healthy");

    for is_killed in [false, true] {
        let mut daemon = Daemon::start(&world);
        daemon.wait_for(" started");
        let (code, first) = status(&world, &[]);
        assert_eq!(code, Some(0), "{first}");
        assert!(
            first.starts_with("running: rekeyd run (process "),
            "{first}"
        );
        assert_eq!(status_json(&world)["running"], true);
        if is_killed {
            daemon.signal(Signal::KILL);
            daemon.wait();
        } else {
            daemon.stop();
        }
        // A command that a person runs is no daemon.
        world.ok(&["pause", "billing"]);
        world.ok(&["resume", "billing"]);
        let (code, first) = status(&world, &[]);
        assert_eq!(code, Some(1), "{first}");
        let end = if is_killed {
            "crashed or was killed, and was last active"
        } else {
            "stopped"
        };
        let expected = format!("rekeyd is NOT running; it {end} at 2");
        assert!(first.starts_with(&expected), "{first}");
        let json = status_json(&world);
        assert_eq!(json["running"], false);
        assert!(json["not_running_since"].is_string(), "{json}");
        let (code, first) = status(&world, &["--offline"]);
        assert_eq!(code, Some(0), "{first}");
    }
}

#[test]
fn holds_and_pauses_show_who_why_and_until_when() {
    let world = world();
    let daemon = running(&world);
    let id = world.live_ids().remove(0);
    world.ok(&["hold", &id, "--reason", "an audit"]);
    world.ok(&["pause", "billing", "--until", "2031-01-01T00:00:00Z"]);
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    let by = rekeyd::platform::users::describe_author(&uid);
    let hold =
        format!("billing: {id} is on hold by {by}: an audit; `rekeyd release {id}` ends the hold");
    for command in ["status", "history"] {
        let shown = world.ok(&[command]);
        assert!(shown.contains(&hold), "{shown}");
        assert!(
            shown.contains("; the pause ends at 2031-01-01T00:00:00Z"),
            "{shown}"
        );
    }
    let json = status_json(&world);
    let key = &json["keys"][0];
    assert_eq!(
        (&key["state"], &key["paused"]),
        (&"paused".into(), &true.into())
    );
    assert_eq!(key["pause"]["until"], "2031-01-01T00:00:00Z");
    assert_eq!(key["holds"][0]["credential_id"], id.as_str());
    assert_eq!(key["holds"][0]["until"], Value::Null);
    assert_eq!(key["holds"][0]["reason"], "an audit");
    let history = world.history();
    assert_eq!(
        (&history[0]["held"], &history[0]["hold_until"]),
        (&1.into(), &Value::Null)
    );
    assert_eq!(history[0]["hold_reason"], "an audit");
    // No output and no view has the year 9999.
    let ledger = crate::support::read_ledger(&world.path("ledger.db"));
    let dump = "SELECT group_concat(detail) || (SELECT coalesce(group_concat(hold_until), '')
                FROM rotation) FROM events";
    let dump: String = ledger.query_row(dump, [], |row| row.get(0)).unwrap();
    assert!(!dump.contains("9999"), "{dump}");
    world.ok(&["release", &id]);
    world.ok(&["resume", "billing"]);
    let shown = world.ok(&["status"]);
    assert!(
        !shown.contains("held") && !shown.contains("paused"),
        "{shown}"
    );
    drop(daemon);
}

#[test]
fn revoke_of_a_retired_credential_names_its_overlap_and_its_sink() {
    let world = world();
    let daemon = running(&world);
    let first = world.live_ids().remove(0);
    world.ok(&["rotate", "billing"]);
    let output = world.run(&["revoke", &first]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    for part in [
        "is in its overlap until 2",
        "consumers of file (file:",
        "--force",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(!stderr.contains("rotate first"), "{stderr}");
    drop(daemon);
}

#[test]
fn error_says_how_old_it_is() {
    let world = world();
    std::fs::remove_dir_all(world.path("away")).ok();
    let text_of_key = file_key_text("24h").replace("DIR/billing.key", "DIR/away/billing.key");
    world.configure(&text_of_key);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("rotation failed");
    let output = world.run(&["status"]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains(" (at 20"), "{stdout}");
    assert!(status_json(&world)["keys"][0]["problem_at"].is_string());
    // A reload after the repair does not wait for the back-off.
    std::fs::create_dir(world.path("away")).unwrap();
    world.ok(&["reload"]);
    daemon.wait_for("is the current credential");
}

/// Nobody must believe that a daemon continues it.
#[test]
fn command_without_a_daemon_says_that_it_does_the_work_itself() {
    let world = world();
    for (arguments, expected) in [
        (&["rotate", "billing", "--no-wait"][..], "despite --no-wait"),
        (&["rotate", "billing"], "`rekeyd once` ends the overlap"),
        (
            &["pause", "billing"],
            "so this command writes the ledger; the next",
        ),
        (
            &["resume", "billing"],
            "so this command writes the ledger; the next",
        ),
        (
            &["adopt", "--from-sinks"],
            "sends its requests to the provider itself",
        ),
    ] {
        let output = world.run(arguments);
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        let note = format!(
            "note: no rekeyd is running with the ledger {}",
            world.path("ledger.db").display()
        );
        assert!(stderr.contains(&note), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let reload = world.run(&["reload"]);
    let stderr = text(&reload.stderr);
    assert_eq!(reload.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("there is nothing to reload"), "{stderr}");
    // A daemon says nothing of the kind.
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let output = world.run(&["pause", "billing"]);
    assert!(!text(&output.stderr).contains("no rekeyd is running"));
    daemon.stop();
}

/// A typo is no answer, and costs no request.
#[test]
fn key_that_does_not_exist_is_refused_by_every_command() {
    let world = world();
    let refused = |arguments: &[&str]| {
        let output = world.run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains("no key nosuch is configured"), "{message}");
        assert!(message.contains("configured keys: billing"), "{message}");
        message
    };
    for command in [&["rotate", "nosuch"][..], &["adopt", "nosuch", "key_1"]] {
        let message = refused(command);
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!world.path("ledger.db").exists(), "{command:?}");
    }
    world.ok(&["once"]);
    for command in ["pause", "resume", "status", "show", "history"] {
        refused(&[command, "nosuch"]);
    }
}
