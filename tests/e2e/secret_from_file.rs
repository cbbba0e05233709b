//! The secret of a rotation is taken again from the file that it was delivered to, so that
//! no other credential is made: after a restart, and for a sink that was added.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::operator_commands::delete_manually;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, read_ledger, write, write_ledger};

/// A program that takes nothing before the file `ready` exists.
const PUT: &str = "#!/bin/sh\ncat >\"$1/taken.new\"\n\
                   echo \"$REKEYD_SEQUENCE\" >>\"$1/taken.new\"\ntest -e \"$1/ready\" || exit 1\n\
                   mv \"$1/taken.new\" \"$1/taken\"\n";

/// Returns an environment whose key has a file and a program that takes nothing yet.
fn with_failing_program() -> TestEnv {
    let world = TestEnv::start(&[]);
    let program = world.path("put");
    write(&program, PUT);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let more = "[[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/put\", \"DIR\"]\n";
    world.configure(&format!("{}{more}", file_key_text("1h")));
    world
}

/// Returns such an environment with a verified rotation whose process was killed after its
/// file was written and its program had failed.
fn killed() -> TestEnv {
    let world = with_failing_program();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: delivery to");
    daemon.signal(Signal::KILL);
    daemon.wait();
    world
}

fn delivered(world: &TestEnv, file: &str) -> String {
    let text = fs::read_to_string(world.path(file)).unwrap();
    text.trim().to_owned()
}

#[test]
fn restarts_beside_a_failing_sink_make_no_further_credential() {
    let world = killed();
    let first = world.history();
    for signal in [Signal::KILL, Signal::KILL, Signal::KILL, Signal::TERM] {
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("recovered the secret of");
        daemon.signal(signal);
        daemon.wait();
        assert_eq!(world.live_ids().len(), 1);
    }
    write(&world.path("ready"), "");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    daemon.stop();
    // It is that rotation, under its sequence.
    let history = world.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(history[0]["phase"], "current");
    for same in ["rotation", "sequence", "credential_id", "label"] {
        assert_eq!(history[0][same], first[0][same]);
    }
    let id = history[0]["credential_id"].as_str().unwrap();
    let taken = fs::read_to_string(world.path("taken")).unwrap();
    assert!(taken.contains(&world.secret_of(id)));
    let sequence = history[0]["sequence"].as_u64().unwrap();
    assert!(taken.contains(&sequence.to_string()));
    // No log and no row has the secret.
    let ledger = fs::read(world.path("ledger.db")).unwrap();
    let secret = world.secret_of(id);
    let mut windows = ledger.windows(secret.len());
    assert!(windows.all(|window| window != secret.as_bytes()));
}

/// A key that leaves the configuration and returns keeps its credential where its file is
/// the one that the delivery left.
#[test]
fn key_that_returns_to_its_own_file_makes_no_credential() {
    type Change = fn(&Path);
    let changes: [(&str, Change, usize); 3] = [
        ("untouched", |_| {}, 1),
        ("replaced by a copy", replace, 2),
        ("gone", |path| fs::remove_file(path).unwrap(), 2),
    ];
    for (name, change, expected) in changes {
        let world = TestEnv::start(&[]);
        let billing = file_key_text("1h");
        let other = billing.replace("key.billing", "key.other");
        let other = other.replace("billing.key", "other.key");
        world.configure(&billing);
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("is the current credential key=billing");
        world.configure(&other);
        world.ok(&["reload"]);
        daemon.wait_for("is no longer configured key=billing");
        change(&world.path("billing.key"));
        world.configure(&billing);
        world.ok(&["reload"]);
        daemon.wait_for("is configured again, and");
        if expected > 1 {
            daemon.wait_for("is the current credential key=billing");
        }
        daemon.stop();
        let history = world.history();
        let rotations = history.iter().filter(|row| row["key"] == "billing");
        assert_eq!(rotations.count(), expected, "{name}: {history:?}");
        assert_eq!(delivered(&world, "billing.key"), {
            let newest = history
                .iter()
                .find(|row| row["phase"] == "current" && row["key"] == "billing");
            world.secret_of(newest.unwrap()["credential_id"].as_str().unwrap())
        });
    }
}

