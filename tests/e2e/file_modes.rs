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
            ("ledger.db", 0o640),
            ("ledger.db.lock", 0o640),
            ("billing.key", 0o600),
        ] {
            let mode = world.path(name).metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, expected, "{name} with umask {umask}: {mode:o}");
        }
    }
}
