//! The files of the ledger, beside other users and beside their owner.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use tempfile::TempDir;

use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, text, write_ledger};
use crate::users::{DAEMON, LOOKER, OTHER, SOCKET_GROUP, SharedHost, run_as};

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

/// Makes a ledger of root's and an environment of a user who puts a link to its folder in the
/// place of the one with his own ledger.
fn lead_ledger_to_root() -> (UnprivilegedEnv, TempDir) {
    let mut env = TestEnv::start(&[]);
    env.configure(&file_key_text("24h"));
    env.keep_configuration_apart();
    let roots = tempfile::tempdir().unwrap();
    let name_ledger = |ledger: &Path| {
        let config = fs::read_to_string(env.config_path()).unwrap();
        let lines = config
            .lines()
            .map(|line| match line.contains("ledger.db\"") {
                true => format!("path = {ledger:?}\n"),
                false => format!("{line}\n"),
            });
        fs::write(env.config_path(), lines.collect::<String>()).unwrap();
    };
    name_ledger(&roots.path().join("ledger.db"));
    env.ok(&["once"]);
    name_ledger(&env.path("acme/ledger.db"));
    let bound = UnprivilegedEnv::new(env, &[]);
    let owner = bound.env.path("").metadata().unwrap().uid();
    assert_ne!(owner, 0);
    symlink(roots.path(), bound.env.path("acme")).unwrap();
    lchown(bound.env.path("acme"), Some(owner), None).unwrap();
    (bound, roots)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A link in the place of the ledger's folder makes no command of root's work as root.
pub fn linked_folder_leads_root_to_no_other_ledger() {
    let (bound, roots) = lead_ledger_to_root();
    let before = names_in(roots.path());
    let (own, copies) = (bound.env.path("own"), tempfile::tempdir().unwrap());
    fs::create_dir(&own).unwrap();
    chown(
        &own,
        bound.env.path("").metadata().ok().map(|found| found.uid()),
        None,
    )
    .unwrap();
    for copy in [own.join("copy.db"), copies.path().join("copy.db")] {
        for arguments in [
            &["backup", copy.to_str().unwrap()][..],
            &["rotate", "billing"],
            &["status"],
            &["history"],
        ] {
            let refused = bound.run_as_invoker(arguments);
            let error = text(&refused.stderr);
            assert!(!refused.status.success(), "{arguments:?}: {error}");
            assert_eq!(names_in(roots.path()), before, "{arguments:?}: {error}");
        }
    }
    assert_eq!(names_in(&own), [""; 0]);
    assert_eq!(names_in(copies.path()), [""; 0]);
}

/// Makes the rotations that ended as old as those of years ago.
const AGE: &str = "UPDATE rotation SET started_at = '2022-01-01T00:00:00Z',
         revoked_at = '2022-01-02T00:00:00Z' WHERE phase = 'revoked';
     UPDATE event_log SET at = '2022-01-02T00:00:00Z'
         WHERE rotation_row IN (SELECT id FROM rotation WHERE phase = 'revoked');
     UPDATE delivery SET accepted_at = '2022-01-02T00:00:00Z' WHERE accepted_at IS NOT NULL;";

/// Root prunes the ledger of a service into a folder of that service: the service, and not
/// root, writes and reads there.
pub fn archive_in_a_folder_of_the_service_is_its_own() {
    let mut host = SharedHost::new();
    host.give_to_service();
    for arguments in [
        &["rotate", "billing"][..],
        &["rotate", "billing", "--revoke-previous-now"],
        &["once"],
    ] {
        let output = host.run_as(DAEMON, DAEMON, arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    run_as(DAEMON, DAEMON, {
        let path = host.env.path("ledger.db");
        move || {
            let ledger = write_ledger(&path);
            let triggers = rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
            ledger.set_db_config(triggers, false).unwrap();
            ledger.execute_batch(AGE).unwrap();
        }
    });
    let prune = |archive: &Path| {
        host.env.run(&[
            "ledger",
            "prune",
            "--older-than",
            "2y",
            "--archive",
            archive.to_str().unwrap(),
        ])
    };
    let roots = tempfile::tempdir().unwrap();
    let link = host.env.path("archives");
    symlink(roots.path(), &link).unwrap();
    lchown(&link, Some(DAEMON), Some(DAEMON)).unwrap();
    let refused = prune(&link.join("old.archive"));
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("permission denied"), "{error}");
    assert_eq!(names_in(roots.path()), [""; 0]);

    let archive = host.env.path("old.archive");
    let pruned = prune(&archive);
    let error = text(&pruned.stderr);
    assert!(pruned.status.success(), "{error}");
    let printed = text(&pruned.stdout);
    assert!(printed.contains("pruned 1 rotation"), "{printed}{error}");
    let found = archive.metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (DAEMON, 0o600));
}

/// Another user puts a link in the place of a folder that root copies a ledger into.
pub fn linked_target_leads_root_to_no_other_folder() {
    let host = SharedHost::new();
    host.env.ok(&["once"]);
    let (theirs, roots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    chown(theirs.path(), Some(OTHER), Some(OTHER)).unwrap();
    let link = theirs.path().join("copies");
    symlink(roots.path(), &link).unwrap();
    lchown(&link, Some(OTHER), Some(OTHER)).unwrap();
    let refused = host
        .env
        .run(&["backup", link.join("copy.db").to_str().unwrap()]);
    let expected = format!("copies is a symbolic link of uid {OTHER}");
    let error = text(&refused.stderr);
    assert!(error.contains(&expected), "{error}");
    assert_eq!(names_in(roots.path()), [""; 0]);
    // Into a folder of his, the copy is written without a look at its path again.
    let copy = theirs.path().join("copy.db");
    host.env.ok(&["backup", copy.to_str().unwrap()]);
    let found = copy.metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
    let shown = host
        .env
        .ok(&["history", "--ledger", copy.to_str().unwrap()]);
    assert!(shown.contains("billing"), "{shown}");
    // Nor does a demo or a sandbox write where somebody else leads it.
    for arguments in [
        &["demo", "--dir", link.join("demo").to_str().unwrap()][..],
        &["demo", "--dir", theirs.path().to_str().unwrap()],
        &[
            "sandbox",
            "--listen",
            "127.0.0.1:0",
            "--state",
            link.join("state").to_str().unwrap(),
        ],
    ] {
        let refused = host.env.run(arguments);
        let error = text(&refused.stderr);
        assert!(!refused.status.success(), "{arguments:?}: {error}");
        assert!(
            error.contains(&format!("uid {OTHER}")),
            "{arguments:?}: {error}"
        );
    }
    assert_eq!(names_in(roots.path()), [""; 0]);
    assert_eq!(names_in(theirs.path()), ["copies", "copy.db"]);
}

/// A link in the place of the ledger leads to a database of root's, beside which SQLite would
/// make files.
pub fn linked_ledger_leaves_no_file_beside_a_database_of_roots() {
    let (bound, roots) = lead_ledger_to_root();
    let owner = bound.env.path("").metadata().unwrap().uid();
    let acme = bound.env.path("acme");
    fs::remove_file(&acme).unwrap();
    fs::create_dir(&acme).unwrap();
    chown(&acme, Some(owner), None).unwrap();
    symlink(roots.path().join("ledger.db"), acme.join("ledger.db")).unwrap();
    lchown(acme.join("ledger.db"), Some(owner), None).unwrap();
    let before = names_in(roots.path());
    for command in ["status", "history", "schedule", "check"] {
        bound.run_as_invoker(&[command]);
        assert_eq!(names_in(roots.path()), before, "{command}");
    }
    let shown = text(&bound.run_as_invoker(&["history"]).stderr);
    assert!(shown.contains("ledger.db is a symbolic link of"), "{shown}");
}
