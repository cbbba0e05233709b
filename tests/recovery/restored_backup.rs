//! An older copy of the ledger in its place, put there in every way: the copy counts, or
//! every command refuses it with the commands that make it count. It never counts in part,
//! and never looks as if nothing had happened.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, text, write_ledger};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// How the daemon ends before the copy is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Orderly,
    Killed,
}

/// What every command does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The copy counts.
    Counts,
    /// The log may belong to another file; the printed commands make the copy count.
    Refused,
    /// The log may belong to another file, and there is no copy.
    RefusedForGood,
}

/// A way to put the copy `backup.db` back.
struct Way {
    name: &'static str,
    restore: fn(&TestEnv),
    after_stop: Expected,
    after_kill: Expected,
}

fn shell(world: &TestEnv, script: &str) {
    let mut command = Command::new("sh");
    let status = command
        .args(["-eu", "-c", script])
        .current_dir(world.dir.path())
        .status();
    assert!(status.unwrap().success(), "{script}");
}

const WAYS: [Way; 11] = [
    Way {
        name: "rekeyd restore",
        restore: |world| {
            world.ok(&["restore", world.path("backup.db").to_str().unwrap()]);
        },
        after_stop: Expected::Counts,
        after_kill: Expected::Counts,
    },
    Way {
        name: "cp",
        restore: |world| shell(world, "cp backup.db ledger.db"),
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "cp with its time",
        restore: |world| shell(world, "cp -p backup.db ledger.db"),
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "cp, and the note of the checkpoints removed",
        restore: |world| shell(world, "cp backup.db ledger.db; rm ledger.db.checkpoint"),
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "mv",
        restore: |world| shell(world, "mv backup.db ledger.db"),
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "cp, and the index alone is removed",
        restore: |world| shell(world, "cp backup.db ledger.db; rm ledger.db-shm"),
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "the files of the former ledger are removed first",
        restore: |world| {
            shell(
                world,
                "rm ledger.db-wal ledger.db-shm; cp backup.db ledger.db",
            )
        },
        after_stop: Expected::Counts,
        after_kill: Expected::Counts,
    },
    Way {
        name: ".restore of SQLite's shell",
        restore: |world| {
            let source = rusqlite::Connection::open(world.path("backup.db")).unwrap();
            let mut ledger = write_ledger(&world.path("ledger.db"));
            let backup = rusqlite::backup::Backup::new(&source, &mut ledger).unwrap();
            let pause = std::time::Duration::ZERO;
            backup.run_to_completion(i32::MAX, pause, None).unwrap();
        },
        after_stop: Expected::Counts,
        after_kill: Expected::Counts,
    },
    Way {
        name: "a copy with a log of its own",
        restore: |world| {
            let copy = rusqlite::Connection::open(world.path("backup.db")).unwrap();
            copy.pragma_update(None, "journal_mode", "WAL").unwrap();
            drop(copy);
            shell(world, "cp backup.db ledger.db");
        },
        after_stop: Expected::Counts,
        after_kill: Expected::Refused,
    },
    Way {
        name: "an empty file",
        restore: |world| shell(world, ": > ledger.db"),
        after_stop: Expected::Counts,
        after_kill: Expected::RefusedForGood,
    },
    Way {
        name: "a ledger of 0.1.0",
        restore: |world| {
            let fixture = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/ledger-0.1.0.db"
            );
            fs::copy(fixture, world.path("ledger.db")).unwrap();
        },
        after_stop: Expected::RefusedForGood,
        after_kill: Expected::RefusedForGood,
    },
];

/// The most worlds that are made until one is as wanted.
const MAX_WORLDS: usize = 20;

