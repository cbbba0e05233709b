//! `rekeyd backup` and `rekeyd restore`, as the book describes them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, file_key_text, text};

const PAGE: &str = include_str!("../../docs/ledger.md");

fn credentials(world: &TestEnv) -> Vec<Value> {
    let rows = world.history().into_iter();
    rows.map(|row| row["credential_id"].clone()).collect()
}

/// Returns the block of the page that has both commands.
fn documented_commands() -> Vec<Vec<String>> {
    let blocks = PAGE.split("```sh\n").skip(1);
    let mut blocks = blocks.map(|block| block.split_once("```").unwrap().0);
    let block = blocks.find(|block| block.contains("rekeyd restore"));
    let lines = block.unwrap().lines();
    lines
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn documented_commands_restore_the_ledger() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Some(Daemon::start(&world));
    daemon
        .as_mut()
        .unwrap()
        .wait_for("is the current credential");
    let backed_up = credentials(&world);
    let backup = world.path("ledger-backup.db");
    let mut has_rotated = false;
    for words in documented_commands() {
        let words: Vec<_> = words
            .iter()
            .map(|word| match word.rsplit_once('/') {
                Some((_, "ledger-backup.db")) => backup.to_str().unwrap(),
                _ => word.as_str(),
            })
            .collect();
        match words[..] {
            ["systemctl", "stop", "rekeyd"] => drop(daemon.take().unwrap().stop()),
            ["systemctl", "start", "rekeyd"] => daemon = Some(Daemon::start(&world)),
            ["rekeyd", ref arguments @ ..] => {
                world.ok(arguments);
                if arguments[0] == "restore" {
                    // Before the start, which may repair a file that holds a later key.
                    assert_eq!(credentials(&world), backed_up);
                }
            }
            _ => panic!("{words:?}"),
        }
        if !std::mem::replace(&mut has_rotated, true) {
            // After the backup.
            world.ok(&["rotate", "billing"]);
            assert_eq!(credentials(&world).len(), 2);
        }
    }
    let mut daemon = daemon.unwrap();
    daemon.wait_for("looks like a label of this configuration");
    // The next secret is taken, and the ledger works.
    world.ok(&["rotate", "billing"]);
    let mode = backup.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The former ledger is kept, and can be put back the same way.
    daemon.stop();
    let former = world.path("ledger.db.before-restore");
    world.ok(&["restore", former.to_str().unwrap()]);
    assert_eq!(credentials(&world).len(), 2);
}

#[test]
fn backup_is_one_whole_file() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let target = world.path("copy.db");
    let target = target.to_str().unwrap();
    let output = world.run(&["backup", target]);
    assert!(
        text(&output.stderr).contains("no ledger at"),
        "no ledger yet"
    );
    world.ok(&["once"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["rotate", "billing"]);
    world.ok(&["backup", target]);
    let files = fs::read_dir(world.dir.path()).unwrap();
    let copies = files.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("copy.db")
    });
    assert_eq!(copies.count(), 1, "no file is beside it");
    let copy = rusqlite::Connection::open(target).unwrap();
    let sql = "SELECT count(*) FROM history";
    let count: usize = copy.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
    daemon.stop();
    // Nothing is overwritten, nor a file that only looks like a new one.
    for (name, expected) in [
        (target, "it already exists"),
        (
            world.path("ledger.db").to_str().unwrap(),
            "it already exists",
        ),
        ("/nowhere/copy.db", "no such file"),
    ] {
        let output = world.run(&["backup", name]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains(expected), "{name}: {stderr}");
    }
}

