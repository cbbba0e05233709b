//! The ledger's files change under the running daemon, in every way: it stops sending
//! anything, reports that everywhere, and notifies people of what it has in memory. What an
//! operator's `sqlite3` or backup does is no alarm.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::control_socket;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, free_address, get, read_ledger, text, write, write_ledger};

/// A time in which a daemon that did not stop would rotate several times.
const SEVERAL_ROTATIONS: Duration = Duration::from_millis(1_500);

/// The number of worlds at once: they mostly wait.
const WORLDS_AT_ONCE: usize = 4;

/// How long a test waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to damage the files of a ledger.
struct Damage {
    name: &'static str,
    script: &'static str,
    /// What the daemon says of it.
    expected: &'static str,
}

const DAMAGES: [Damage; 23] = [
    Damage {
        name: "all files are removed",
        script: "rm -f ledger.db ledger.db-wal ledger.db-shm ledger.db.lock ledger.db.checkpoint",
        expected: "is gone",
    },
    Damage {
        name: "the ledger is removed",
        script: "rm ledger.db",
        expected: "ledger.db is gone",
    },
    Damage {
        name: "the log is removed",
        script: "rm ledger.db-wal",
        expected: "ledger.db-wal is gone",
    },
    Damage {
        name: "the index is removed",
        script: "rm ledger.db-shm",
        expected: "ledger.db-shm is gone",
    },
    Damage {
        name: "the ledger is moved away",
        script: "mv ledger.db elsewhere.db",
        expected: "ledger.db is gone",
    },
    Damage {
        name: "the folder is moved away and made again",
        script: "mkdir other; mv ledger.db* other",
        expected: "is gone",
    },
    Damage {
        name: "the ledger is replaced by a copy",
        script: "cp ledger.db copy.db; mv copy.db ledger.db",
        expected: "ledger.db was replaced",
    },
    Damage {
        name: "the ledger is replaced by a backup",
        script: "mv backup.db ledger.db",
        expected: "ledger.db was replaced",
    },
    Damage {
        name: "the ledger is moved, with a link in its place",
        script: "ln ledger.db elsewhere.db; ln -s elsewhere.db link; mv -T link ledger.db",
        expected: "ledger.db was replaced",
    },
    Damage {
        name: "the log is moved, with a link in its place",
        script: "ln ledger.db-wal elsewhere; ln -s elsewhere link; mv -T link ledger.db-wal",
        expected: "ledger.db-wal was replaced",
    },
    Damage {
        name: "the log is replaced",
        script: "cp ledger.db-wal copy; mv copy ledger.db-wal",
        expected: "ledger.db-wal was replaced",
    },
    Damage {
        name: "the index is replaced",
        script: "cp ledger.db-shm copy; mv copy ledger.db-shm",
        expected: "ledger.db-shm was replaced",
    },
    Damage {
        name: "the index is emptied",
        script: ": > ledger.db-shm",
        expected: "ledger.db-shm became shorter",
    },
    Damage {
        name: "the index loses its end",
        script: "truncate -s -1 ledger.db-shm",
        expected: "ledger.db-shm became shorter",
    },
    Damage {
        name: "the ledger is cut to one page",
        script: "truncate -s 4096 ledger.db",
        expected: "ledger.db became shorter",
    },
    Damage {
        name: "the ledger is emptied",
        script: ": > ledger.db",
        expected: "ledger.db became shorter",
    },
    Damage {
        name: "the ledger loses its last page",
        script: "truncate -s -4096 ledger.db",
        expected: "ledger.db became shorter",
    },
    Damage {
        name: "the ledger is partly overwritten",
        script: "size=$(stat -c %s ledger.db); \
                 head -c $((size - 4096)) /dev/zero | tr '\\0' 'x' | \
                 dd of=ledger.db bs=4096 seek=1 conv=notrunc status=none",
        expected: "damaged",
    },
    Damage {
        name: "a backup is copied over the ledger",
        script: "cp backup.db ledger.db",
        expected: "ledger.db",
    },
    Damage {
        name: "an older copy is copied over the ledger, as long as it is",
        script: "cp -p older.db ledger.db",
        expected: "ledger.db",
    },
    Damage {
        name: "an older copy is written into the ledger",
        script: "dd if=older.db of=ledger.db conv=notrunc status=none",
        expected: "ledger.db",
    },
    Damage {
        name: "the log is partly overwritten",
        script: "size=$(stat -c %s ledger.db-wal); \
                 head -c $((size - 32)) /dev/zero | tr '\\0' 'x' | \
                 dd of=ledger.db-wal bs=32 seek=1 conv=notrunc status=none",
        expected: "damaged",
    },
    Damage {
        name: "the log is emptied",
        script: ": > ledger.db-wal",
        expected: "damaged",
    },
];