/// Returns a world with a backup, `rounds` further rotations of each key, and no daemon,
/// which was not killed in the middle of a checkpoint.
fn world_with_backup(rounds: usize, stop: Stop) -> (TestEnv, Vec<Value>) {
    for _ in 0..MAX_WORLDS {
        let (world, recorded) = any_world_with_backup(rounds, stop);
        let note = fs::read_to_string(world.path("ledger.db.checkpoint")).unwrap();
        if !note.contains("under-way") {
            return (world, recorded);
        }
    }
    panic!("each of {MAX_WORLDS} daemons was killed in the middle of a checkpoint");
}

fn any_world_with_backup(rounds: usize, stop: Stop) -> (TestEnv, Vec<Value>) {
    let world = TestEnv::start(&[]);
    let keys = KEYS.map(|name| {
        format!(
            "[key.{name}]\nschedule = \"@monthly\"\noverlap = \"1h\"\nverify-interval = \"0s\"\n\
             max-creates-per-day = 1000\nmax-live-credentials = 100\n\
             [[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n"
        )
    });
    world.configure(&keys.concat());
    world.ok(&["once"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["backup", world.path("backup.db").to_str().unwrap()]);
    let recorded = history(&world);
    shell(
        &world,
        "mkdir copy; cp -a ledger.db ledger.db-wal ledger.db-shm copy",
    );
    for _ in 0..rounds {
        world.ok(&["rotate", "--all"]);
    }
    match stop {
        Stop::Orderly => drop(daemon.stop()),
        Stop::Killed => {
            daemon.signal(Signal::KILL);
            daemon.wait();
        }
    }
    (world, recorded)
}

/// Returns the rotations of the ledger without what a later start records of them.
fn history(world: &TestEnv) -> Vec<Value> {
    let mut rows: Vec<_> = world
        .history()
        .into_iter()
        .map(|row| row["rotation"].clone())
        .collect();
    rows.sort_by_key(ToString::to_string);
    rows
}

/// Asserts that every command refuses the ledger, and returns the commands to run.
fn assert_refused(world: &TestEnv, case: &str) -> String {
    let before = world.keys();
    let mut printed = String::new();
    for command in [
        &["check"][..],
        &["status"],
        &["history"],
        &["once"],
        &["rotate", "--all"],
        &["run"],
        &["backup", "DIR/another.db"],
    ] {
        let target = world.path("another.db");
        let command: Vec<_> = command
            .iter()
            .map(|word| {
                if word.contains("DIR") {
                    target.to_str().unwrap()
                } else {
                    word
                }
            })
            .collect();
        let output = world.run(&command);
        let stderr = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{case}: {command:?}: {stderr}"
        );
        assert!(
            stderr.contains("may not belong to it"),
            "{case}: {command:?}: {stderr}"
        );
        printed = stderr;
    }
    assert_eq!(
        world.keys(),
        before,
        "{case}: nothing is sent to the provider"
    );
    let (_, commands) = printed.split_once("set the log aside: ").unwrap();
    let (commands, _) = commands.split_once("; to restore a backup").unwrap();
    let (commands, copies) = match commands.split_once("; otherwise") {
        Some((commands, _)) => (commands, true),
        None => (commands, false),
    };
    // SQLite deletes a log that is copied into an empty file.
    let is_empty = world.path("ledger.db").metadata().unwrap().len() == 0;
    assert_eq!(copies, !is_empty, "{case}: {printed}");
    commands.to_owned()
}

fn assert_integrity(path: &Path, case: &str) {
    let ledger = crate::support::read_ledger(path);
    let sql = "PRAGMA integrity_check";
    let found: String = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok", "{case}");
}

/// Asserts that the ledger is the backup, and that the next start compares it with the
/// provider first.
fn assert_backup_counts(world: &TestEnv, recorded: &[Value], case: &str) {
    world.ok(&["check"]);
    assert_eq!(history(world), recorded, "{case}");
    assert_integrity(&world.path("ledger.db"), case);
    let created = world.keys().len();
    let output = world.run(&["once"]);
    let log = text(&output.stderr);
    assert!(log.contains("of this configuration, but"), "{case}: {log}");
    let compared = log.find("of this configuration, but").unwrap();
    let rotated = log.find(": rotating (").unwrap_or(log.len());
    assert!(compared < rotated, "{case}: {log}");
    assert!(world.keys().len() >= created, "{case}");
    assert_integrity(&world.path("ledger.db"), case);
}

