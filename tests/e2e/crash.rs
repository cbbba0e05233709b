//! A panic of the daemon: it ends at once, leaves a trace without secrets, and the next
//! start reports it. The panic is planted, which only a build for development allows.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::log::{fill, wait_for_end};
use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{ChildGuard, TestEnv, file_key_text, read_ledger, text};

/// The start of the message of the panic.
const PLANTED: &str = "planted:";

/// How long a test waits for a notification.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the command of a daemon that panics with its admin key in the message.
fn crashing(world: &TestEnv, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    let text = format!("{PLANTED} {} sk-admin-0123456789abcdef", world.admin_key);
    command.env("REKEYD_TEST_PANIC", text);
    command.env_remove("RUST_BACKTRACE");
    command
}

fn assert_aborted(status: std::process::ExitStatus) {
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
}

fn assert_no_secret(world: &TestEnv, what: &str) {
    assert!(what.contains(PLANTED), "{what}");
    assert!(!what.contains(&world.admin_key), "{what}");
    assert!(!what.contains("0123456789abcdef"), "{what}");
}

fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    let notify =
        "[[notify]]\ntype = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"cat >>DIR/notified\"]\n";
    world.configure(&format!("{notify}{}", file_key_text("1h")));
    world
}

#[test]
fn crash_is_logged_recorded_and_reported_by_the_next_start() {
    if !cfg!(debug_assertions) {
        return;
    }
    let world = world();
    let crashed = crashing(&world, &["run"]).output().unwrap();
    assert_aborted(crashed.status);
    let log = text(&crashed.stderr);
    let line = log
        .lines()
        .find(|line| line.contains(" crashed at "))
        .unwrap();
    assert!(
        line.contains(" ERROR ") && line.contains("src/daemon/event_loop.rs:"),
        "{line}"
    );
    assert_no_secret(&world, &log);

    let file = world.path("last-crash");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_no_secret(&world, &fs::read_to_string(&file).unwrap());
    assert!(!world.path("last-crash.new").exists());

    // A start that also crashes once: both are counted, and the last one is shown.
    let again = crashing(&world, &["run"]).output().unwrap();
    assert_aborted(again.status);

    let mut daemon = Daemon::start(&world);
    let reported = daemon.wait_for(" crashed at ");
    assert!(reported.contains("ERROR"), "{reported}");
    daemon.wait_for(" started");
    world.ok(&["rotate", "billing"]);
    assert!(!file.exists());
    let ledger = read_ledger(&world.path("ledger.db"));
    let sql = "SELECT count(*), max(detail ->> 'location') FROM events WHERE event = 'crashed'";
    let (count, location): (usize, String) = { ledger }
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(count, 2);
    assert!(
        location.starts_with("src/daemon/event_loop.rs:"),
        "{location}"
    );

    let status = world.ok(&["status"]);
    assert!(status.contains("after "), "{status}");
    assert!(
        status.contains("crashed at src/daemon/event_loop.rs:"),
        "{status}"
    );
    assert_no_secret(&world, &status);
    let status: Value = serde_json::from_str(&world.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["restarts"], count, "{status}");
    let last = &status["last_crash"];
    assert_no_secret(&world, last["reason"].as_str().unwrap());
    assert!(
        last["at"].is_string() && last["version"].is_string(),
        "{last}"
    );
    let end = Instant::now() + PATIENCE;
    let notified = loop {
        let notified = fs::read_to_string(world.path("notified")).unwrap_or_default();
        if notified.contains("crashed at src/daemon") {
            break notified;
        }
        assert!(Instant::now() < end, "{notified}");
        std::thread::yield_now();
    };
    assert_no_secret(&world, &notified);
    daemon.stop();

    // It is told once.
    let log = text(&world.run(&["once"]).stderr);
    assert!(!log.contains("crashed"), "{log}");
}

/// A process that is killed leaves no record; the ledger lacks its end.
#[test]
fn kill_is_recorded_and_reported_by_the_next_start() {
    for signal in [Signal::KILL, Signal::ABORT] {
        let world = world();
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("is the current credential");
        daemon.signal(signal);
        assert_eq!(daemon.wait().signal(), Some(signal.as_raw()));

        let mut daemon = Daemon::start(&world);
        let reported = daemon.wait_for("did not end in order");
        assert!(reported.contains("ERROR"), "{reported}");
        daemon.wait_for(" started");
        let status = world.ok(&["status"]);
        assert!(status.contains("restarted after a kill"), "{status}");
        let status: Value = serde_json::from_str(&world.ok(&["status", "--json"])).unwrap();
        assert_eq!(status["restarts"], 1, "{status}");
        assert_eq!(status["last_crash"]["location"], "", "{status}");
        wait_until("people are notified", || {
            let notified = fs::read_to_string(world.path("notified")).unwrap_or_default();
            notified.contains("did not end in order")
        });
        daemon.stop();

        // It is told once, and a run that ended in order is none.
        let log = text(&world.run(&["once"]).stderr);
        assert!(!log.contains("in order"), "{log}");
        let ledger = read_ledger(&world.path("ledger.db"));
        let sql = "SELECT count(*) FROM events WHERE event = 'crashed'";
        let count: usize = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }
}

#[test]
fn crash_does_not_wait_for_a_reader() {
    if !cfg!(debug_assertions) {
        return;
    }
    let world = world();
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut command = crashing(&world, &["--log-level", "trace", "run"]);
    command.stderr(writer);
    let mut process = ChildGuard(command.spawn().unwrap());
    drop(command);
    assert_aborted(wait_for_end(&mut process));
    assert_no_secret(
        &world,
        &fs::read_to_string(world.path("last-crash")).unwrap(),
    );
}

#[test]
fn crash_is_one_json_object_where_the_log_is_json() {
    if !cfg!(debug_assertions) {
        return;
    }
    let world = world();
    let mut command = crashing(&world, &["--log-format", "json", "run"]);
    let mut child = ChildGuard(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = String::new();
    let stderr = child.0.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert_aborted(wait_for_end(&mut child));
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let crashes: Vec<_> = lines
        .filter(|line| line["message"].as_str().unwrap().contains(" crashed at "))
        .collect();
    assert_eq!(crashes.len(), 1, "{log}");
    assert_eq!(crashes[0]["level"], "ERROR");
    assert_no_secret(&world, &log);
}

/// Nobody can make the daemon write or read elsewhere.
#[test]
fn record_that_is_a_link_is_replaced_and_not_read() {
    if !cfg!(debug_assertions) {
        return;
    }
    let world = world();
    let victim = world.path("victim");
    fs::write(&victim, "kept").unwrap();
    for name in ["last-crash", "last-crash.new"] {
        symlink(&victim, world.path(name)).unwrap();
    }
    let mut daemon = Daemon::start(&world);
    let warned = daemon.wait_for("is no record of a crash");
    assert!(warned.contains("WARN"), "{warned}");
    daemon.stop();
    assert_aborted(crashing(&world, &["run"]).output().unwrap().status);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    assert!(
        fs::symlink_metadata(world.path("last-crash"))
            .unwrap()
            .is_file()
    );
}
