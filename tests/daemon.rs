//! The daemon as a process: signals, and what a killed one leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Running, World};

const KEY: &str = r#"
[key.billing]
schedule = "@monthly"
overlap = "0s"
settle = "0s"
[[key.billing.sink]]
type = "file"
path = "DIR/billing.key"
"#;

struct Daemon {
    process: Running,
    log: Lines<BufReader<ChildStderr>>,
}

impl Daemon {
    fn start(world: &World) -> Self {
        let mut child = world
            .command(&["run"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            process: Running(child),
            log,
        }
    }

    /// Reads the log up to a line with `wanted`.
    fn wait_for(&mut self, wanted: &str) {
        let mut seen = String::new();
        for line in self.log.by_ref() {
            let line = line.unwrap();
            if line.contains(wanted) {
                return;
            }
            seen = format!("{seen}{line}\n");
        }
        panic!("the log ended without {wanted:?}:\n{seen}");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

#[test]
fn the_first_signal_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::start(&[]);
        world.configure(KEY);
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("is the current credential");
        daemon.signal(signal);
        daemon.wait_for("stopped");
        assert!(daemon.process.0.wait().unwrap().success());
        // The lock is free again.
        world.ok(&["once"]);
    }
}

#[test]
fn the_previous_credential_is_revoked_after_the_overlap() {
    let world = World::start(&[]);
    world.configure(&KEY.replace("overlap = \"0s\"", "overlap = \"1s\""));
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
        world.live(),
        [history[0]["credential_id"].as_str().unwrap()]
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = World::start(&["--fault", "create:hang:1"]);
    world.configure(KEY);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("rotating billing");
    daemon.signal(Signal::TERM);
    daemon.wait_for("finishing the steps");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.process.0.wait().unwrap().code(), Some(1));
}

#[test]
fn it_says_so_when_it_has_no_keys() {
    let world = World::start(&[]);
    world.configure("");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("no key is configured");
    daemon.signal(Signal::TERM);
    assert!(daemon.process.0.wait().unwrap().success());
}

#[test]
fn a_rotation_that_was_killed_is_stranded_and_done_anew() {
    let world = World::start(&[]);
    // The receiver is nobody: the delivery is tried for as long as it lives.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    let webhook = format!(
        "[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         signing-secret-file = \"DIR/webhook-secret\"\n"
    );
    support::write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    world.configure(&format!("{KEY}{webhook}"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("delivered billing to file");
    daemon.signal(Signal::KILL);
    daemon.process.0.wait().unwrap();
    let before = world.history();
    assert_eq!(before[0]["phase"], "verified");

    // The webhook is gone from the configuration; the file may hold the secret.
    world.configure(KEY);
    world.ok(&["once"]);
    let after = world.history();
    assert_eq!(after[0]["phase"], "current");
    assert_eq!(after[0]["trigger"], "repair");
    let held = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(
        held.trim(),
        world.secret_of(after[0]["credential_id"].as_str().unwrap())
    );
    assert!(
        ["retired", "revoked"].contains(&after[1]["phase"].as_str().unwrap()),
        "{after:?}"
    );
}