/// A way in which content of an earlier moment gets into the files in place.
struct OlderContent {
    name: &'static str,
    /// Keeps the content, while the daemon runs.
    keep: fn(&TestEnv),
    /// Puts it back, three rotations later.
    overwrite: fn(&TestEnv),
}

const OLDER_CONTENTS: [OlderContent; 4] = [
    OlderContent {
        name: "copies of all files are written over them",
        keep: |world| shell(world, "mkdir old; cp ledger.db* old"),
        overwrite: |world| shell(world, "cp old/ledger.db* ."),
    },
    OlderContent {
        name: "a copy is written over the ledger after a checkpoint",
        keep: |world| {
            copy_log(world);
            shell(world, "cp ledger.db old.db");
        },
        overwrite: |world| {
            copy_log(world);
            shell(world, "cp old.db ledger.db");
        },
    },
    OlderContent {
        name: "a copy is written over the ledger, and its log is emptied",
        keep: |world| {
            copy_log(world);
            shell(world, "cp ledger.db old.db");
        },
        overwrite: |world| shell(world, ": > ledger.db-wal; cp old.db ledger.db"),
    },
    OlderContent {
        name: "SQLite restores a backup",
        keep: |world| drop(world.ok(&["backup", world.path("old.db").to_str().unwrap()])),
        overwrite: |world| {
            let mut ledger = write_ledger(&world.path("ledger.db"));
            let progress: Option<fn(rusqlite::backup::Progress)> = None;
            ledger
                .restore(rusqlite::MAIN_DB, world.path("old.db"), progress)
                .unwrap();
        },
    },
];

/// Copies the log into the ledger and empties it, as an operator does.
fn copy_log(world: &TestEnv) {
    let ledger = write_ledger(&world.path("ledger.db"));
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    ledger.query_row(sql, [], |_| Ok(())).unwrap();
}

fn shell(world: &TestEnv, script: &str) {
    let mut command = Command::new("sh");
    let command = command.args(["-eu", "-c", script]);
    let status = command.current_dir(world.dir.path()).status();
    assert!(status.unwrap().success(), "{script}");
}

/// A daemon that rotates all the time, and notifies by a program and a file.
fn rotating_world() -> (TestEnv, Daemon, String) {
    rotating_world_with(|_| ())
}

/// As [`rotating_world`]; `keep` is called after the first rotation of the daemon.
fn rotating_world_with(keep: fn(&TestEnv)) -> (TestEnv, Daemon, String) {
    let world = TestEnv::start(&[]);
    let metrics = free_address();
    let keys = format!(
        "[metrics]\nlisten = \"{metrics}\"\n\
         [[notify]]\ntype = \"command\"\nargv = [\"DIR/told\"]\n\
         [key.busy]\nschedule = \"@monthly\"\noverlap = \"1h\"\nverify-interval = \"0s\"\n\
         max-creates-per-day = 100000\nmax-live-credentials = 100\n\
         [[key.busy.sink]]\ntype = \"file\"\npath = \"DIR/busy.key\"\n\
         [key.idle]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.idle.sink]]\ntype = \"file\"\npath = \"DIR/idle.key\"\n"
    );
    world.configure(&keys);
    let told = world.path("told");
    let notices = world.path("notices");
    write(&told, &format!("#!/bin/sh\ncat >> {}\n", notices.display()));
    fs::set_permissions(&told, fs::Permissions::from_mode(0o700)).unwrap();
    world.ok(&["once"]);
    fs::copy(world.path("ledger.db"), world.path("older.db")).unwrap();
    world.ok(&["rotate", "busy"]);
    world.ok(&["backup", world.path("backup.db").to_str().unwrap()]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["rotate", "busy"]);
    keep(&world);
    for _ in 0..3 {
        world.ok(&["rotate", "busy"]);
    }
    (world, daemon, metrics)
}

