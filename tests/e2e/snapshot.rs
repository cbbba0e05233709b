//! Users who may look, and not open the ledger, read the snapshot where no daemon runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::daemon::Daemon;
use crate::support::host::has_root;
use crate::support::{TestEnv, copy_binary, file_key_text, text, write};

/// The user and the group that may look.
const LOOKER: u32 = 4_711;

/// Returns a world with a snapshot for the group of the looker, and a program for that user.
fn world_with_snapshot() -> (TestEnv, PathBuf) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let snapshot = format!("[ledger]\nsnapshot = {:?}\n", world.path("shown/ledger.db"));
    write(
        &world.path("config.toml"),
        &config.replace("[ledger]\n", &snapshot),
    );
    let program = world.path("rekeyd");
    copy_binary(&program);
    fs::create_dir(world.path("shown")).unwrap();
    chown(world.path("shown"), None, Some(LOOKER)).unwrap();
    for (name, mode) in [
        ("", 0o755),
        ("config.toml", 0o644),
        ("rekeyd", 0o755),
        ("shown", 0o750),
    ] {
        fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    }
    (world, program)
}

/// Each answer says of when it is, and is that of the last commit.
#[test]
fn looker_reads_the_last_snapshot_where_no_daemon_runs() {
    if !has_root() {
        return;
    }
    let (world, program) = world_with_snapshot();
    let run_for = |user: u32, arguments: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command
            .arg("--config")
            .arg(world.path("config.toml"))
            .args(arguments);
        command.env_clear().uid(user).gid(user).output().unwrap()
    };
    let refused = run_for(LOOKER, &["history"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    world.ok(&["once"]);
    let current = world.live_ids().remove(0);
    let reads = |command: &[&str]| {
        let output = run_for(LOOKER, command);
        let printed = text(&output.stdout);
        let first = printed.lines().next().unwrap_or_default().to_owned();
        let message = text(&output.stderr);
        assert!(
            first.starts_with("as of 2"),
            "{command:?}: {printed}{message}"
        );
        assert!(
            first.ends_with("Z (snapshot; rekeyd is not running)"),
            "{first}"
        );
        printed
    };
    for command in [
        &["status"][..],
        &["schedule"],
        &["show", "billing"],
        &["history"],
    ] {
        reads(command);
    }
    assert!(reads(&["history", "--verbose"]).contains(&current));
    let json = run_for(LOOKER, &["history", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(rows[0]["credential_id"], current.as_str());
    assert!(
        text(&json.stderr).contains("note: as of 2"),
        "{}",
        text(&json.stderr)
    );
    // The group of the folder alone: of other users nobody, and nobody may write it.
    let outsider = run_for(LOOKER + 1, &["history"]);
    assert_eq!(outsider.status.code(), Some(1));
    let found = fs::metadata(world.path("shown/ledger.db")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o640, LOOKER));
    for name in ["ledger.db", "ledger.db.lock", "ledger.db.checkpoint"] {
        let mode = fs::metadata(world.path(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    // After a command and a daemon, it is that of their last commit.
    world.ok(&["rotate", "billing"]);
    let newest = world.history()[0]["credential_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reads(&["history", "--verbose"]).contains(&newest));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["pause", "billing"]);
    chown(world.path("control.sock"), None, Some(LOOKER)).unwrap();
    let running = text(&run_for(LOOKER, &["status"]).stdout);
    assert!(running.starts_with("running"), "{running}");
    daemon.stop();
    assert!(reads(&["status"]).contains("paused"));
}

/// Files of an earlier release are narrowed before SQLite opens them, by what they are.
#[test]
fn each_start_narrows_the_files_of_the_ledger() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let names = ["ledger.db", "ledger.db.lock", "ledger.db.checkpoint"];
    for name in names {
        fs::set_permissions(world.path(name), Permissions::from_mode(0o664)).unwrap();
    }
    // A link in the place of one of them leads to a file that stays as it is.
    let other = world.path("other");
    write(&other, "");
    fs::set_permissions(&other, Permissions::from_mode(0o664)).unwrap();
    std::os::unix::fs::symlink(&other, world.path("ledger.db-shm.old")).unwrap();
    world.ok(&["once"]);
    for name in names {
        let mode = fs::metadata(world.path(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o7777, 0o664);
}

/// Root finds the process that keeps the ledger locked.
#[test]
fn process_with_a_lock_is_named() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let none = world.ok(&["ledger", "locks"]);
    assert!(none.starts_with("no process holds a lock"), "{none}");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let held = world.ok(&["ledger", "locks"]);
    let holder = format!("process {} (rekeyd) of ", daemon.id());
    for name in ["ledger.db: ", "ledger.db.lock: write lock of "] {
        let line = held.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {held}"));
        assert!(line.contains(&holder), "{line}");
    }
    let refused = world.run(&["once"]);
    let message = text(&refused.stderr);
    assert!(
        message.contains("`sudo rekeyd ledger locks` names"),
        "{message}"
    );
    daemon.stop();
}
