//! A credential that leaked ends at a deadline, whatever may still use it.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::moving_in::create_manually;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

const TIMEOUT: Duration = Duration::from_secs(60);

fn credential(row: &serde_json::Value) -> String {
    row["credential_id"].as_str().unwrap().to_owned()
}

/// Returns a key whose credentials have a long overlap, and their ids, newest first.
fn rotated(times: usize) -> (TestEnv, Vec<String>) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    for _ in 0..times {
        world.ok(&["rotate", "billing"]);
    }
    let ids = world.history().iter().map(credential).collect();
    (world, ids)
}

/// Waits until none of `ids` is alive, and `status` shows it.
fn wait_until_gone(world: &TestEnv, ids: &[String]) {
    let started = Instant::now();
    while world.live_ids().iter().any(|id| ids.contains(id)) {
        assert!(started.elapsed() < TIMEOUT, "{}", status(world).1);
        std::thread::yield_now();
    }
    // The commit follows the deletion.
    while status(world).1.contains("leaked") {
        assert!(started.elapsed() < TIMEOUT, "{}", status(world).1);
    }
}

fn status(world: &TestEnv) -> (Option<i32>, String) {
    let output = world.run(&["status"]);
    (output.status.code(), text(&output.stdout))
}

/// Configures two keys, `a` and `b`, that are not due yet.
pub(crate) fn configure_two_keys(world: &TestEnv) {
    let keys = ["a", "b"].map(|name| {
        file_key_text("24h")
            .replace("billing", name)
            .replace("overlap", "initial-rotation = \"scheduled\"\noverlap")
    });
    world.configure(&keys.concat());
}

pub(crate) fn assert_refused(output: &Output, parts: &[&str]) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
    message
}

#[test]
fn every_older_credential_ends_at_the_deadline() {
    let (world, old) = rotated(3);
    let started = Instant::now();
    let message = world.ok(&["rotate", "billing", "--revoke-previous-within", "3s"]);
    assert!(started.elapsed() > Duration::from_secs(1), "not before it");
    assert_eq!(
        message,
        "billing: rotated, and its earlier credentials are revoked\n"
    );
    let live = world.live_ids();
    assert_eq!(live.len(), 1);
    assert!(!old.contains(&live[0]));
    let secret = fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(secret.trim(), world.secret_of(&live[0]));
    world.ok(&["status", "--offline"]);
}

/// A sink that never takes the new credential delays nothing.
#[test]
fn failing_sink_does_not_delay_the_end() {
    let (world, old) = rotated(1);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    fs::remove_file(world.path("billing.key")).unwrap();
    fs::create_dir(world.path("billing.key")).unwrap();
    let failed = world.run(&["rotate", "billing", "--revoke-previous-within", "1s"]);
    assert_refused(
        &failed,
        &[
            "its earlier credentials are revoked",
            "not a regular file",
            "rekeyd retries at",
        ],
    );
    assert!(!world.live_ids().contains(&old[0]));
    assert_eq!(world.live_ids().len(), 1);
    let (code, text) = status(&world);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("leaked"), "{text}");
    fs::remove_dir(world.path("billing.key")).unwrap();
    world.ok(&["rotate", "billing"]);
    daemon.stop();
}

/// Neither a restart nor a pause moves the deadline.
#[test]
fn deadline_outlives_the_process_and_a_pause() {
    let (world, old) = rotated(1);
    world.ok(&["pause", "billing"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&[
        "rotate",
        "billing",
        "--revoke-previous-within",
        "3s",
        "--no-wait",
    ]);
    daemon.wait_for("may have leaked");
    drop(daemon);
    let (code, text) = status(&world);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&format!("{} may have leaked", old[0])),
        "{text}"
    );
    let daemon = Daemon::start(&world);
    wait_until_gone(&world, &old);
    daemon.stop();
}

/// A timer's run stays for a deadline that is near.
#[test]
fn once_waits_for_a_near_deadline() {
    let (world, old) = rotated(1);
    let mut daemon = Daemon::start_with(&world, &["--log-level", "debug"]);
    daemon.wait_for(" started");
    world.ok(&[
        "rotate",
        "billing",
        "--revoke-previous-within",
        "5s",
        "--no-wait",
    ]);
    daemon.wait_for("may have leaked");
    daemon.wait_for("is the current credential key=billing");
    drop(daemon);
    world.ok(&["once"]);
    assert!(!world.live_ids().contains(&old[0]));
    assert_eq!(world.live_ids().len(), 1);
}

