//! `rekeyd sandbox` as a process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{ChildGuard, TestEnv, binary, text, write};
use rekeyd::sandbox::DEFAULT_ADMIN_KEY;
use rustix::process::{Pid, Signal, kill_process};

/// Starts a sandbox on a free port, stops it, and returns the printed base URL and the
/// rest.
fn introduction(arguments: &[&str]) -> (String, String) {
    let mut child = Command::new(binary())
        .args(["sandbox", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut running = ChildGuard(child);
    let (mut first, mut rest) = (String::new(), String::new());
    out.read_line(&mut first).unwrap();
    // The output is written at once, so the sandbox may stop after its first line.
    let pid = Pid::from_raw(i32::try_from(running.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(running.0.wait().unwrap().success());
    out.read_to_string(&mut rest).unwrap();
    (first, rest)
}

fn refused(arguments: &[&str], status: i32) -> String {
    let mut command = Command::new(binary());
    let output = command.arg("sandbox").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    text(&output.stderr)
}

#[test]
fn sandbox_prints_configuration_and_admin_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, rest) = introduction(&[]);
    assert!(first.starts_with("base-url = \"http://127.0.0.1:"));
    assert!(first.ends_with("/v1\"\n"));
    assert!(rest.contains(DEFAULT_ADMIN_KEY), "{rest}");

    // A given admin key is not printed, wherever it came from.
    write(Path::new(&path("own")), "sk-admin-of-my-own-0123456789\n");
    let state = path("state.json");
    let (_, rest) = introduction(&["--admin-key-file", &path("own"), "--state", &state]);
    assert_eq!(rest, "");
    let state_text = std::fs::read_to_string(&state).unwrap();
    assert!(
        state_text.contains("\"sk-admin-of-my-own-0123456789\""),
        "{state_text}"
    );
    let (_, rest) = introduction(&["--admin-key", "sk-admin-of-my-own-0123456789"]);
    assert_eq!(rest, "");
}

#[test]
fn deleted_admin_key_is_not_printed() {
    let mut world = TestEnv::start(&[]);
    world.stop_sandbox();
    let mut keys = world.keys();
    keys[0]["deleted_at"] = keys[0]["created_at"].clone();
    let state = world.path("sandbox.json");
    write(&state, &serde_json::to_string(&keys).unwrap());
    let (_, rest) = introduction(&["--state", state.to_str().unwrap()]);
    assert!(rest.contains("was deleted"), "{rest}");
    assert!(!rest.contains(DEFAULT_ADMIN_KEY), "{rest}");
}

#[test]
fn unknown_fault_is_rejected_with_the_known_ones() {
    for (fault, expected) in [
        (
            "creat:429:1",
            "create, list, retrieve, delete, update, verify, project or any",
        ),
        (
            "create:418:1",
            "401-scope, forbidden, stale-list, late, no-key",
        ),
        ("create:429:2", "a number from 0 to 1"),
        ("delete:late:1", "late applies only to create"),
        ("create", "create:drop-after:0.2"),
        ("update@admin-keys:429:1", "update applies only to projects"),
        ("list@a/b:429:1", "\"a/b\" is not a project's id"),
    ] {
        let message = refused(&["--fault", fault], 2);
        assert!(message.contains(expected), "{fault}: {message}");
    }
}

#[test]
fn address_in_use_is_reported() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let message = refused(&["--listen", &address], 1);
    assert!(message.contains(&format!("cannot listen on {address}")));
    assert!(message.contains("--listen"), "{message}");
}

#[test]
fn rotated_admin_key_works_after_a_sandbox_restart() {
    let mut world = TestEnv::start(&[]);
    world.configure(
        "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n",
    );
    world.ok(&["once"]);
    world.stop_sandbox();
    let before = world.live_ids();
    assert_eq!(before.len(), 1);
    let (_, rest) = introduction(&["--state", world.path("sandbox.json").to_str().unwrap()]);
    assert!(rest.contains(DEFAULT_ADMIN_KEY), "{rest}");
    assert_eq!(world.live_ids(), before);
}
