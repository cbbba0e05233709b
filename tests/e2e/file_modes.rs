//! The modes of new files are those of the documentation, whatever the umask is.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{TestEnv, file_key_text, text};

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
