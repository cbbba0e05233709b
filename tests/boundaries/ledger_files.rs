//! The files of the ledger, beside other users and beside their owner.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};

use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, text};
use crate::users::{LOOKER, OTHER, SOCKET_GROUP, SharedHost, run_as};

/// Whoever can open a file can lock it.
pub fn looker_keeps_no_writer_out() {
    let host = SharedHost::new();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    for name in [
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "ledger.db.lock",
    ] {
        let path = host.env.path(name);
        assert!(path.exists(), "{name}");
        let opened = run_as(LOOKER, SOCKET_GROUP, move || File::open(path));
        assert!(opened.is_err(), "{name}");
    }
    let looked = host.run_as(LOOKER, SOCKET_GROUP, &["status"]);
    assert!(looked.status.success());
    assert_eq!(host.env.ok(&["rotate", "billing"]), "billing: rotated\n");
}

/// As in a container, whose folders belong to root: `check` finds what `run` refuses.
pub fn user_of_a_folder_of_roots_learns_that_others_can_write_it() {
    let host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    fs::write(
        host.env.config_path(),
        config.replace("/ledger.db", "/open/ledger.db"),
    )
    .unwrap();
    fs::create_dir(host.env.path("open")).unwrap();
    fs::set_permissions(host.env.path("open"), Permissions::from_mode(0o777)).unwrap();
    for name in ["", "admin-key"] {
        chown(host.env.path(name), Some(OTHER), Some(OTHER)).unwrap();
    }
    for command in ["check", "once"] {
        let refused = host.run_as(OTHER, OTHER, &[command]);
        let printed = text(&refused.stderr);
        assert!(!refused.status.success(), "{command}: {printed}");
        assert!(
            printed.contains("open is world-writable"),
            "{command}: {printed}"
        );
    }
}

/// The owner puts links in the place of the ledger's files, and root runs commands.
pub fn owner_leads_root_to_no_other_file() {
    for name in [
        "ledger.db",
        "ledger.db.lock",
        "ledger.db-wal",
        "ledger.db.checkpoint",
    ] {
        let mut env = TestEnv::start(&[]);
        env.configure(&file_key_text("24h"));
        env.keep_configuration_apart();
        let bound = UnprivilegedEnv::new(env, &[]);
        let own = tempfile::tempdir().unwrap();
        let precious = own.path().join("precious");
        fs::write(&precious, "precious\n").unwrap();
        symlink(&precious, bound.env.path(name)).unwrap();
        let owner = bound.env.path("").metadata().unwrap().uid();
        assert_ne!(owner, 0);
        lchown(bound.env.path(name), Some(owner), None).unwrap();
        let copy = own.path().join("copy.db");
        for arguments in [
            &["rotate", "billing"][..],
            &["once"],
            &["adopt", "billing", "key_1"],
            &["backup", copy.to_str().unwrap()],
            &["restore", precious.to_str().unwrap()],
        ] {
            let refused = bound.run_as_invoker(arguments);
            assert!(!refused.status.success(), "{name} {arguments:?}");
            assert_eq!(
                fs::read_to_string(&precious).unwrap(),
                "precious\n",
                "{name} {arguments:?}"
            );
        }
    }
}