#[test]
fn end_waits_for_a_new_credential_that_is_verified() {
    let (mut world, old) = rotated(1);
    world.restart_sandbox(&["--fault", "create:500-before:1"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let failed = world.run(&["rotate", "billing", "--revoke-previous-within", "1s"]);
    let advice = format!("rekeyd revoke {} --force", old[0]);
    assert_refused(&failed, &[&advice, "rekeyd retries at"]);
    let (code, text) = status(&world);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("waiting for a new credential that is verified"),
        "{text}"
    );
    assert!(text.contains(&advice), "{text}");
    assert_eq!(world.live_ids(), old);
    world.restart_sandbox(&[]);
    world.ok(&["rotate", "billing"]);
    wait_until_gone(&world, &old);
    daemon.stop();
}

#[test]
fn held_credential_ends_only_with_force() {
    let (world, old) = rotated(2);
    world.ok(&["hold", &old[1]]);
    let order = ["rotate", "billing", "--revoke-previous-within", "1s"];
    let refused = world.run(&order);
    assert_refused(&refused, &["not rotated", &old[1], "is on hold", "--force"]);
    assert_eq!(world.history().len(), 2);
    let (code, text) = status(&world);
    assert!(!text.contains("leaked"), "{code:?} {text}");
    world.ok(&[&order[..], &["--force"]].concat());
    assert_eq!(world.live_ids().len(), 1);
}

/// Limits of the schedule do not stand in the way.
#[test]
fn limits_do_not_delay_the_end() {
    let world = TestEnv::start(&[]);
    let limits = "[key.billing]\nmax-live-credentials = 3\nmax-creates-per-day = 3\n";
    world.configure(&file_key_text("24h").replace("[key.billing]\n", limits));
    for _ in 0..3 {
        world.ok(&["rotate", "billing"]);
    }
    world.ok(&["rotate", "billing", "--revoke-previous-within", "1s"]);
    assert_eq!(world.live_ids().len(), 1);
}

/// Two consumers use one credential that a person made, and it leaked.
#[test]
fn other_keys_of_a_leaked_credential_are_named_and_rotated() {
    for with_daemon in [false, true] {
        let world = TestEnv::start(&[]);
        configure_two_keys(&world);
        let (id, secret) = create_manually(&world, "made for both");
        for key in ["a", "b"] {
            write(&world.path(&format!("{key}.key")), &secret);
        }
        world.ok(&["adopt", "--from-sinks", "--yes"]);
        let daemon = with_daemon.then(|| {
            let mut daemon = Daemon::start(&world);
            daemon.wait_for(" started");
            daemon
        });
        let order = ["rotate", "a", "--revoke-previous-within", "1s"];
        let refused = world.run(&order);
        assert_refused(&refused, &[&id, "also used by b", "not rotated", "--yes"]);
        assert_eq!(world.history().len(), 2);
        let rotated = world.run(&[&order[..], &["--yes"]].concat());
        let warnings = text(&rotated.stderr);
        assert!(warnings.contains("also used by b"), "{warnings}");
        assert!(!warnings.contains("a: not rotated"), "{warnings}");
        let message = text(&rotated.stdout);
        for key in ["a", "b"] {
            assert!(message.contains(&format!("{key}: rotated")), "{message}");
            assert_ne!(
                fs::read_to_string(world.path(&format!("{key}.key"))).unwrap(),
                secret
            );
        }
        assert!(!world.live_ids().contains(&id));
        assert_eq!(world.live_ids().len(), 2);
        assert_eq!(world.history().len(), 4);
        if let Some(daemon) = daemon {
            daemon.stop();
        }
    }
}

/// What rekeyd works with goes once rekeyd works with the new one.
#[test]
fn own_credential_ends_once_the_new_one_is_used() {
    let world = TestEnv::start(&[]);
    world.configure(
        "[key.own]\nschedule = \"@monthly\"\noverlap = \"24h\"\nverify-interval = \"0s\"\n\
         [[key.own.sink]]\ntype = \"self\"\n",
    );
    world.ok(&["once"]);
    let old = world.live_ids();
    world.ok(&["rotate", "own", "--revoke-previous-within", "1s"]);
    let live = world.live_ids();
    assert_eq!(live.len(), 1);
    assert_ne!(live, old);
    world.ok(&["check", "--online"]);
}

/// A program that never ends delays nothing.
#[test]
fn hanging_program_does_not_delay_the_end() {
    let (world, old) = rotated(1);
    let hanging = format!(
        "{}on-change = [\"/bin/sleep\", \"1000\"]\non-change-timeout = \"5m\"\n",
        file_key_text("24h")
    );
    world.configure(&hanging);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&[
        "rotate",
        "billing",
        "--revoke-previous-within",
        "2s",
        "--no-wait",
    ]);
    wait_until_gone(&world, &old);
    let secret = fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(secret.trim(), world.secret_of(&world.live_ids()[0]));
    drop(daemon);
}

/// A delivery that hangs is no longer under way when a leak is reported.
#[test]
fn hanging_rotation_is_given_up() {
    let (world, old) = rotated(1);
    let hanging = format!(
        "{}on-change = [\"/bin/sleep\", \"1000\"]\non-change-timeout = \"5m\"\n",
        file_key_text("24h")
    );
    world.configure(&hanging);
    let mut daemon = Daemon::start_with(&world, &["--log-level", "debug"]);
    daemon.wait_for(" started");
    world.ok(&["rotate", "billing", "--no-wait"]);
    daemon.wait_for("verified key_");
    let open = world.live_ids();
    assert_eq!(open.len(), 2);
    let order = ["rotate", "billing", "--revoke-previous-within", "1s"];
    world.ok(&[&order[..], &["--no-wait"]].concat());
    wait_until_gone(&world, &open);
    assert_eq!(world.live_ids().len(), 1);
    assert!(!old.contains(&world.live_ids()[0]));
    drop(daemon);
}

/// What looks like a credential of the key and has no row may have leaked with it, as after a
/// restored backup: the command does not say that everything is revoked.
#[test]
fn lookalikes_of_a_leaked_key_are_named() {
    let (world, _) = rotated(1);
    let (lookalike, _) = create_manually(&world, "billing-20260101T000000Z-abcdef");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("which looks like a label");
    let order = ["rotate", "billing", "--revoke-previous-within", "1s"];
    let output = world.run(&order);
    assert_refused(
        &output,
        &[&lookalike, "may have leaked too", "rekeyd adopt billing"],
    );
    let message = text(&output.stdout);
    assert!(
        message.contains("earlier credentials are revoked"),
        "{message}"
    );
    world.ok(&["adopt", "billing", &lookalike]);
    world.ok(&order);
    assert!(!world.live_ids().contains(&lookalike));
    daemon.stop();
}
