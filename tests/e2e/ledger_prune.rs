//! `rekeyd ledger prune` and `history --archive`, as an operator runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::config::DbConfig;
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, read_ledger, text, write, write_ledger};

/// Makes the ended rotations as old as those of years ago, and the acceptance of the newest
/// secret with them: a sink that accepted nothing newer in time may hold what it got.
const AGE: &str = "UPDATE rotation SET started_at = '2022-01-01T00:00:00Z',
         revoked_at = '2022-01-02T00:00:00Z' WHERE phase = 'revoked';
     UPDATE event_log SET at = '2022-01-02T00:00:00Z'
         WHERE rotation_row IN (SELECT id FROM rotation WHERE phase = 'revoked');
     UPDATE delivery SET accepted_at = '2022-01-02T00:00:00Z' WHERE accepted_at IS NOT NULL;";

/// Returns a world with two rotations that ended years ago, and a current one.
fn old_world() -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["rotate", "billing"]);
    for _ in 0..2 {
        world.ok(&["rotate", "billing", "--revoke-previous-now"]);
        world.ok(&["once"]);
    }
    let ledger = write_ledger(&world.path("ledger.db"));
    let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
    ledger.set_db_config(triggers, false).unwrap();
    ledger.execute_batch(AGE).unwrap();
    drop(ledger);
    assert_eq!(phases(&world.history()), ["current", "revoked", "revoked"]);
    world
}

fn phases(history: &[Value]) -> Vec<&str> {
    let rows = history.iter();
    rows.map(|row| row["phase"].as_str().unwrap()).collect()
}

fn prune<'a>(archive: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let prune = [
        "ledger",
        "prune",
        "--older-than",
        "2y",
        "--archive",
        archive,
    ];
    [&prune[..], more].concat()
}

fn archived(world: &TestEnv, archive: &str) -> Vec<Value> {
    let shown = world.ok(&["history", "--archive", archive, "--json"]);
    serde_json::from_str(&shown).unwrap()
}

fn pruned_event(world: &TestEnv) -> Value {
    let sql = "SELECT detail FROM events WHERE event = 'ledger-pruned'";
    let ledger = read_ledger(&world.path("ledger.db"));
    let detail: String = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
    serde_json::from_str(&detail).unwrap()
}

#[test]
fn old_rotations_leave_the_ledger_for_the_archive() {
    for has_daemon in [false, true] {
        let world = old_world();
        let before = world.history();
        let path = world.path("old.archive");
        let file = path.to_str().unwrap();
        let daemon = has_daemon.then(|| {
            let mut daemon = Daemon::start(&world);
            daemon.wait_for(" started");
            daemon
        });
        let printed = world.ok(&prune(file, &["--reason", "old enough"]));
        assert!(printed.contains("archived 2 rotations in "), "{printed}");
        assert!(printed.contains("pruned 2 rotations; "), "{printed}");
        assert_eq!(world.history(), before[..1]);
        assert_eq!(archived(&world, file), before[1..]);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let event = pruned_event(&world);
        assert_eq!(event["rotations"], 2);
        assert_eq!(event["archive"], "old.archive");
        assert_eq!(event["reason"], "old enough");
        assert!(event["by"].as_str().unwrap().starts_with("uid "), "{event}");

        // The archive is whole: nothing is added to it, and another one has nothing to hold.
        let again = world.run(&prune(file, &[]));
        let stderr = text(&again.stderr);
        assert_eq!(again.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("it already exists"), "{stderr}");
        let other = world.path("other.archive");
        let printed = world.ok(&prune(other.to_str().unwrap(), &[]));
        assert!(printed.starts_with("nothing to prune: "), "{printed}");
        assert!(!other.exists());
        // The ledger works.
        world.ok(&["rotate", "billing"]);
        if let Some(daemon) = daemon {
            daemon.stop();
        }
        assert_eq!(phases(&world.history())[0], "current");
        assert_eq!(world.history().len(), 2);
    }
}