/// Replaces a file by one with the same content.
fn replace(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(&copy, path).unwrap();
}

/// Anything but the very file that the delivery left does not serve: the rotation is
/// stranded. The next one waits as the failed delivery did.
#[test]
fn changed_file_is_not_taken() {
    type Change = fn(&TestEnv);
    let changes: [(&str, Change); 8] = [
        ("replaced by a copy", |world| {
            replace(&world.path("billing.key"));
        }),
        ("written again", |world| {
            let path = world.path("billing.key");
            let content = fs::read(&path).unwrap();
            fs::write(&path, content).unwrap();
        }),
        ("another mode", |world| {
            let mode = fs::Permissions::from_mode(0o640);
            fs::set_permissions(world.path("billing.key"), mode).unwrap();
        }),
        ("another name of it", |world| {
            fs::hard_link(world.path("billing.key"), world.path("other.key")).unwrap();
        }),
        ("gone", |world| {
            fs::remove_file(world.path("billing.key")).unwrap();
        }),
        ("a link to it", |world| {
            let path = world.path("billing.key");
            fs::rename(&path, world.path("other.key")).unwrap();
            std::os::unix::fs::symlink(world.path("other.key"), &path).unwrap();
        }),
        ("delivered by an older rekeyd", |world| {
            let ledger = write_ledger(&world.path("ledger.db"));
            let older = "UPDATE delivery SET file_device = NULL, file_inode = NULL,
                file_size = NULL, file_modified = NULL, file_changed = NULL";
            assert_ne!(ledger.execute(older, []).unwrap(), 0);
        }),
        ("deleted at the provider", |world| {
            let id = world.history()[0]["credential_id"].clone();
            delete_manually(world, id.as_str().unwrap());
        }),
    ];
    for (name, change) in changes {
        let world = killed();
        change(&world);
        world.run(&["once"]);
        let history = world.history();
        assert_eq!(history.len(), 1, "{name}: {history:?}");
        assert_eq!(history[0]["phase"], "stranded", "{name}");
        let ledger = read_ledger(&world.path("ledger.db"));
        let sql = "SELECT attempt, last_error, failed_before_create FROM key_state";
        let row: (u32, String, bool) = ledger
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!((row.0, row.2), (1, false), "{name}");
        assert!(row.1.starts_with("not delivered to "), "{name}: {}", row.1);
    }
}

/// A sink that was added or that has another target gets the current credential.
#[test]
fn added_sink_is_given_the_current_credential() {
    let copy = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/copy.key\"\n";
    let named = file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"file\"");
    let moved = named.replace("DIR/billing.key", "DIR/copy.key");
    for (case, changed) in [("added", format!("{named}{copy}")), ("moved", moved)] {
        let world = TestEnv::start(&[]);
        world.configure(&named);
        world.ok(&["once"]);
        let first = world.history();
        world.configure(&changed);
        world.ok(&["once"]);
        assert_eq!(
            delivered(&world, "copy.key"),
            delivered(&world, "billing.key")
        );
        world.ok(&["once"]);
        world.ok(&["status"]);
        let history = world.history();
        assert_eq!(history.len(), 1, "{case}: {history:?}");
        assert_eq!(history[0]["rotation"], first[0]["rotation"], "{case}");
        assert_eq!(world.live_ids().len(), 1, "{case}");
    }
}

/// The file was changed since, so that a new credential is made for the added sink.
#[test]
fn added_sink_gets_a_new_credential_without_such_a_file() {
    let copy = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/copy.key\"\n";
    let named = file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"file\"");
    let world = TestEnv::start(&[]);
    world.configure(&named);
    world.ok(&["once"]);
    replace(&world.path("billing.key"));
    world.configure(&format!("{named}{copy}"));
    world.ok(&["once"]);
    let history = world.history();
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[0]["trigger"], "repair");
    assert_eq!(
        delivered(&world, "copy.key"),
        delivered(&world, "billing.key")
    );
}