fn assert_ways(stop: Stop) {
    for rounds in [1, 8] {
        for way in &WAYS {
            let case = format!("{}, {rounds} rounds, {stop:?}", way.name);
            let (world, recorded) = world_with_backup(rounds, stop);
            let log = world.path("ledger.db-wal").metadata().unwrap().len();
            assert_eq!(log == 0, stop == Stop::Orderly, "{case}");
            (way.restore)(&world);
            let log = world
                .path("ledger.db-wal")
                .metadata()
                .map_or(0, |log| log.len());
            let expected = match stop {
                Stop::Orderly => way.after_stop,
                Stop::Killed => way.after_kill,
            };
            match expected {
                Expected::Counts if way.name == "an empty file" => {
                    let output = world.run(&["once"]);
                    let log = text(&output.stderr);
                    assert!(log.contains("of this configuration, but"), "{case}: {log}");
                }
                Expected::Counts => assert_backup_counts(&world, &recorded, &case),
                Expected::Refused => {
                    let commands = assert_refused(&world, &case);
                    shell(&world, &commands);
                    let kept = world.path("ledger.db-wal.aside");
                    assert_eq!(kept.metadata().unwrap().len(), log, "{case}");
                    assert_backup_counts(&world, &recorded, &case);
                }
                // It is also of another provider: no command may work on it.
                Expected::RefusedForGood if stop == Stop::Orderly => {
                    let output = world.run(&["once"]);
                    assert_eq!(output.status.code(), Some(78), "{case}");
                }
                Expected::RefusedForGood => {
                    assert_refused(&world, &case);
                }
            }
        }
    }
}

/// Older copies of all files, with their times, look like what a kill leaves, if no
/// checkpoint ran since: they count, and are compared with the provider first.
#[test]
fn copies_of_all_files_are_compared_with_the_provider() {
    let (world, recorded) = world_with_backup(1, Stop::Killed);
    shell(&world, "cp -a copy/* .");
    assert_backup_counts(&world, &recorded, "copies of all files");
}

#[test]
fn copy_put_back_after_a_stop_counts() {
    assert_ways(Stop::Orderly);
}

#[test]
fn copy_put_back_after_a_kill_counts_or_is_refused() {
    assert_ways(Stop::Killed);
}

#[test]
fn log_of_a_killed_daemon_counts() {
    for rounds in [1, 8] {
        let (world, recorded) = world_with_backup(rounds, Stop::Killed);
        world.ok(&["check"]);
        assert_eq!(history(&world).len(), recorded.len() + rounds * KEYS.len());
        world.ok(&["once"]);
        assert_eq!(history(&world).len(), recorded.len() + rounds * KEYS.len());
        // An orderly end leaves one file that holds all.
        let alone = world.path("alone.db");
        fs::copy(world.path("ledger.db"), &alone).unwrap();
        let ledger = rusqlite::Connection::open(&alone).unwrap();
        let sql = "SELECT count(*) FROM history";
        let count: usize = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, recorded.len() + rounds * KEYS.len());
    }
}

#[test]
fn checkpoint_that_was_interrupted_is_checked() {
    let (world, recorded) = world_with_backup(8, Stop::Killed);
    let note = world.path("ledger.db.checkpoint");
    let text_of_note = fs::read_to_string(&note).unwrap();
    let noted: Value = serde_json::from_str(&text_of_note).unwrap();
    let under_way = serde_json::json!({
        "state": "under-way", "device": noted["device"], "inode": noted["inode"],
    });
    fs::write(&note, under_way.to_string()).unwrap();
    world.ok(&["check"]);
    world.ok(&["once"]);
    assert_eq!(history(&world).len(), recorded.len() + 8 * KEYS.len());
}