/// Rotates on a thread until the daemon takes no more, and returns then.
fn rotate_until_refused(world: &TestEnv, metrics: &str) {
    let start = Instant::now();
    while get(metrics, "/readyz").0 == 200 {
        assert!(start.elapsed() < PATIENCE, "nothing is noticed");
        let mut child = world.command(&["rotate", "busy", "--no-wait"]);
        let child = child.stdout(std::process::Stdio::null());
        let child = child.stderr(std::process::Stdio::null());
        child.status().unwrap();
    }
}

/// Returns the live credentials at the provider: ids and names.
fn live(world: &TestEnv) -> BTreeSet<(String, String)> {
    let live = world.keys().into_iter();
    let live = live.filter(|key| key["deleted_at"].is_null() && key["name"] != "sandbox-owner");
    live.map(|key| {
        let member = |name: &str| key[name].as_str().unwrap().to_owned();
        (member("id"), member("name"))
    })
    .collect()
}

fn assert_damage_is_noticed(damage: &Damage, rotates_meanwhile: bool) {
    let (world, daemon, metrics) = rotating_world();
    let case = format!("{}, rotating: {rotates_meanwhile}", damage.name);
    shell(&world, damage.script);
    if rotates_meanwhile {
        rotate_until_refused(&world, &metrics);
    }
    assert_daemon_stops(&world, daemon, &metrics, damage.expected, &case);
}

fn assert_older_content_is_noticed(older: &OlderContent, rotates_meanwhile: bool) {
    let (world, daemon, metrics) = rotating_world_with(older.keep);
    let case = format!("{}, rotating: {rotates_meanwhile}", older.name);
    (older.overwrite)(&world);
    if rotates_meanwhile {
        rotate_until_refused(&world, &metrics);
    }
    assert_daemon_stops(&world, daemon, &metrics, "ledger.db", &case);
}

/// Asserts that the daemon notices the damage, sends nothing more, and tells everything.
fn assert_daemon_stops(
    world: &TestEnv,
    mut daemon: Daemon,
    metrics: &str,
    expected: &str,
    case: &str,
) {
    let line = daemon.wait_for("changed while rekeyd was using them");
    assert!(line.contains(expected), "{case}: {line}");
    let (status, _, page) = get(metrics, "/readyz");
    assert_eq!(status, 503, "{case}");
    assert!(page.contains(expected), "{case}: {page}");
    assert!(page.contains("rekeyd restore"), "{case}: {page}");

    // `status` says so, whatever the ledger says, and no other process is let in. None of
    // them takes away the log, which may hold the only record of a credential.
    let log_file = world.path("ledger.db-wal");
    let log_content = fs::read(&log_file).ok();
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{case}");
    let printed = text(&status.stdout);
    let first = printed.lines().next().unwrap_or_default();
    assert!(first.contains(expected), "{case}: {printed}");
    let once = world.run(&["once"]);
    assert_eq!(
        once.status.code(),
        Some(75),
        "{case}: {}",
        text(&once.stderr)
    );
    let backup = world.path("another.db");
    for command in [
        &["history"][..],
        &["check"],
        &["backup", backup.to_str().unwrap()],
    ] {
        world.run(command);
    }

    // A user who may not open the file is shown no other one.
    if let Some((status, answer)) = get_copy(world) {
        assert_eq!(status, 503, "{case}: {answer}");
        assert!(answer.contains(expected), "{case}: {answer}");
    }

    // Nothing more is sent: a command that waits is not carried out.
    let created = world.keys().len();
    let _ = world
        .command(&["rotate", "busy", "--no-wait"])
        .output()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < SEVERAL_ROTATIONS {
        assert_eq!(get(metrics, "/healthz").0, 200, "{case}");
        assert_eq!(get(metrics, "/readyz").0, 503, "{case}");
    }
    assert_eq!(world.keys().len(), created, "{case}");

    assert_people_know(world, daemon, expected, case);
    assert_eq!(world.keys().len(), created, "{case}");
    if log_content.is_some() {
        let is_kept = fs::read(&log_file).ok() == log_content;
        assert!(is_kept, "{case}: the log is another one");
    }
}

/// Asks the daemon for a copy of the ledger, and returns the status and the answer; none if the
/// cookie is gone with the folder, so that the daemon's own user is shown nothing.
fn get_copy(world: &TestEnv) -> Option<(u16, String)> {
    let cookie = control_socket::read_cookie(&world.path("ledger.db"))?;
    let socket = world.path("control.sock");
    let request = ["GET", "/ledger", ""];
    Some(control_socket::ask(&socket, Some(&cookie), request))
}

