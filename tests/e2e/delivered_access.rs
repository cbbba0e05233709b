//! Files stay as they were delivered: owner, group and mode of a delivered file, and of rekeyd's
//! own files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, free_address, get, read_ledger, text, write};

/// A channel that appends each notification to a file.
const NOTIFY: &str = "[[notify]]\ntype = \"command\"\nargv = [\"DIR/notify\"]\n";

/// A user and a group that are none of the process's.
const STRANGER: u32 = 4_711;

/// A group without members, as `fsGroup` in a container.
const FS_GROUP: u32 = 4_718;

/// How long a daemon may take until it has compared its ledger with the provider.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns an environment with a delivered file.
fn start(options: &str) -> TestEnv {
    let world = TestEnv::start(&[]);
    write(
        &world.path("notify"),
        "#!/bin/sh\ncat >> \"$0.log\"\necho >> \"$0.log\"\n",
    );
    set_mode(&world.path("notify"), 0o700);
    world.configure(&format!("{}{options}{NOTIFY}", file_key_text("24h")));
    world.ok(&["once"]);
    world
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn sent(world: &TestEnv) -> String {
    fs::read_to_string(world.path("notify.log")).unwrap_or_default()
}

fn log_of_once(world: &TestEnv) -> String {
    text(&world.run(&["once"]).stderr)
}

#[test]
fn delivered_file_that_was_opened_is_narrowed_and_reported_once() {
    for (options, delivered, opened) in [
        ("", 0o600, 0o666),
        ("mode = \"0640\"\n", 0o640, 0o666),
        ("", 0o600, 0o4644),
    ] {
        let world = start(options);
        let file = world.path("billing.key");
        let (content, lives) = (fs::read_to_string(&file).unwrap(), world.live_ids());
        assert_eq!(mode(&file), delivered);
        set_mode(&file, opened);
        let change = format!("(mode {opened:04o}) and is narrowed to {delivered:04o}");
        for is_said in [true, false] {
            let log = log_of_once(&world);
            assert_eq!(log.contains(&change), is_said, "{log}");
            assert_eq!(mode(&file), delivered);
        }
        let ledger = read_ledger(&world.path("ledger.db"));
        let sql = "SELECT count(*) FROM events WHERE event = 'file-narrowed'";
        let events: i64 = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(events, 1);
        drop(ledger);
        let sent = sent(&world);
        assert_eq!(sent.matches("\"file-exposed\"").count(), 1, "{sent}");
        assert!(sent.contains("run `rekeyd rotate billing`"), "{sent}");
        // The secret is the same: a person decides whether it is replaced.
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
        assert_eq!(world.live_ids(), lives);
    }
}

#[test]
fn file_with_another_name_or_kind_keeps_its_mode() {
    let world = start("");
    let (file, other) = (world.path("billing.key"), world.path("other"));
    fs::hard_link(&file, &other).unwrap();
    set_mode(&file, 0o666);
    for is_said in [true, false] {
        let log = log_of_once(&world);
        assert_eq!(log.contains("has mode 0666"), is_said, "{log}");
        assert_eq!(mode(&file), 0o666);
    }
    let status = world.ok(&["status", "--offline"]);
    assert!(status.contains("because it has another name"), "{status}");
    fs::remove_file(&other).unwrap();
    let log = log_of_once(&world);
    assert!(log.contains("is narrowed to 0600"), "{log}");
    let status = world.ok(&["status", "--offline"]);
    assert!(!status.contains("another name"), "{status}");
    let sent = sent(&world);
    assert_eq!(sent.matches("\"file-access\"").count(), 2, "{sent}");
    // A link is no file of a delivery: another one replaces it.
    let target = world.path("target");
    fs::rename(&file, &target).unwrap();
    set_mode(&target, 0o666);
    std::os::unix::fs::symlink(&target, &file).unwrap();
    log_of_once(&world);
    assert_eq!(mode(&target), 0o666);
}

#[test]
fn readers_who_lost_the_file_are_reported() {
    let world = start("mode = \"0640\"\n");
    let file = world.path("billing.key");
    set_mode(&file, 0o600);
    let log = log_of_once(&world);
    assert!(log.contains("has mode 0600 instead of 0640"), "{log}");
    assert_eq!(mode(&file), 0o600);
    set_mode(&file, 0o640);
    let log = log_of_once(&world);
    assert!(log.contains("of its delivery again"), "{log}");
}

/// Who gives the file away gives nobody the next secret, and a create is not sent for it.
#[test]
fn another_owner_or_group_gets_no_next_secret() {
    for (owner, group, option, problem, command) in [
        (
            Some(STRANGER),
            None,
            format!("owner = \"{STRANGER}\""),
            "belongs to uid 4711, who would get each new secret, but the last delivery",
            "chown",
        ),
        (
            None,
            Some(STRANGER),
            format!("group = \"{STRANGER}\""),
            "belongs to the group gid 4711, but the last delivery left it to the group",
            "chgrp",
        ),
    ] {
        let world = start("");
        let file = world.path("billing.key");
        let before = file.metadata().unwrap();
        let lives = world.live_ids();
        if chown(&file, owner, group).is_err() {
            eprintln!("this test is not complete: only root gives files away");
            return;
        }
        // It is noticed at once, and not only when the next key is due.
        let log = log_of_once(&world);
        assert!(log.contains(problem), "{log}");
        let status = world.ok(&["status", "--offline"]);
        assert!(status.contains(problem), "{status}");
        for arguments in [&["check"][..], &["rotate", "billing"]] {
            let output = world.run(arguments);
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
            for expected in [problem, &option, &format!("run `{command} ")] {
                assert!(printed.contains(expected), "{arguments:?}: {printed}");
            }
        }
        assert_eq!(world.live_ids(), lives);
        // Both remedies settle it.
        chown(&file, Some(before.uid()), Some(before.gid())).unwrap();
        world.ok(&["check"]);
        world.ok(&["once"]);
        chown(&file, owner, group).unwrap();
        world.configure(&format!("{}{option}\n{NOTIFY}", file_key_text("24h")));
        world.ok(&["check"]);
        world.ok(&["rotate", "billing"]);
        let after = file.metadata().unwrap();
        assert_eq!(after.uid(), owner.unwrap_or(before.uid()));
        assert_eq!(after.gid(), group.unwrap_or(before.gid()));
        let sent = sent(&world);
        assert_eq!(sent.matches("\"file-access\"").count(), 2, "{sent}");
    }
}

/// A folder with the bit gives its group to each new file, whatever the group of the old one.
#[test]
fn group_of_a_setgid_folder_needs_no_option() {
    let world = start("mode = \"0640\"\n");
    let file = world.path("billing.key");
    if chown(world.path(""), None, Some(STRANGER)).is_err() {
        eprintln!("this test is not complete: only root gives files away");
        return;
    }
    set_mode(&world.path(""), 0o2750);
    chown(&file, None, Some(STRANGER)).unwrap();
    let log = log_of_once(&world);
    assert!(!log.contains("belongs to the group"), "{log}");
    world.ok(&["rotate", "billing"]);
    assert_eq!(file.metadata().unwrap().gid(), STRANGER);
    world.ok(&["check"]);
}

/// Without a record, the first check records what it finds, and reports what is wider.
#[test]
fn file_of_an_earlier_version_is_recorded_and_reported() {
    let world = start("");
    let file = world.path("billing.key");
    set_mode(&file, 0o644);
    let forget = "UPDATE delivery SET file_owner = NULL, file_group = NULL, file_mode = NULL";
    let ledger = crate::support::write_ledger(&world.path("ledger.db"));
    ledger.execute(forget, []).unwrap();
    drop(ledger);
    let log = log_of_once(&world);
    assert!(log.contains("recorded owner, group and mode"), "{log}");
    assert!(
        log.contains("has mode 0644, and a new file gets 0600"),
        "{log}"
    );
    assert_eq!(mode(&file), 0o644);
    let log = log_of_once(&world);
    assert!(!log.contains("0644"), "{log}");
    let status = world.ok(&["status", "--offline"]);
    assert!(status.contains("has mode 0644"), "{status}");
    // The option says what the file may have.
    world.configure(&format!(
        "{}mode = \"0600\"\n{NOTIFY}",
        file_key_text("24h")
    ));
    log_of_once(&world);
    assert_eq!(mode(&file), 0o600);
    let status = world.ok(&["status", "--offline"]);
    assert!(!status.contains("0644"), "{status}");
}

/// What differs holds nothing up.
#[test]
fn daemon_stays_ready_beside_a_file_that_differs() {
    let world = start("mode = \"0640\"\n");
    let address = free_address();
    let keys = file_key_text("24h");
    let metrics = format!("[metrics]\nlisten = \"{address}\"\n");
    world.configure(&format!("{metrics}{keys}mode = \"0640\"\n"));
    let file = world.path("billing.key");
    for (mode, sample) in [
        (0o600, "rekeyd_file_access_differs{key=\"billing\"} 1"),
        (0o644, "rekeyd_files_exposed_total{key=\"billing\"} 1"),
    ] {
        set_mode(&file, mode);
        let mut daemon = Daemon::start(&world);
        daemon.wait_for(if mode == 0o600 {
            "instead of 0640"
        } else {
            "is narrowed to 0640"
        });
        let started = Instant::now();
        while get(&address, "/readyz").0 != 200 {
            assert!(started.elapsed() < PATIENCE, "not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        let page = get(&address, "/metrics").2;
        assert!(page.contains(sample), "{page}");
        daemon.stop();
    }
}

/// Kubernetes gives the files of a volume to `fsGroup` at each start of a pod.
#[test]
fn own_files_that_fs_group_opened_are_narrowed_and_read() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let bound = UnprivilegedEnv::new(world, &[]);
    if !bound.can_choose_groups() {
        eprintln!("this test is not complete: only root chooses its groups");
        return;
    }
    let once = || {
        let output = bound.run_in_group(FS_GROUP, &["once"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let folder = bound.env.path("");
    // The program and the configuration are on no volume that can be written.
    let is_elsewhere = |path: &Path| path.ends_with("rekeyd") || path.ends_with("config.toml");
    let widen = || {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !is_elsewhere(&path) {
                let before = mode(&path);
                chown(&path, None, Some(FS_GROUP)).unwrap();
                set_mode(&path, before | 0o660);
            }
        }
        chown(&folder, None, Some(FS_GROUP)).unwrap();
        set_mode(&folder, 0o2770);
    };
    widen();
    once();
    let own = [
        ("admin-key", 0o640),
        ("billing.key", 0o600),
        ("ledger.db", 0o600),
        ("ledger.db-wal", 0o600),
        ("ledger.db.lock", 0o600),
        ("ledger.db.checkpoint", 0o600),
    ];
    widen();
    for is_said in [true, false] {
        let log = once();
        assert_eq!(
            log.matches("fsGroup").count(),
            if is_said { 3 } else { 0 },
            "{log}"
        );
        assert!(!log.contains("WARN"), "{log}");
        // The folder may hold files of others.
        assert!(
            log.contains("the folder of the ledger (mode 2770)"),
            "{log}"
        );
        assert_eq!(mode(&folder), 0o2770);
        for (name, expected) in own {
            assert_eq!(mode(&bound.env.path(name)), expected, "{name}");
        }
    }
    assert_eq!(bound.env.live_ids().len(), 1);
}

/// The admin key that everybody could read is narrowed before it is read, with a warning.
#[test]
fn own_admin_key_that_was_opened_is_narrowed_with_a_warning() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let key = world.path("admin-key");
    set_mode(&key, 0o666);
    let checked = world.ok(&["check"]);
    assert!(
        checked.contains("rekeyd narrows it to 0640 before it reads it"),
        "{checked}"
    );
    assert_eq!(mode(&key), 0o666, "a check changes nothing");
    let log = log_of_once(&world);
    let change = "was open to other users (mode 0666), and is narrowed to 0640";
    assert!(log.contains(change), "{log}");
    assert_eq!(mode(&key), 0o640);
    assert_eq!(world.live_ids().len(), 1);
    let log = log_of_once(&world);
    assert!(!log.contains("narrowed"), "{log}");
    // One with another name may not be rekeyd's alone.
    fs::hard_link(&key, world.path("linked")).unwrap();
    set_mode(&key, 0o644);
    let output = world.run(&["rotate", "billing"]);
    assert!(!output.status.success());
    assert_eq!(mode(&key), 0o644);
}