/// What helps a ledger does not help an archive, and may lose the newest rows.
#[test]
fn damaged_archive_advises_no_restore() {
    let world = old_world();
    let path = world.path("old.archive");
    let file = path.to_str().unwrap();
    world.ok(&prune(file, &[]));
    let unknown = world.run(&["history", "nope", "--archive", file]);
    assert_eq!(unknown.status.code(), Some(1));
    let stderr = text(&unknown.stderr);
    assert!(stderr.contains("no key nope is in the archive"), "{stderr}");
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    let parts = 16;
    for part in 1..parts {
        let mut content = whole.clone();
        let start = whole.len() * part / parts;
        content[start..start + 64].fill(0xA5);
        fs::write(&path, &content).unwrap();
        let shown = world.run(&["history", "--archive", file]);
        let stderr = text(&shown.stderr);
        assert!(!stderr.contains("restore"), "{part}: {stderr}");
        if !shown.status.success() {
            refused += 1;
            assert!(stderr.contains("cannot use the archive"), "{stderr}");
        }
    }
    assert!(refused > 0);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let shown = world.run(&["history", "--archive", file]);
    let stderr = text(&shown.stderr);
    assert_eq!(shown.status.code(), Some(1));
    assert!(!stderr.contains("restore"), "{stderr}");
}

/// The command made its archive, and was killed before the first rotation had left.
#[test]
fn run_that_was_cut_short_is_finished() {
    let world = old_world();
    let before = world.history();
    let (copy, path) = (world.path("copy.db"), world.path("old.archive"));
    fs::copy(world.path("ledger.db"), &copy).unwrap();
    let file = path.to_str().unwrap();
    world.ok(&prune(file, &["--ledger", copy.to_str().unwrap()]));
    assert_eq!(world.history(), before);
    let content = fs::read(&path).unwrap();
    let printed = world.ok(&prune(file, &[]));
    assert!(printed.contains("has 2 rotations; finishing"), "{printed}");
    assert_eq!(world.history(), before[..1]);
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn file_that_is_no_archive_of_this_ledger_is_left_alone() {
    let (world, other) = (old_world(), old_world());
    let before = world.history();
    let foreign = other.path("foreign.archive");
    other.ok(&prune(foreign.to_str().unwrap(), &[]));
    write(&world.path("text"), "precious\n");
    fs::create_dir(world.path("folder")).unwrap();
    for (path, expected) in [
        (foreign.clone(), "it is the archive of another ledger"),
        (world.path("text"), "it is not an archive of a ledger"),
        (world.path("folder"), "it is not a regular file"),
        (world.path("ledger.db"), "it is not an archive of a ledger"),
        (
            world.path("ledger.db-journal"),
            "treat it as a file of the ledger",
        ),
        (world.path("none/old.archive"), "no such file"),
    ] {
        let content = fs::read(&path).ok();
        let output = world.run(&prune(path.to_str().unwrap(), &[]));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path:?}: {stderr}");
        assert!(stderr.contains(expected), "{path:?}: {stderr}");
        assert!(
            stderr.contains("hint: ") || expected == "no such file",
            "{stderr}"
        );
        assert_eq!(fs::read(&path).ok(), content, "{path:?}");
        assert_eq!(world.history(), before, "{path:?}");
    }
    // Nor is an archive a ledger.
    let foreign = foreign.to_str().unwrap();
    for arguments in [
        &["history", "--ledger", foreign][..],
        &["restore", foreign],
        &["history", "--archive", world.path("text").to_str().unwrap()],
    ] {
        let output = world.run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("archive"), "{arguments:?}: {stderr}");
    }
    for age in ["29d", "2", "11y"] {
        let arguments = ["ledger", "prune", "--older-than", age, "--archive", "x"];
        let output = world.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{age}");
    }
}