/// Asserts that people know of the damage and of every credential, and that the log does.
fn assert_people_know(world: &TestEnv, daemon: Daemon, expected: &str, case: &str) {
    let notices = fs::read_to_string(world.path("notices")).unwrap();
    let log = daemon.stop();
    for (id, name) in live(world) {
        for text in [&notices, &log] {
            assert!(
                text.contains(&id) && text.contains(&name),
                "{case}: {id}, {name}: {text}"
            );
        }
    }
    assert!(notices.contains(expected), "{case}: {notices}");
}

fn assert_each_damage_is_noticed(rotates_meanwhile: bool) {
    for damages in DAMAGES.chunks(WORLDS_AT_ONCE) {
        std::thread::scope(|scope| {
            for damage in damages {
                scope.spawn(|| assert_damage_is_noticed(damage, rotates_meanwhile));
            }
        });
    }
}

#[test]
fn damaged_files_stop_an_idle_daemon() {
    assert_each_damage_is_noticed(false);
}

#[test]
fn damaged_files_stop_a_rotating_daemon() {
    assert_each_damage_is_noticed(true);
}

#[test]
fn older_content_stops_an_idle_and_a_rotating_daemon() {
    for rotates_meanwhile in [false, true] {
        std::thread::scope(|scope| {
            for older in &OLDER_CONTENTS {
                scope.spawn(move || assert_older_content_is_noticed(older, rotates_meanwhile));
            }
        });
    }
}

/// What contradicts the rows that rekeyd wrote is no matter of one key.
#[test]
fn rows_that_another_program_changed_stop_every_key() {
    for (case, sql) in [
        (
            "another phase",
            "UPDATE rotation SET phase = 'revoked', revoked_at = '2001-01-01T00:00:00Z'
             WHERE key = 'busy' AND phase = 'current'",
        ),
        (
            "another sequence",
            "UPDATE key_state SET sequence = sequence + 1 WHERE key = 'busy'",
        ),
    ] {
        let (world, mut daemon, metrics) = rotating_world();
        write_ledger(&world.path("ledger.db"))
            .execute_batch(sql)
            .unwrap();
        let _ = world.run(&["rotate", "busy", "--no-wait"]);
        let line = daemon.wait_for("changed while rekeyd was using them");
        let expected = "another program changed its rows";
        assert!(line.contains(expected), "{case}: {line}");
        assert_eq!(get(&metrics, "/readyz").0, 503, "{case}");
        let created = world.keys().len();
        for key in ["busy", "idle"] {
            let output = world.run(&["rotate", key]);
            assert_eq!(output.status.code(), Some(1), "{case}: {key}");
        }
        assert_eq!(world.keys().len(), created, "{case}");
        assert_people_know(&world, daemon, expected, case);
    }
}

