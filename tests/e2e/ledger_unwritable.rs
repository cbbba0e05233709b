//! A ledger that cannot be written: no credential is created at the provider, and the
//! message states the remedy. File permissions do not apply to root, so the program runs
//! as the user nobody if the tests run as root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::daemon::Daemon;
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, text, write, write_ledger};

/// An environment whose ledger is in a folder of its own, and a program to which file
/// permissions apply.
struct Ledger {
    bound: UnprivilegedEnv,
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Ledger {
    fn start() -> Self {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h").replace("DIR/", "DIR/out/"));
        let config = std::fs::read_to_string(world.path("config.toml")).unwrap();
        let config = config.replace("/ledger.db\"", "/state/ledger.db\"");
        write(&world.path("config.toml"), &config);
        for folder in ["state", "out"] {
            std::fs::create_dir(world.path(folder)).unwrap();
        }
        let bound = UnprivilegedEnv::new(world, &["state", "out"]);
        Self { bound }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.bound.env.path("state").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.bound.run(arguments)
    }

    fn assert_works(&self) {
        let output = self.run(&["check"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let output = self.run(&["rotate", "--all"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// Asserts that every command that would write fails with the reason and creates
    /// nothing, and that `check` reports the same.
    fn assert_all_rejected(&self, expected: &[&str]) {
        self.assert_rejected(&["check"], expected);
        self.assert_rejected(&["once", "--for", "1s"], expected);
        self.assert_rejected(&["run"], expected);
        self.assert_rejected(&["rotate", "--all"], expected);
    }

    fn assert_rejected(&self, command: &[&str], expected: &[&str]) {
        let before = self.bound.env.keys().len();
        let output = self.run(command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
        for expected in expected {
            assert!(
                stderr.contains(expected),
                "{command:?}: no {expected:?}: {stderr}"
            );
        }
        assert_eq!(self.bound.env.keys().len(), before, "nothing was made");
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // An unwritable folder cannot be removed either.
        set_mode(&self.bound.env.path("state"), 0o700);
    }
}

#[test]
fn ledger_that_cannot_be_created_is_rejected() {
    let ledger = Ledger::start();
    set_mode(&ledger.bound.env.path("state"), 0o500);
    ledger.assert_all_rejected(&[
        "ledger.db.lock",
        "permission denied",
        "let rekeyd write to its folder",
    ]);
    set_mode(&ledger.bound.env.path("state"), 0o700);
    ledger.assert_works();
}

#[test]
fn read_only_ledger_is_rejected() {
    let ledger = Ledger::start();
    ledger.assert_works();
    set_mode(&ledger.state("ledger.db"), 0o440);
    ledger.assert_all_rejected(&["ledger.db", "read-only", "let rekeyd write to both"]);
    set_mode(&ledger.state("ledger.db"), 0o640);
    ledger.assert_works();
}

#[test]
fn read_only_folder_is_rejected_if_files_are_missing() {
    let ledger = Ledger::start();
    ledger.assert_works();
    // The ledger was restored from a backup.
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        std::fs::remove_file(ledger.state(name)).unwrap();
    }
    set_mode(&ledger.bound.env.path("state"), 0o500);
    ledger.assert_all_rejected(&[
        "cannot open the ledger",
        "state/ledger.db",
        "its folder is read-only",
    ]);
    set_mode(&ledger.bound.env.path("state"), 0o700);
    ledger.assert_works();
}

#[test]
fn read_only_folder_is_accepted_if_all_files_exist() {
    let ledger = Ledger::start();
    ledger.assert_works();
    set_mode(&ledger.bound.env.path("state"), 0o500);
    ledger.assert_works();
}

#[test]
fn unexpected_file_type_beside_the_ledger_is_rejected() {
    let ledger = Ledger::start();
    for (name, expected) in [
        ("ledger.db", "it is a folder; hint: use the path of a file"),
        ("ledger.db-wal", "cannot open the ledger"),
        ("ledger.db.lock", "cannot open the lock file"),
    ] {
        let path = ledger.state(name);
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir(&path).unwrap();
        ledger.assert_all_rejected(&[expected, "state/ledger.db"]);
        std::fs::remove_dir(&path).unwrap();
    }
    ledger.assert_works();
}

#[test]
fn inaccessible_folder_is_not_an_absent_ledger() {
    let ledger = Ledger::start();
    ledger.assert_works();
    set_mode(&ledger.bound.env.path("state"), 0o000);
    for command in ["status", "history", "audit"] {
        ledger.assert_rejected(&[command], &["state/ledger.db", "permission denied"]);
    }
    set_mode(&ledger.bound.env.path("state"), 0o700);
    ledger.assert_works();
}

/// A trigger of another program refuses every event: rotations wait, and everybody sees why.
#[test]
fn trigger_of_another_program_is_shown_while_the_daemon_runs() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let ledger = write_ledger(&world.path("ledger.db"));
    let trigger =
        "CREATE TRIGGER no BEFORE INSERT ON event_log BEGIN SELECT RAISE(ABORT, 'no'); END";
    ledger.execute_batch(trigger).unwrap();
    let before = world.keys().len();
    for command in [
        &["rotate", "billing", "--no-wait"][..],
        &["rotate", "billing"],
        &["status"],
    ] {
        let output = world.run(command);
        let message = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {message}");
        assert!(
            message.contains("the trigger no,"),
            "{command:?}: {message}"
        );
    }
    assert_eq!(world.keys().len(), before);
    let log = daemon.stop();
    assert!(log.contains("DROP TRIGGER"), "{log}");
}