#[test]
fn restore_refuses_what_is_no_backup_of_this_ledger() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let backup = world.path("copy.db");
    world.ok(&["backup", backup.to_str().unwrap()]);
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/ledger-0.1.0.db"
    );
    fs::write(world.path("text.db"), "no database").unwrap();
    fs::write(world.path("empty.db"), "").unwrap();
    let mut damaged = fs::read(&backup).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0x55);
    fs::write(world.path("damaged.db"), &damaged).unwrap();
    fs::write(world.path("short.db"), &damaged[..middle - 100]).unwrap();
    let before = fs::read(world.path("ledger.db")).unwrap();
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    for (source, code, expected) in [
        (path("missing.db"), 1, "no such file"),
        (path(""), 1, "folder"),
        (path("text.db"), 1, "not an SQLite database"),
        (path("empty.db"), 1, "contains no ledger"),
        (path("damaged.db"), 1, "damaged.db"),
        (path("short.db"), 1, "short.db"),
        (path("ledger.db"), 1, "it is the ledger itself"),
        (fixture.to_owned(), 78, "belongs to"),
    ] {
        let output = world.run(&["restore", &source]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{source}: {stderr}");
        assert!(stderr.contains(expected), "{source}: {stderr}");
        assert_eq!(
            fs::read(world.path("ledger.db")).unwrap(),
            before,
            "{source}"
        );
        assert!(!world.path("ledger.db.restoring").exists(), "{source}");
    }
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let output = world.run(&["restore", backup.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
}

/// A request in a backup may have been carried out since: neither a restored backup nor
/// one that was copied over the ledger rotates again.
#[test]
fn requests_in_a_backup_are_dropped_and_named() {
    for (is_restored, revoke_previous) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h"));
        world.ok(&["once"]);
        let backup = world.path("copy.db");
        world.ok(&["backup", backup.to_str().unwrap()]);
        let copy = rusqlite::Connection::open(&backup).unwrap();
        let request = "INSERT INTO rotation_request (key, requested_at, revoke_previous)
             VALUES ('billing', '2026-01-01T00:00:00Z', ?1)";
        copy.execute(request, [revoke_previous]).unwrap();
        drop(copy);
        let named = if is_restored {
            world.ok(&["restore", backup.to_str().unwrap()])
        } else {
            // In the same file, as `cp` writes it.
            fs::copy(&backup, world.path("ledger.db")).unwrap();
            String::new()
        };
        let once = world.run(&["once"]);
        let log = text(&once.stderr);
        assert!(once.status.success(), "{is_restored}: {log}");
        let named = named + &log;
        assert!(named.contains("dropped"), "{is_restored}: {named}");
        assert!(named.contains("rekeyd rotate billing"), "{named}");
        assert!(!named.contains("continuing with the rotation"), "{named}");
        assert_eq!(credentials(&world).len(), 1, "{is_restored}: {log}");
        world.ok(&["rotate", "billing"]);
        assert_eq!(credentials(&world).len(), 2);
    }
}

/// What the daemon has declared lost is no backup, and `check` does not praise it.
#[test]
fn ledger_that_the_daemon_found_damaged_is_not_backed_up() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let backup = world.path("copy.db");
    let daemon_has = |name: &str, expected: i32| {
        let target = world.path(name);
        for command in [&["check"][..], &["backup", target.to_str().unwrap()]] {
            let output = world.run(command);
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{command:?}: {printed}"
            );
            let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
            let has_advice = printed.contains("restore the newest backup");
            assert_eq!(has_advice, expected == 1, "{command:?}: {printed}");
        }
        assert_eq!(target.exists(), expected == 0);
    };
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    daemon_has("copy.db", 0);
    world.ok(&["rotate", "billing"]);
    fs::copy(&backup, world.path("ledger.db")).unwrap();
    daemon.wait_for("changed while rekeyd was using them");
    wait_until("status shows the change", || {
        text(&world.run(&["status"]).stdout).contains("changed while rekeyd was using them")
    });
    daemon_has("later.db", 1);
}

/// What was paused, held or reported as leaked after a backup is said, with the commands
/// that order it again; and what had ended since then is in force again.
#[test]
fn orders_that_a_restore_changes_are_named_with_their_commands() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let first = world.live_ids().remove(0);
    let before = world.path("before.db");
    world.ok(&["backup", before.to_str().unwrap()]);
    world.ok(&["rotate", "billing"]);
    let mut later = world.live_ids();
    later.retain(|id| *id != first);
    let later = later.remove(0);
    for order in [
        &["pause", "billing", "--reason", "audit"][..],
        &["hold", &first, "--until", "2051-01-01T00:00:00Z"],
        &["hold", &later, "--reason", "audit"],
    ] {
        world.ok(order);
    }
    let during = world.path("during.db");
    world.ok(&["backup", during.to_str().unwrap()]);
    let restored = world.ok(&["restore", before.to_str().unwrap()]);
    assert!(restored.contains(": audit)"), "{restored}");
    let commands = restored.lines().filter_map(|line| line.split_once("run: "));
    let commands: Vec<_> = commands.flat_map(|(_, run)| run.split(" && ")).collect();
    assert_eq!(commands.len(), 4, "{restored}");
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(words[0], "rekeyd");
        world.ok(&words[1..]);
    }
    let history = world.ok(&["history"]);
    for held in [
        format!("{first} is on hold by "),
        "the hold ends at 2051".to_owned(),
        format!("{later} is on hold"),
    ] {
        assert!(history.contains(&held), "{held}: {history}");
    }
    assert!(text(&world.run(&["status"]).stdout).contains("paused"));
    // What had ended.
    for order in [&["resume", "billing"][..], &["release", "billing"]] {
        world.ok(order);
    }
    let restored = world.ok(&["restore", during.to_str().unwrap()]);
    for command in [
        "rekeyd resume billing".to_owned(),
        format!("rekeyd release {first}"),
        format!("rekeyd release {later}"),
    ] {
        assert!(restored.contains(&command), "{command}: {restored}");
    }
    // Nothing has changed now.
    let restored = world.ok(&["restore", during.to_str().unwrap()]);
    assert!(!restored.contains("warning:"), "{restored}");
    assert!(!restored.contains("again, as when"), "{restored}");
    // One that cannot be read may have held anything.
    fs::write(world.path("ledger.db"), "no database").unwrap();
    let restored = world.ok(&["restore", during.to_str().unwrap()]);
    assert!(restored.contains("cannot be compared"), "{restored}");
}