/// What a writer left is not always whole, whatever the times of the file are.
#[test]
fn check_reads_every_index_of_a_ledger_without_a_writer() {
    let world = TestEnv::start(&[]);
    world.configure(&crate::support::file_key_text("1h"));
    world.ok(&["once"]);
    world.ok(&["check"]);
    let path = world.path("ledger.db");
    let root: u64 = {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'rotation_by_key_and_start'";
        let ledger = read_ledger(&path);
        ledger.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let modified = path.metadata().unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The number of the page's entries (https://www.sqlite.org/fileformat.html, 1.6).
    file.write_at(&[0, 0], (root - 1) * 4096 + 3).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let check = world.run(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    let problem = text(&check.stderr);
    assert!(problem.contains("ledger.path"), "{problem}");
}

/// A way to make the configured path lead to another ledger, by a link on it.
struct MovedLink {
    /// Makes the link, before the first start.
    prepare: &'static str,
    /// The configured path.
    ledger: &'static str,
    /// Points the link elsewhere.
    script: &'static str,
    expected: &'static str,
}

/// The files that the daemon has open stay as they are.
#[test]
fn a_link_on_the_path_of_the_ledger_that_leads_elsewhere_stops_the_daemon() {
    let ways = [
        MovedLink {
            prepare: "mkdir one two; ln -s one link",
            ledger: "/link/ledger.db",
            script: "cp backup.db two/ledger.db; ln -sfn two link",
            expected: "link/ledger.db was replaced",
        },
        MovedLink {
            prepare: "ln -s one.db ledger.db",
            ledger: "/ledger.db",
            script: "cp backup.db two.db; ln -sfn two.db ledger.db",
            expected: "ledger.db was replaced",
        },
        MovedLink {
            prepare: "mkdir -p disk/one disk/two; ln -s disk data; ln -s data/one link",
            ledger: "/link/ledger.db",
            script: "mkdir -p other/one; cp backup.db other/one/ledger.db; ln -sfn other data",
            expected: "link/ledger.db was replaced",
        },
        MovedLink {
            prepare: "mkdir one two; ln -s one link",
            ledger: "/link/ledger.db",
            script: "ln -sfn two link",
            expected: "link/ledger.db is gone",
        },
    ];
    std::thread::scope(|scope| {
        for way in ways {
            scope.spawn(move || assert_moved_link_is_noticed(&way));
        }
    });
}

fn assert_moved_link_is_noticed(way: &MovedLink) {
    let world = TestEnv::start(&[]);
    shell(&world, way.prepare);
    world.configure(&crate::support::file_key_text("1h"));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let config = config.replace("/ledger.db\"", &format!("{}\"", way.ledger));
    write(&world.path("config.toml"), &config);
    world.ok(&["once"]);
    world.ok(&["backup", world.path("backup.db").to_str().unwrap()]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    shell(&world, way.script);
    let line = daemon.wait_for("changed while rekeyd was using them");
    assert!(line.contains(way.expected), "{line}");
    // The file that the path leads to now is not shown as the daemon's without a word.
    for command in [&["status"][..], &["check"], &["rotate", "--all"]] {
        let output = world.run(command);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("changed while rekeyd"), "{command:?}: {said}");
    }
    daemon.stop();
}

/// Without the folder, neither the ledger nor a lock shows that the daemon runs.
#[test]
fn status_asks_a_daemon_whose_folder_is_gone() {
    let world = TestEnv::start(&[]);
    fs::create_dir(world.path("state")).unwrap();
    world.configure(&crate::support::file_key_text("1h"));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let config = config.replace("/ledger.db\"", "/state/ledger.db\"");
    write(&world.path("config.toml"), &config);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    fs::rename(world.path("state"), world.path("elsewhere")).unwrap();
    daemon.wait_for("changed while rekeyd was using them");
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    let printed = text(&status.stdout);
    let first = printed.lines().next().unwrap_or_default();
    assert!(first.contains("state/ledger.db is gone"), "{printed}");
    let running = format!("running: rekeyd run (process {})", daemon.id());
    assert!(printed.contains(&running), "{printed}");
    let json = world.run(&["status", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["running"], true);
    daemon.stop();
    let status = world.run(&["status"]);
    assert!(!text(&status.stdout).contains("running: "));
}

#[test]
fn lost_rotations_are_reported_by_the_next_start() {
    let (world, mut daemon, metrics) = rotating_world();
    shell(&world, "mv backup.db ledger.db");
    rotate_until_refused(&world, &metrics);
    daemon.wait_for("changed while rekeyd was using them");
    daemon.stop();
    // The log belongs to the file that is gone.
    let output = world.run(&["once"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    shell(&world, "mv ledger.db backup.db; : > ledger.db");
    world.ok(&["restore", world.path("backup.db").to_str().unwrap()]);
    let output = world.run(&["once"]);
    assert!(text(&output.stderr).contains("of this configuration, but"));
    let audit = world.run(&["audit", "--json"]);
    assert_eq!(audit.status.code(), Some(1), "a person decides");
    let audit: Vec<Value> = serde_json::from_slice(&audit.stdout).unwrap();
    let lookalikes = audit.iter().filter(|row| row["standing"] == "lookalike");
    let ids: Vec<_> = lookalikes
        .map(|row| row["credential_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.len() >= 3);
    let has_line = || text(&world.run(&["status"]).stdout).contains("not in this ledger");
    assert!(has_line());
    assert_eq!(world.run(&["status"]).status.code(), Some(1));
    for id in &ids {
        world.ok(&["adopt", "busy", id]);
    }
    assert!(!has_line(), "a row has each of them now");
    world.ok(&["audit"]);
}

/// Work of an operator beside a running daemon, with its name.
type OperatorWork = (&'static str, fn(&TestEnv));

/// What operators do beside a running daemon.
const HARMLESS: [OperatorWork; 7] = [
    ("a checkpoint that empties the log", copy_log),
    ("VACUUM", |world| {
        write_ledger(&world.path("ledger.db"))
            .execute_batch("VACUUM")
            .unwrap();
    }),
    ("VACUUM and a checkpoint", |world| {
        let ledger = write_ledger(&world.path("ledger.db"));
        ledger
            .execute_batch(
                "CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(1000000));
                 PRAGMA wal_checkpoint(TRUNCATE); DROP TABLE filler; VACUUM;
                 PRAGMA wal_checkpoint(TRUNCATE);",
            )
            .unwrap();
    }),
    ("a write", |world| {
        let ledger = write_ledger(&world.path("ledger.db"));
        let sql = "UPDATE ledger_identity SET created_at = created_at";
        ledger.execute(sql, []).unwrap();
    }),
    ("a second link", |world| {
        fs::hard_link(world.path("ledger.db"), world.path("link.db")).unwrap();
    }),
    ("other times and modes", |world| {
        shell(world, "touch ledger.db ledger.db-wal; chmod 0600 ledger.db");
    }),
    ("a backup and readers", |world| {
        world.ok(&["backup", world.path("another.db").to_str().unwrap()]);
        world.ok(&["history"]);
        read_ledger(&world.path("ledger.db"))
            .query_row("SELECT count(*) FROM history", [], |_| Ok(()))
            .unwrap();
    }),
];

#[test]
fn work_of_operators_is_no_alarm() {
    let (world, daemon, metrics) = rotating_world();
    for (name, work) in HARMLESS {
        work(&world);
        for _ in 0..3 {
            world.ok(&["rotate", "busy"]);
        }
        assert_eq!(get(&metrics, "/readyz").0, 200, "{name}");
    }
    let log = daemon.stop();
    assert!(!log.contains("ERROR"), "{log}");
    world.ok(&["check"]);
    assert!(!world.path("notices").exists());
}

#[test]
fn log_counts_after_a_kill_although_an_operator_wrote_the_ledger() {
    let (world, mut daemon, _) = rotating_world();
    let written = || {
        let note = fs::read_to_string(world.path("ledger.db.checkpoint")).unwrap();
        serde_json::from_str::<Value>(&note).unwrap()["modified"].clone()
    };
    let before = written();
    copy_log(&world);
    // The pages are checked, and the file is noted.
    let start = Instant::now();
    while written() == before {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    world.ok(&["rotate", "busy"]);
    let recorded = world.history().len();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    world.ok(&["check"]);
    world.ok(&["once"]);
    assert_eq!(world.history().len(), recorded);
}

/// A caller must not wait for what a damaged ledger has stopped, begun or not.
#[test]
fn a_rotation_under_way_is_answered_when_the_ledger_is_damaged() {
    let world = TestEnv::start(&[]);
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    world.configure(&format!(
        "[key.billing]\nschedule = \"@monthly\"\n[[key.billing.sink]]\ntype = \"webhook\"\n\
         url = \"http://{address}/\"\nsigning-secret-file = \"DIR/webhook-secret\"\n\
         timeout = \"5m\"\nunauthenticated-receiver = true\n"
    ));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("verified");
    let mut rotate = world.command(&["rotate", "billing"]);
    let rotate = rotate.stderr(Stdio::piped()).spawn().unwrap();
    daemon.wait_for("requested: rotate");
    let mut hold = world.command(&["hold", "billing"]);
    let hold = hold.stderr(Stdio::piped()).spawn().unwrap();
    daemon.wait_for("requested: hold");
    let start = Instant::now();
    shell(&world, "truncate -s 4096 ledger.db");
    for (command, expected) in [
        (rotate, "not rotated yet"),
        (hold, "nothing was changed: the files"),
    ] {
        let output = command.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("changed while rekeyd was using them"),
            "{stderr}"
        );
        assert!(stderr.contains(expected), "{stderr}");
    }
    assert!(start.elapsed() < PATIENCE);
    let before = world.keys().len();
    for command in [
        &["hold", "billing"][..],
        &["pause", "billing"],
        &["adopt", "billing", "key_x"],
    ] {
        let output = world.run(command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("nothing was changed: the files of the ledger"),
            "{stderr}"
        );
    }
    assert_eq!(world.keys().len(), before);
}
