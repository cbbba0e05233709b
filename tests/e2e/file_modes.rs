//! The modes of new files are those of the documentation, whatever the umask is.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{TestEnv, file_key_text, scratch_dir, text};

#[test]
fn umask_does_not_change_the_modes_of_files() {
    for umask in ["0", "022", "077", "0177", "0777"] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h"));
        let once = world.command(&["once"]);
        let output = Command::new("sh")
            .args(["-c", "umask \"$0\"; exec \"$@\"", umask])
            .arg(once.get_program())
            .args(once.get_args())
            .output()
            .unwrap();
        assert!(output.status.success(), "{umask}: {}", text(&output.stderr));
        for (name, expected) in [
            ("ledger.db", 0o600),
            ("ledger.db-wal", 0o600),
            ("ledger.db-shm", 0o600),
            ("ledger.db.lock", 0o600),
            ("ledger.db.checkpoint", 0o600),
            ("billing.key", 0o600),
        ] {
            let mode = world.path(name).metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, expected, "{name} with umask {umask}: {mode:o}");
        }
    }
}

#[test]
fn files_of_an_earlier_release_are_narrowed_and_that_is_said_once() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let files = ["ledger.db", "ledger.db-wal", "ledger.db.lock"];
    for name in files {
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(world.path(name), mode).unwrap();
    }
    for is_said in [true, false] {
        let log = text(&world.run(&["once"]).stderr);
        assert_eq!(log.contains("only their owner can read"), is_said, "{log}");
        for name in files {
            let mode = world.path(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
    }
}

/// The folder that the service manager makes is rekeyd's alone; another one may hold the files
/// of others.
#[test]
fn folder_of_the_service_is_narrowed_and_another_is_reported() {
    let mut world = TestEnv::start(&[]);
    let elsewhere = scratch_dir();
    let file = elsewhere.path().join("billing.key").display().to_string();
    let keys = file_key_text("24h");
    world.configure(&keys.replace("DIR/billing.key", &file));
    let folder = world.path("");
    let set_mode = || {
        let mode = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(&folder, mode).unwrap();
    };
    let mode = || folder.metadata().unwrap().permissions().mode() & 0o7777;
    set_mode();
    let log = text(&world.run(&["once"]).stderr);
    assert!(!log.contains("rekeyd's own"), "{log}");
    assert_eq!(mode(), 0o750);
    let checked = world.ok(&["check"]);
    assert!(
        checked.contains("the folder of the ledger (mode 0750)"),
        "{checked}"
    );
    let path = folder.display().to_string();
    world.set_env("STATE_DIRECTORY", path.trim_end_matches('/'));
    for is_said in [true, false] {
        let log = text(&world.run(&["once"]).stderr);
        let said = log.contains("changed its mode from 0750 to 0700");
        assert_eq!(said, is_said, "{log}");
        assert_eq!(mode(), 0o700);
    }
    assert!(!world.ok(&["check"]).contains("the folder of the ledger"));
    // Consumers come through it to the file of a sink.
    world.configure(&keys);
    set_mode();
    world.ok(&["once"]);
    assert_eq!(mode(), 0o750);
}
