//! The daemon as a process: signals, and the state after it was killed.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text};
use rustix::process::Signal;

#[test]
fn first_signal_shuts_down_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("0s"));
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("is the current credential");
        daemon.signal(signal);
        daemon.wait_for("stopped");
        assert!(daemon.wait().success());
        // The lock is free again.
        world.ok(&["once"]);
    }
}

#[test]
fn previous_credential_is_revoked_after_the_overlap() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1s"));
    world.ok(&["once"]);
    world.ok(&["rotate", "--all"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("revoked the previous");
    daemon.signal(Signal::TERM);
    daemon.wait_for("stopped");
    let history = world.history();
    assert_eq!(history[1]["phase"], "revoked");
    let text = |column: &str| history[1][column].as_str().unwrap().to_owned();
    assert!(text("revoked_at") >= text("revoke_after"));
    assert!(text("revoke_after").as_str() > history[0]["current_at"].as_str().unwrap());
    assert_eq!(
        world.live_ids(),
        [history[0]["credential_id"].as_str().unwrap()]
    );
}

#[test]
fn second_signal_exits_immediately() {
    let world = TestEnv::start(&["--fault", "create:hang:1"]);
    world.configure(&file_key_text("0s"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: rotating");
    daemon.signal(Signal::TERM);
    daemon.wait_for("finishing the running steps");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1));
}

#[test]
fn daemon_without_keys_logs_it() {
    let world = TestEnv::start(&[]);
    world.configure("");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("no keys are configured");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}

#[test]
fn killed_rotation_goes_on_with_the_secret_in_its_file() {
    let world = TestEnv::start(&[]);
    // The receiver never answers, so the delivery is under way for the daemon's whole life.
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    std::thread::spawn(move || receiver.incoming().collect::<Vec<_>>());
    let webhook = format!(
        "[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         owner = \"OWN-USER\"\nsigning-secret-file = \"DIR/webhook-secret\"\n"
    );
    crate::support::write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    world.configure(&format!("{}{webhook}", file_key_text("0s")));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: delivered to file");
    daemon.signal(Signal::KILL);
    daemon.wait();
    let before = world.history();
    assert_eq!(before[0]["phase"], "verified");

    // The webhook was removed from the configuration.
    world.configure(&file_key_text("0s"));
    world.ok(&["once"]);
    let after = world.history();
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(after[0]["phase"], "current");
    assert_eq!(after[0]["credential_id"], before[0]["credential_id"]);
    let secret = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(
        secret.trim(),
        world.secret_of(after[0]["credential_id"].as_str().unwrap())
    );
}

/// The status that the service manager shows.
#[test]
fn failing_key_is_sent_to_the_service_manager() {
    let mut world = TestEnv::start(&[]);
    let path = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    world.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
    world.configure(&file_key_text("1s").replace("DIR/billing.key", "DIR/away/billing.key"));
    let daemon = Daemon::start(&world);
    let was_sent = |expected: &str| wait_for_message(&manager, expected);
    was_sent("READY=1");
    was_sent("STATUS=billing is failing; next rotation: billing at 20");
    std::fs::create_dir(world.path("away")).unwrap();
    std::fs::set_permissions(world.path("away"), std::fs::Permissions::from_mode(0o700)).unwrap();
    world.ok(&["rotate", "billing"]);
    was_sent("STATUS=next rotation: billing at 20");
    daemon.stop();
    was_sent("STOPPING=1");
}

/// Reads what the daemon sends to its service manager, until a message contains `expected`.
fn wait_for_message(manager: &std::os::unix::net::UnixDatagram, expected: &str) {
    let mut message = [0; 4_096];
    loop {
        let length = manager.recv(&mut message).expect(expected);
        if text(&message[..length]).contains(expected) {
            return;
        }
    }
}

/// The queue of a service manager that does not read is full.
#[test]
fn service_manager_that_does_not_read_delays_nothing() {
    let mut world = TestEnv::start(&[]);
    let path = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &path).is_ok() {}
    world.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
    world.configure(&file_key_text("1s"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    for _ in 0..3 {
        world.ok(&["rotate", "billing"]);
    }
    world.ok(&["reload"]);
    // What it must know comes when it reads again.
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let was_sent = |expected: &str| wait_for_message(&manager, expected);
    was_sent("READY=1");
    was_sent("STATUS=");
    while sender.send_to(b"full", &path).is_ok() {}
    daemon.stop();
}
