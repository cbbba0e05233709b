//! The command `once` reports that it did not finish.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::migration::place_first_release;
use crate::support::{ChildGuard, TestEnv, file_key_text, text, write};
use rustix::process::{Pid, Signal, kill_process};

/// Returns an environment with a key whose webhook accepts connections and never answers,
/// and with these sinks before it.
fn world_with_silent_webhook(sinks: &str) -> (TestEnv, TcpListener) {
    let world = TestEnv::start(&[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    world.configure(&format!(
        "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         {sinks}[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         signing-secret-file = \"DIR/webhook-secret\"\ntimeout = \"1s\"\n\
         unauthenticated-receiver = true\n"
    ));
    (world, silent)
}

#[test]
fn once_reports_that_its_time_limit_passed() {
    let (world, _silent) = world_with_silent_webhook("");
    let output = world.run(&["once", "--for", "5s"]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("not everything due was done within 5s"),
        "{log}"
    );
    assert!(log.contains("--for"), "{log}");
    let row = &world.history()[0];
    assert_eq!(row["phase"], "stranded");
    let error = row["error"].as_str().unwrap();
    assert!(
        error.starts_with("the time limit of 5s passed: not delivered to "),
        "{error}"
    );
}

/// A rotation that a signal ended is abandoned, so nothing continues with it.
#[test]
fn rotate_that_a_signal_ends_says_what_follows() {
    let (world, receiver) = world_with_silent_webhook("");
    let receiver = std::thread::spawn(move || {
        // The first connection is that of the check before the rotation.
        for connection in receiver.incoming().take(2) {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            if connection.read(&mut request).unwrap() > 0 {
                let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
                connection.write_all(answer).unwrap();
            }
        }
    });
    let mut command = world.command(&["rotate", "billing"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut rotate = ChildGuard(child);
    let mut log = BufReader::new(rotate.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("answered 401") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it delivers");
    }
    let pid = Pid::from_raw(i32::try_from(rotate.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(rotate.0.wait().unwrap().code(), Some(1), "{rest}");
    receiver.join().unwrap();
    let answer = rest.lines().last().unwrap();
    assert!(
        answer.starts_with("error: billing: not rotated: a signal stopped the command: not"),
        "{rest}"
    );
    assert!(!answer.contains("continues"), "{rest}");
    let follows = "`rekeyd rotate billing` tries again at once, `rekeyd run` and";
    assert!(answer.contains(follows), "{rest}");
    assert_eq!(world.history()[0]["phase"], "revoked");
    for line in rest.lines() {
        assert!(line.matches("not delivered").count() < 2, "{line}");
        assert!(line.matches("hint: ").count() < 2, "{line}");
    }
}

#[test]
fn once_reports_that_a_signal_ended_it() {
    let file = "[[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n";
    let (world, _silent) = world_with_silent_webhook(file);
    let mut child = world
        .command(&["once"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut once = ChildGuard(child);
    let mut line = String::new();
    while !line.contains("billing: delivered to file") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it delivers");
    }
    let pid = Pid::from_raw(i32::try_from(once.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(once.0.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.contains("a signal stopped this run"), "{rest}");
    // The next run takes the secret from the file.
    let row = &world.history()[0];
    assert_eq!(row["phase"], "verified");
    let log = text(&world.run(&["once", "--for", "2s"]).stderr);
    assert!(log.contains("recovered the secret of"), "{log}");
    assert_eq!(world.history().len(), 1);
}

#[test]
fn finished_once_reports_no_interruption() {
    let world = TestEnv::start(&[]);
    world.configure(
        "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n",
    );
    let output = world.run(&["once"]);
    assert!(output.status.success());
    assert!(!text(&output.stderr).contains("this run"));
    assert!(!text(&output.stderr).contains("not everything due"));
}

/// With this many keys, the ledger is read before the lock is taken.
#[test]
fn once_with_many_keys_continues_after_the_previous_run() {
    let world = TestEnv::start(&[]);
    let key = |name: &str, first: &str| {
        format!(
            "[key.{name}]\nschedule = \"@monthly\"\ninitial-rotation = \"{first}\"\nverify-interval = \"0s\"\n\
             [[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n"
        )
    };
    let others = (1..1_000).map(|number| key(&format!("other-{number}"), "scheduled"));
    let keys: String = others.chain([key("billing", "now")]).collect();
    world.configure(&keys);
    for expected in [&["once"][..], &["once"], &["rotate", "billing"], &["once"]] {
        let output = world.run(expected);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let phases: Vec<_> = world
        .history()
        .iter()
        .map(|row| (row["key"].clone(), row["phase"].clone()))
        .collect();
    assert_eq!(
        phases,
        [
            ("billing".into(), "current".into()),
            ("billing".into(), "retired".into())
        ]
    );
}

/// A credential that cannot be revoked is also a failure.
#[test]
fn once_fails_while_a_revocation_fails() {
    let world = TestEnv::start(&["--fault", "delete:401-scope:1"]);
    let key = file_key_text("1s").replace(
        "verify-interval",
        "revoke-when-idle-for = \"0s\"\nverify-interval",
    );
    world.configure(&key);
    world.ok(&["once"]);
    world.ok(&["rotate", "billing", "--revoke-previous-now", "--no-wait"]);
    let output = world.run(&["once"]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("billing is failing: "), "{log}");
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stdout).contains("failing"));
}

/// What only a person ends ends the run, long before its time limit: the next run of a
/// timer tries again.
#[test]
fn once_ends_by_itself_when_only_a_person_can_help() {
    type Damage = fn(&TestEnv);
    let damages: [(&str, Damage, &str); 3] = [
        (
            "the admin key is missing",
            |world| std::fs::remove_file(world.path("admin-key")).unwrap(),
            "rekeyd has no usable admin key: ",
        ),
        (
            "the admin key is refused",
            |world| {
                std::fs::remove_file(world.path("admin-key")).unwrap();
                write(
                    &world.path("admin-key"),
                    "sk-admin-AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                );
            },
            "no admin key that the provider accepts",
        ),
        (
            "open rotations of removed keys and no admin key",
            |world| {
                place_first_release(world, &world.path("ledger.db"));
                std::fs::remove_file(world.path("admin-key")).unwrap();
            },
            "rekeyd has no usable admin key: ",
        ),
    ];
    std::thread::scope(|scope| {
        for (name, damage, expected) in damages {
            scope.spawn(move || {
                let world = TestEnv::start(&[]);
                let keys = ["a", "b", "c"].map(|key| {
                    format!(
                        "[key.{key}]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
                         [[key.{key}.sink]]\ntype = \"file\"\npath = \"DIR/{key}.key\"\n"
                    )
                });
                world.configure(&keys.concat());
                damage(&world);
                let begun = Instant::now();
                let output = world.run(&["once"]);
                let log = text(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{name}: {log}");
                assert!(log.contains(expected), "{name}: {log}");
                assert!(log.contains("the next run continues"), "{name}: {log}");
                assert!(begun.elapsed() < Duration::from_secs(180), "{name}: {log}");
            });
        }
    });
}