/// The end of a leaked credential is no order that a restore may drop in silence.
#[test]
fn leak_that_a_restore_forgets_is_named() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let leaked = world.live_ids().remove(0);
    let backup = world.path("copy.db");
    world.ok(&["backup", backup.to_str().unwrap()]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let order = ["rotate", "billing", "--revoke-previous-within", "1h"];
    world.ok(&[&order[..], &["--no-wait"]].concat());
    daemon.wait_for("may have leaked");
    daemon.stop();
    let restored = world.ok(&["restore", backup.to_str().unwrap()]);
    let named = format!("{leaked} of billing may have leaked and no longer has a deadline");
    assert!(restored.contains(&named), "{restored}");
    assert!(restored.contains("rekeyd rotate billing --revoke-previous-within"));
}

/// A backup that was made while a daemon ran does not say how that ended.
#[test]
fn restored_backup_says_how_the_last_run_ended() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let backup = world.path("copy.db");
    world.ok(&["backup", backup.to_str().unwrap()]);
    let restored_status = || {
        world.ok(&["restore", backup.to_str().unwrap()]);
        text(&world.run(&["status"]).stdout)
    };
    daemon.stop();
    let status = restored_status();
    assert!(status.contains("it stopped at"), "{status}");
    assert!(!status.contains("crashed or was killed"), "{status}");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    // Killed.
    drop(daemon);
    let status = restored_status();
    assert!(status.contains("crashed or was killed"), "{status}");
    // Nobody knows.
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(world.path(file));
    }
    let status = restored_status();
    assert!(!status.contains("crashed or was killed"), "{status}");
}

/// `.dump` of sqlite3 loses both numbers of the header. The hint works as it is.
#[test]
fn ledger_with_another_header_is_restored_from_a_backup() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["rotate", "billing"]);
    let backup = world.path("backup.db");
    world.ok(&["backup", backup.to_str().unwrap()]);
    for header in [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = -1",
        "PRAGMA application_id = 0",
        "PRAGMA application_id = 1; PRAGMA user_version = 7",
        "PRAGMA application_id = 0; PRAGMA user_version = 0",
        "PRAGMA application_id = 0; PRAGMA user_version = 3",
    ] {
        let ledger = rusqlite::Connection::open(world.path("ledger.db")).unwrap();
        ledger.execute_batch(header).unwrap();
        drop(ledger);
        for command in ["status", "once", "check"] {
            let output = world.run(&[command]);
            let error = text(&output.stderr);
            assert!(!output.status.success(), "{header}: {command}");
            assert!(
                error.contains("rekeyd restore"),
                "{header}: {command}: {error}"
            );
            assert!(
                !error.contains("its own file"),
                "{header}: {command}: {error}"
            );
        }
        world.ok(&["restore", backup.to_str().unwrap()]);
        world.ok(&["once"]);
    }
}

/// The log that a kill leaves belongs to the kept ledger, and to nothing else.
#[test]
fn ledger_of_a_killed_daemon_is_kept_readable_by_restore() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let copy = world.path("copy.db");
    world.ok(&["backup", copy.to_str().unwrap()]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["rotate", "billing"]);
    // Killed.
    drop(daemon);
    let log = world.path("ledger.db-wal");
    assert!(log.metadata().unwrap().len() > 0);
    world.ok(&["restore", copy.to_str().unwrap()]);
    assert_eq!(credentials(&world).len(), 1);
    let former = world.path("ledger.db.before-restore");
    let former = former.to_str().unwrap();
    let shown = world.ok(&["history", "--ledger", former, "--json"]);
    assert_eq!(shown.matches("\"credential_id\"").count(), 2, "{shown}");
    world.ok(&["restore", former]);
    assert_eq!(credentials(&world).len(), 2);
    world.ok(&["once"]);
}

/// The message names files that exist, with what was kept of a ledger that was gone or empty.
#[test]
fn restore_names_what_it_has_kept() {
    for (ledger, log, kept) in [
        ("whole", "", Some("before-restore")),
        ("whole", "some", Some("before-restore")),
        ("gone", "some", Some("before-restore-wal")),
        ("empty", "some", Some("before-restore-wal")),
        ("gone", "", None),
        ("empty", "", None),
    ] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h"));
        world.ok(&["once"]);
        let copy = world.path("copy.db");
        world.ok(&["backup", copy.to_str().unwrap()]);
        let path = world.path("ledger.db");
        match ledger {
            "gone" => fs::remove_file(&path).unwrap(),
            "empty" => fs::write(&path, "").unwrap(),
            _ => {}
        }
        fs::write(world.path("ledger.db-wal"), log).unwrap();
        let printed = world.ok(&["restore", copy.to_str().unwrap()]);
        let named = printed.split_whitespace();
        let named: Vec<_> = named
            .filter(|word| word.contains("before-restore"))
            .collect();
        let expected = kept.map(|ending| world.path(&format!("ledger.db.{ending}")));
        let expected: Vec<_> = expected.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(named, expected, "{ledger} {log}: {printed}");
        for path in named {
            assert!(fs::metadata(path).is_ok(), "{ledger} {log}: {printed}");
        }
        assert!(world.ok(&["history"]).contains("current"));
    }
}
