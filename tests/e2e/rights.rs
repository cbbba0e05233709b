//! Who may do what on the control socket: each verb, asked by each kind of caller.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::moving_in::create_manually;
use crate::support::control_socket::{self, shake_hands};
use crate::support::daemon::Daemon;
use crate::support::host::has_root;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, file_key_text, text, write};

/// The groups of looking, operating and destroying users, each with a user of that number.
const LOOKERS: u32 = 4_711;
const OPERATORS: u32 = 4_712;
const DESTROYERS: u32 = 4_713;

/// What no group may do.
const NO_GROUP: u32 = u32::MAX;

/// Sends a request, and returns the status and the answer.
fn ask(socket: &Path, verb: &str, body: &str, cookie: Option<&str>) -> (u16, String) {
    control_socket::ask(socket, cookie, ["POST", &format!("/{verb}"), body])
}

/// Asks as the user of this number, whose only group has the same one.
fn ask_as(user: u32, socket: PathBuf, verb: &'static str, body: &'static str) -> (u16, String) {
    let thread = std::thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(user)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        ask(&socket, verb, body, None)
    });
    thread.join().unwrap()
}

/// Lets every user connect.
fn open_to_all(world: &TestEnv) {
    for (name, mode) in [("", 0o755), ("control.sock", 0o666)] {
        std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn cookie_of(world: &TestEnv) -> String {
    control_socket::read_cookie(&world.path("ledger.db")).unwrap()
}

/// Returns a world in which each of the groups may reach the socket, and its daemon.
fn world_with_groups() -> (TestEnv, Daemon) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let config = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let groups = format!("admins = [\"{OPERATORS}\"]\nsuper-admins = [\"{DESTROYERS}\"]\n");
    write(
        &world.path("config.toml"),
        &config.replace("[control]\n", &format!("[control]\n{groups}")),
    );
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    (world, daemon)
}

const LEAK: &str = r#"{"keys":["none"],"revoke_previous_within":"30s"}"#;

const PRUNE: &str = r#"{"archive":"none","sha256":"","ledger":"","before":"","rotations":{}}"#;

/// The requests, none of which finds what it names, and the least of the groups that may send
/// them.
const REQUESTS: [(&str, &str, u32); 20] = [
    ("rotate", r#"{"keys":["none"]}"#, OPERATORS),
    (
        "rotate",
        r#"{"keys":["none"],"revoke_previous_now":true}"#,
        DESTROYERS,
    ),
    ("rotate", LEAK, DESTROYERS),
    ("revoke", r#"{"credential_id":"key_none"}"#, OPERATORS),
    (
        "revoke",
        r#"{"credential_id":"key_none","force":true}"#,
        DESTROYERS,
    ),
    (
        "revoke",
        r#"{"credential_id":"key_none","name":"x"}"#,
        DESTROYERS,
    ),
    ("hold", r#"{"what":"key_none"}"#, OPERATORS),
    ("release", r#"{"what":"key_none"}"#, OPERATORS),
    ("pause", r#"{"keys":["none"]}"#, OPERATORS),
    ("resume", r#"{"keys":["none"]}"#, OPERATORS),
    ("retire", r#"{"keys":["none"]}"#, OPERATORS),
    ("retire", r#"{"keys":["none"],"undo":true}"#, OPERATORS),
    ("retire", r#"{"keys":["none"],"now":true}"#, DESTROYERS),
    ("prune", PRUNE, DESTROYERS),
    ("log-level", r#"{"level":"info"}"#, OPERATORS),
    (
        "use-credential",
        r#"{"secret":"sk-admin-none-0123456789abcdef","file":"none"}"#,
        NO_GROUP,
    ),
    ("reload", "", OPERATORS),
    (
        "adopt",
        r#"{"key":"none","credential_id":"key_none"}"#,
        DESTROYERS,
    ),
    ("adopt-from-sinks", "", OPERATORS),
    ("adopt-from-sinks", r#"{"apply":true}"#, DESTROYERS),
];

#[test]
fn each_verb_has_its_callers() {
    let (world, daemon) = world_with_groups();
    let socket = world.path("control.sock");
    let cookie = cookie_of(&world);
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        open_to_all(&world);
    }
    for (verb, body, least) in REQUESTS {
        let (status, answer) = ask(&socket, verb, body, Some(&cookie));
        assert_eq!(status, 200, "the owner, {verb} {body}: {answer}");
        for wrong in [None, Some(""), Some("0"), Some(&cookie[1..])] {
            let (status, answer) = ask(&socket, verb, body, wrong);
            assert_eq!(status, 403, "{wrong:?}, {verb} {body}: {answer}");
            assert!(answer.contains("ledger.db.cookie"), "{answer}");
            assert!(!answer.contains(&cookie), "{answer}");
        }
        // Only root can be another user.
        let users = [LOOKERS, OPERATORS, DESTROYERS].into_iter();
        for user in users.filter(|_| is_root) {
            let (status, answer) = ask_as(user, socket.clone(), verb, body);
            let expected = if user < least { 403 } else { 200 };
            assert_eq!(status, expected, "{user}, {verb} {body}: {answer}");
            if user < least {
                for part in ["sudo rekeyd ", verb.split('-').next().unwrap()] {
                    assert!(answer.contains(part), "{part}: {answer}");
                }
                let names_groups = answer.contains("[control]");
                assert_eq!(names_groups, least != NO_GROUP, "{verb}: {answer}");
            }
        }
    }
    daemon.stop();
    assert!(!world.path("ledger.db.cookie").exists());
}

/// The daemon's own user may be a program of the daemon's, and sees no more than a user who may
/// not connect.
#[test]
fn own_user_gets_nothing_without_a_proof() {
    let (world, daemon) = world_with_groups();
    let socket = world.path("control.sock");
    let cookie = cookie_of(&world);
    // What it is and what is wrong with it, which also a command without the cookie shows.
    let (status, answer) = control_socket::ask(&socket, None, ["GET", "/daemon", ""]);
    assert_eq!(status, 200, "{answer}");
    for path in ["/ledger", "/configuration"] {
        let (status, answer) = control_socket::ask(&socket, None, ["GET", path, ""]);
        assert_eq!(status, 403, "{path}: {answer}");
        for known in ["SQLite", "billing"] {
            assert!(!answer.contains(known), "{path}: {answer}");
        }
        let (status, answer) = control_socket::ask(&socket, Some(&cookie), ["GET", path, ""]);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    daemon.stop();
}

/// A proof is for one request of one connection, and for its body.
#[test]
fn proof_is_good_once_and_for_one_request() {
    let (world, daemon) = world_with_groups();
    let socket = world.path("control.sock");
    let cookie = cookie_of(&world);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let send = |stream: &mut UnixStream, proof: &str, path: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nrekeyd-proof: {proof}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4_096];
        let length = stream.read(&mut answer).unwrap();
        text(&answer[..length])
    };
    let (pause, resume) = (r#"{"keys":["none"]}"#, r#"{"keys":["all"]}"#);
    let handshake = shake_hands(&mut stream).unwrap();
    // The daemon proves itself first.
    let expected = handshake.prove_response(&cookie, "GET /handshake", 200, &handshake.body);
    assert_eq!(handshake.proof, Some(expected), "{}", handshake.answer);
    let proof = handshake.prove(&cookie, "POST", "/pause", pause);
    let answer = send(&mut stream, &proof, "/pause", pause);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let expected = handshake.prove_response(&cookie, "POST /pause", 200, body.as_bytes());
    assert!(answer.contains(&expected), "{answer}");
    let again = send(&mut stream, &proof, "/pause", pause);
    assert!(again.starts_with("HTTP/1.1 403 "), "{again}");
    for (path, body, expected) in [
        ("/resume", pause, "HTTP/1.1 403 "),
        ("/pause", resume, "HTTP/1.1 400 "),
    ] {
        let handshake = shake_hands(&mut stream).unwrap();
        let proof = handshake.prove(&cookie, "POST", "/pause", pause);
        let answer = send(&mut stream, &proof, path, body);
        assert!(answer.starts_with(expected), "{path} {body}: {answer}");
    }
    // That of another connection.
    let handshake = shake_hands(&mut stream).unwrap();
    let proof = handshake.prove(&cookie, "POST", "/pause", pause);
    let mut other = UnixStream::connect(&socket).unwrap();
    let answer = send(&mut other, &proof, "/pause", pause);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    daemon.stop();
}

/// What a body asks for is decided without the body where its verb decides.
#[test]
fn refusal_does_not_wait_for_the_body() {
    let (world, daemon) = world_with_groups();
    let mut stream = UnixStream::connect(world.path("control.sock")).unwrap();
    stream
        .write_all(b"POST /adopt HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n")
        .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(text(&status), "HTTP/1.1 403");
    daemon.stop();
}

/// An operator ends what rekeyd made and replaced, and no more.
#[test]
fn operator_revokes_only_what_rekeyd_made_and_replaced() {
    if !has_root() {
        return;
    }
    let (world, daemon) = world_with_groups();
    let socket = world.path("control.sock");
    open_to_all(&world);
    let first = world.live_ids().remove(0);
    let revoke = |user, id: &str| {
        let body: &'static str = format!(r#"{{"credential_id":"{id}"}}"#).leak();
        ask_as(user, socket.clone(), "revoke", body).1
    };
    let current = revoke(OPERATORS, &first);
    assert!(
        current.contains("it is the current credential of billing"),
        "{current}"
    );
    assert!(current.contains("super-admins"), "{current}");
    let (made, _) = create_manually(&world, "by hand");
    let adopt: &'static str =
        format!(r#"{{"key":"billing","credential_id":"{made}","name":"by hand"}}"#).leak();
    let adopted = ask_as(DESTROYERS, socket.clone(), "adopt", adopt).1;
    assert!(
        adopted.contains("only root or the owner of the ledger"),
        "{adopted}"
    );
    world.ok(&["adopt", "billing", &made, "--name", "by hand", "--yes"]);
    let refused = revoke(OPERATORS, &made);
    assert!(refused.contains("it was adopted"), "{refused}");
    world.ok(&["rotate", "billing"]);
    // The rest is decided by what the sinks hold, as before.
    let replaced = revoke(OPERATORS, &first);
    assert!(replaced.contains("overlap"), "{replaced}");
    let second = revoke(DESTROYERS, &made);
    assert!(!second.contains("an operator may not revoke"), "{second}");
    daemon.stop();
}

/// A credential that a person made is held until somebody who may destroy releases it, however
/// its hold would end.
#[test]
fn operator_ends_no_hold_of_an_adopted_credential() {
    if !has_root() {
        return;
    }
    let (world, daemon) = world_with_groups();
    let socket = world.path("control.sock");
    open_to_all(&world);
    let made_by_rekeyd = world.live_ids().remove(0);
    let (made, _) = create_manually(&world, "by hand");
    world.ok(&["adopt", "billing", &made, "--name", "by hand", "--yes"]);
    let ask = |user, verb, what: &str, until: &str| {
        let body: &'static str = format!(r#"{{"what":"{what}"{until}}}"#).leak();
        let (status, answer) = ask_as(user, socket.clone(), verb, body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let is_held = || {
        let history = world.history();
        let mut rows = history.iter();
        let row = rows.find(|row| row["credential_id"] == made.as_str());
        row.unwrap()["held"] == 1 && row.unwrap()["hold_until"].is_null()
    };
    let soon = r#","until":"2031-01-01T00:00:00Z""#;
    for (verb, what, until) in [
        ("release", made.as_str(), ""),
        ("release", "billing", ""),
        ("hold", &made, soon),
        ("hold", "billing", soon),
    ] {
        let refused = ask(OPERATORS, verb, what, until);
        for part in [r#""done":false"#, &made, "was adopted", "super-admins"] {
            assert!(refused.contains(part), "{part}, {verb} {what}: {refused}");
        }
        assert!(is_held(), "{verb} {what}");
    }
    // A longer hold, and one of what rekeyd made, are an operator's to change.
    for (verb, what, until) in [
        ("hold", made.as_str(), ""),
        ("hold", &made_by_rekeyd, soon),
        ("release", &made_by_rekeyd, ""),
    ] {
        let done = ask(OPERATORS, verb, what, until);
        assert!(done.contains(r#""done":true"#), "{verb} {what}: {done}");
    }
    assert!(is_held());
    let released = ask(DESTROYERS, "release", &made, "");
    assert!(released.contains("billing: released"), "{released}");
    assert!(!is_held());
    daemon.stop();
}

/// The cookie of a daemon is its own, and stands beside the ledger for the owner alone.
#[test]
fn each_daemon_has_a_cookie_of_its_own() {
    let (world, mut daemon) = world_with_groups();
    let place = world.path("ledger.db.cookie");
    let found = place.metadata().unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    let first = cookie_of(&world);
    daemon.signal(rustix::process::Signal::KILL);
    assert!(!daemon.wait().success());
    assert_eq!(cookie_of(&world), first, "killed");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    assert_ne!(cookie_of(&world), first);
    world.ok(&["pause", "billing"]);
    // A cookie that somebody removed is made again.
    let second = cookie_of(&world);
    std::fs::remove_file(&place).unwrap();
    wait_until("the cookie is made again", || place.exists());
    assert_ne!(cookie_of(&world), second);
    world.ok(&["resume", "billing"]);
    daemon.stop();
    assert!(!place.exists());
}
