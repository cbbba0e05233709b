//! The `on-change` command of a file sink: it is pending until it succeeds, even across a
//! restart, which does not write the file again.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, read_ledger, text, write};
use rustix::process::Signal;

/// Writes a key whose file sink has an `on-change` with these lines, in which `$1` is the
/// folder of the environment.
fn configure(world: &TestEnv, lines: &str, options: &str, more: &str) {
    let script = world.path("after");
    write(&script, &format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    world.configure(&format!(
        "[key.billing]\nschedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"file\"\nname = \"file\"\npath = \"DIR/billing.key\"\n\
         on-change = [\"DIR/after\", \"DIR\"]\n{options}{more}"
    ));
}

/// A script that fails until a file `ready` exists, and records what it saw.
const UNTIL_READY: &str = "echo run >>\"$1/runs\"\n\
    [ -e \"$1/ready\" ] || { echo not ready >&2; exit 3; }\n\
    env | sort >\"$1/environment\"\ncat >\"$1/input\"\ncat \"$1/billing.key\" >\"$1/read\"";

const OTHER_SINK: &str =
    "[[key.billing.sink]]\ntype = \"file\"\nname = \"other\"\npath = \"DIR/other.key\"\n";

/// Returns the row of `deliveries` for the newest rotation's sink.
fn delivery(world: &TestEnv, sink: &str) -> (String, u32, Option<String>) {
    let ledger = read_ledger(&world.path("ledger.db"));
    let row = "SELECT d.state, d.attempts, d.error FROM deliveries d JOIN history h
        ON h.rotation = d.rotation WHERE d.sink = ?1 ORDER BY h.sequence DESC LIMIT 1";
    ledger
        .query_row(row, [sink], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap()
}

fn events(world: &TestEnv, event: &str) -> u32 {
    let ledger = read_ledger(&world.path("ledger.db"));
    let row = "SELECT count(*) FROM events WHERE event = ?1";
    ledger.query_row(row, [event], |row| row.get(0)).unwrap()
}

fn read(world: &TestEnv, name: &str) -> String {
    fs::read_to_string(world.path(name)).unwrap()
}

#[test]
fn on_change_runs_after_a_file_change_without_the_secret() {
    let world = TestEnv::start(&[]);
    fs::write(world.path("ready"), "").unwrap();
    configure(&world, UNTIL_READY, "", OTHER_SINK);
    world.ok(&["once"]);

    let history = world.history();
    let (id, rotation) = (&history[0]["credential_id"], &history[0]["rotation"]);
    let secret = world.secret_of(id.as_str().unwrap());
    assert_eq!(read(&world, "read"), format!("{secret}\n"));
    assert_eq!(read(&world, "input"), "");
    let environment = read(&world, "environment");
    let lines: Vec<_> = environment
        .lines()
        // The shell sets these variables itself.
        .filter(|line| {
            !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .collect();
    let expected = [
        "LANG=C.UTF-8".to_owned(),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("REKEYD_CREDENTIAL_ID={}", id.as_str().unwrap()),
        "REKEYD_KEY=billing".to_owned(),
        format!("REKEYD_ROTATION={}", rotation.as_str().unwrap()),
        format!("REKEYD_SEQUENCE={}", history[0]["sequence"]),
        "REKEYD_SINK=file".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(delivery(&world, "file").0, "accepted");
    assert_eq!(delivery(&world, "other").0, "accepted");
    assert_eq!(events(&world, "delivery-written"), 1);
}

#[test]
fn failed_on_change_is_repeated_after_restart_without_a_write() {
    let world = TestEnv::start(&[]);
    fs::write(world.path("ready"), "").unwrap();
    configure(&world, UNTIL_READY, "", OTHER_SINK);
    world.ok(&["once"]);
    let previous = world.history()[0]["credential_id"].clone();
    fs::remove_file(world.path("ready")).unwrap();

    let mut daemon = Daemon::start(&world);
    daemon.wait_for("using the admin key");
    world.ok(&["rotate", "billing", "--no-wait"]);
    daemon.wait_for("its on-change program failed");
    // All other work is done meanwhile.
    daemon.wait_for("its on-change program failed");
    assert_eq!(delivery(&world, "other").0, "accepted");
    let (state, _, error) = delivery(&world, "file");
    assert_eq!(state, "uncertain");
    let error = error.unwrap();
    assert!(
        error.ends_with("after exited with code 3: not ready"),
        "{error}"
    );
    let written = fs::metadata(world.path("billing.key")).unwrap();

    daemon.signal(Signal::KILL);
    daemon.wait();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("its on-change program failed");
    // Consumers may still use the previous credential.
    assert!(
        world
            .live_ids()
            .contains(&previous.as_str().unwrap().to_owned())
    );
    assert_eq!(world.history()[0]["phase"], "verified");
    fs::write(world.path("ready"), "").unwrap();
    daemon.wait_for("is the current credential");
    daemon.wait_for("revoked the previous");
    daemon.stop();

    let now = fs::metadata(world.path("billing.key")).unwrap();
    assert_eq!(now.ino(), written.ino());
    assert_eq!(now.mtime_nsec(), written.mtime_nsec());
    let history = world.history();
    assert_eq!(history.len(), 2, "nothing else was made");
    assert_eq!(history[0]["phase"], "current");
    let secret = world.secret_of(history[0]["credential_id"].as_str().unwrap());
    assert_eq!(read(&world, "read"), format!("{secret}\n"));
}

#[test]
fn on_change_is_skipped_if_the_file_was_replaced() {
    let world = TestEnv::start(&[]);
    configure(&world, UNTIL_READY, "", "");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("its on-change program failed");
    daemon.signal(Signal::KILL);
    daemon.wait();
    fs::remove_file(world.path("billing.key")).unwrap();
    fs::write(world.path("ready"), "").unwrap();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is stranded");
    daemon.wait_for("is the current credential");
    daemon.stop();
    let history = world.history();
    assert_eq!(history.len(), 2, "the stranded one and its successor");
    let current = &history[0];
    let secret = world.secret_of(current["credential_id"].as_str().unwrap());
    assert_eq!(read(&world, "read"), format!("{secret}\n"));
}

#[test]
fn once_leaves_failed_on_change_to_the_next_run() {
    let world = TestEnv::start(&[]);
    configure(&world, UNTIL_READY, "", "");
    let output = world.run(&["once", "--for", "5s"]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("not everything due was done within 5s"),
        "{log}"
    );
    assert!(!log.contains("--for"), "more time repairs nothing: {log}");
    let status = world.run(&["status", "billing"]);
    let stdout = text(&status.stdout);
    assert!(stdout.contains("not ready"), "{stdout}");
    fs::write(world.path("ready"), "").unwrap();
    // The back-off does not delay it.
    world.ok(&["rotate", "billing"]);
    let history = world.history();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["phase"], "current");
    assert_eq!(delivery(&world, "file").0, "accepted");
}

#[test]
fn on_change_is_killed_at_its_timeout() {
    let world = TestEnv::start(&[]);
    configure(&world, "sleep 1000", "on-change-timeout = \"1s\"\n", "");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("did not exit within 1s and was killed");
    // A pending `on-change` command does not delay the shutdown.
    daemon.stop();
    assert_eq!(delivery(&world, "file").0, "uncertain");
}

#[test]
fn on_change_of_optional_sink_is_repeated_after_restart() {
    let world = TestEnv::start(&[]);
    configure(&world, UNTIL_READY, "required = false\n", OTHER_SINK);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    daemon.wait_for("its on-change program failed");
    daemon.signal(Signal::KILL);
    daemon.wait();
    fs::write(world.path("ready"), "").unwrap();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: delivered to file");
    daemon.stop();
    assert_eq!(delivery(&world, "file").0, "accepted");
    assert_eq!(world.history().len(), 1);
}

#[test]
fn missing_on_change_program_defers_the_create() {
    let world = TestEnv::start(&[]);
    configure(&world, UNTIL_READY, "", "");
    fs::remove_file(world.path("after")).unwrap();
    let output = world.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("on-change: ") && stderr.contains("does not exist"),
        "{stderr}"
    );
    world.run(&["once", "--for", "2s"]);
    assert!(world.live_ids().is_empty());
}

#[test]
fn removed_on_change_is_no_longer_pending_after_reload() {
    let world = TestEnv::start(&[]);
    configure(&world, UNTIL_READY, "", "");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("its on-change program failed");
    world.configure(&crate::support::file_key_text("1s"));
    world.ok(&["reload"]);
    daemon.wait_for("is the current credential");
    daemon.stop();
    assert!(!world.path("read").exists());
}
