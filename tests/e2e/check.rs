//! Problems and who can repair them: exit codes, and the files that are left.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use crate::support::host::{has_root, report_unsupported};
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{ChildGuard, TestEnv, has_machine_id, text, write, write_ledger};

const KEY: &str = "[key.billing]\nschedule = \"@monthly\"\n[[key.billing.sink]]\n\
    type = \"file\"\npath = \"DIR/billing.key\"\n";

/// Returns the files of an environment, by name.
fn files(world: &TestEnv) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns the output of `check`, which must exit with `code`.
fn check(world: &TestEnv, code: i32) -> String {
    let output = world.run(&["check"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// Waits until the daemon has started and logged each of `expected`.
fn assert_daemon_starts_and_logs(world: &TestEnv, expected: &[&str]) {
    let mut child = world
        .command(&["run"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let _running = ChildGuard(child);
    let mut log = String::new();
    for line in lines {
        let line = line.unwrap();
        log.push_str(&line);
        log.push('\n');
        let is_logged = |text: &str| log.contains(text);
        if is_logged(" started") && expected.iter().copied().all(is_logged) {
            return;
        }
    }
    panic!("it ended without {expected:?}:\n{log}");
}

#[test]
fn configuration_error_exits_with_78_and_creates_nothing() {
    let world = TestEnv::start(&[]);
    world.configure(&format!(
        "{}[key.Other]\nschedule = \"@reboot\"\n",
        KEY.replace("path", "paht")
    ));
    let before = files(&world);
    let stderr = check(&world, 78);
    for expected in [
        "key.billing.sink[0]: missing option `path`",
        "key.billing.sink[0].paht: unknown option; did you mean `path`?",
        "key.Other: not a valid name for a key",
        "key.Other.schedule: not a valid cron expression",
        "key.Other: the key has no sink",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    for command in [
        &["run"][..],
        &["once"],
        &["rotate", "--all"],
        &["status"],
        &["history"],
    ] {
        let output = world.run(command);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        assert_eq!(text(&output.stderr), stderr, "{command:?}");
    }
    assert_eq!(files(&world), before);
}

#[test]
fn missing_or_exposed_credential_file_is_reported_with_a_fix() {
    let world = TestEnv::start(&[]);
    world.configure(KEY);
    let file = world.path("admin-key");
    let displayed = file.display();
    let at = format!(
        "error: {}: provider.credential-file: ",
        world.path("config.toml").display()
    );

    // Only a file with one name is narrowed.
    let other = world.path("admin-key-too");
    fs::hard_link(&file, &other).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let open = format!(
        "{displayed} has mode 0644: other users can read or write it; hint: chmod 0640 {displayed}"
    );
    assert_eq!(check(&world, 1), format!("{at}{open}\n"));
    assert_daemon_starts_and_logs(&world, &[&format!("provider.credential-file: {open}")]);

    fs::remove_file(&file).unwrap();
    let user = rustix::process::geteuid().as_raw();
    let name = rekeyd::platform::users::user_name(user).unwrap_or_else(|| user.to_string());
    let owner = if user == 0 {
        String::new()
    } else {
        format!(" -o {name}")
    };
    let missing = format!(
        "{displayed} does not exist; hint: enter the secret into the command `install -m 0600{owner} \
         /dev/stdin {displayed}`"
    );
    assert_eq!(check(&world, 1), format!("{at}{missing}\n"));
    assert_daemon_starts_and_logs(&world, &[&format!("provider.credential-file: {missing}")]);

    // What the file holds instead is named, and not taken for a secret itself.
    for (content, expected) in [
        ("sk-proj-Zq7w8e9r0t1", "a project's key (sk-proj-…)"),
        (
            "sk-svcacct-Zq7w8e9r0t1",
            "a service account's key (sk-svcacct-…)",
        ),
        (
            "whsec_Zq7w8e9r0t1",
            "a signing secret of webhooks (whsec_…)",
        ),
    ] {
        write(&file, content);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let found = check(&world, 1);
        assert!(found.contains(expected), "{found}");
        assert!(!found.contains("Zq7"), "{found}");
    }

    write(&file, &world.admin_key);
    world.ok(&["check"]);
}

#[test]
fn configuration_without_keys_is_noted() {
    let world = TestEnv::start(&[]);
    world.configure("");
    let printed = world.ok(&["check"]);
    assert!(printed.contains("no problems found (0 keys)"), "{printed}");
    assert!(
        printed.contains("no keys are configured, so rekeyd rotates nothing"),
        "{printed}"
    );
}

#[test]
fn sink_host_problems_do_not_stop_the_daemon() {
    let world = TestEnv::start(&[]);
    let webhook = "[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"https://h.example/\"\n\
        signing-secret-file = \"DIR/signing\"\nbearer-token-file = \"DIR/token\"\n";
    let key = KEY.replace("DIR/billing.key", "DIR/mount/billing.key");
    world.configure(&format!("{key}{webhook}"));
    let stderr = check(&world, 1);
    // Each problem is reported once.
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    for (at, file) in [
        ("key.billing.sink.file: ", "mount"),
        ("key.billing.sink.webhook: ", "signing"),
        ("key.billing.sink.webhook: ", "token"),
    ] {
        let file = world.path(file).display().to_string();
        let expected = |line: &str| line.contains(at) && line.contains(&file);
        assert!(stderr.lines().any(expected), "{at}{file}: {stderr}");
    }
    let displayed: Vec<_> = stderr
        .lines()
        .map(|line| &line["error: ".len()..])
        .collect();
    assert_daemon_starts_and_logs(&world, &displayed);
}

#[test]
fn check_reports_an_unusable_ledger_as_run_does() {
    let world = TestEnv::start(&[]);
    world.configure(KEY);
    let configuration = fs::read_to_string(world.path("config.toml")).unwrap();
    let at = |path: &str| {
        let elsewhere = configuration.replace("/ledger.db", &format!("/{path}"));
        write(&world.path("config.toml"), &elsewhere);
        world.path(path)
    };
    let assert_reported = |code: i32, expected: &str| {
        let output = check(&world, code);
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains("config.toml: ledger.path: "), "{output}");
        assert!(output.contains(expected), "{expected}: {output}");
        // The daemon reports the same.
        let output = world.run(&["run"]);
        assert_eq!(output.status.code(), Some(code), "{expected}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    };

    at("nowhere/ledger.db");
    let nowhere = world.path("nowhere");
    let missing = format!(
        "folder {} does not exist; hint: mount its disk, or create it",
        nowhere.display()
    );
    assert_reported(1, &missing);
    fs::create_dir_all(world.path("nowhere/ledger.db")).unwrap();
    assert_reported(1, "it is a folder; hint: use the path of a file");
    write(
        &at("text.db"),
        "no database at all, but long enough to be one\n",
    );
    assert_reported(1, "not an SQLite database");

    // No file is created, and a usable ledger is no problem.
    let ledger = at("new.db");
    let before = files(&world);
    world.ok(&["check"]);
    assert_eq!(files(&world), before);
    world.ok(&["once"]);
    world.ok(&["check"]);
    // The files beside the ledger are missing, as after a backup was restored.
    let set = |sql: &str| {
        let connection = write_ledger(&ledger);
        connection.execute_batch(sql).unwrap();
    };
    set("UPDATE scope SET organization = 'org-other'");
    assert_reported(78, "(organization org-other)");
    set("UPDATE scope SET organization = ''");
    set("UPDATE ledger_identity SET host = 'another'");
    let before = files(&world);
    assert!(!before.contains(&"new.db-wal".to_owned()), "{before:?}");
    if has_machine_id() {
        let another = check(&world, 78);
        assert!(another.contains("on another machine"), "{another}");
    } else {
        world.ok(&["check"]);
    }
    assert_eq!(files(&world), before);
    set("UPDATE ledger_identity SET host = NULL; PRAGMA user_version = 999");
    assert_reported(1, "has version 999");
    set("PRAGMA user_version = 0");
    assert_reported(
        1,
        "it has rekeyd's tables, but the user_version or application_id",
    );
    set(
        "DROP VIEW IF EXISTS history; DROP VIEW IF EXISTS events; PRAGMA application_id = 7;
         PRAGMA foreign_keys = OFF; ALTER TABLE rotation RENAME TO turn",
    );
    assert_reported(1, "it is the database of another program");

    let link = at("link.db");
    std::os::unix::fs::symlink(world.path("missing/ledger.db"), link).unwrap();
    assert_reported(1, "cannot open the ledger");
}

/// What is in the place of a file that rekeyd alone makes is named by `check` as by `once`, with
/// the same advice.
#[test]
fn foreign_file_beside_the_ledger_is_reported_as_at_a_start() {
    let world = TestEnv::start(&[]);
    world.configure(KEY);
    for name in ["ledger.db.lock", "ledger.db.checkpoint"] {
        for kind in ["link", "folder", "socket"] {
            let place = world.path(name);
            match kind {
                "link" => std::os::unix::fs::symlink(world.path("elsewhere"), &place).unwrap(),
                "folder" => fs::create_dir(&place).unwrap(),
                _ => drop(std::os::unix::net::UnixListener::bind(&place).unwrap()),
            }
            let reasons = [&["check"][..], &["once"]].map(|command| {
                let output = world.run(command);
                assert_eq!(output.status.code(), Some(1), "{name} {kind} {command:?}");
                let message = text(&output.stderr);
                let at = message.find(name).unwrap_or_else(|| panic!("{message}"));
                assert!(message.contains("hint: remove it, so that"), "{message}");
                assert_eq!(message.matches("hint: ").count(), 1, "{message}");
                message[at..].trim_end().to_owned()
            });
            assert_eq!(reasons[0], reasons[1], "{name} {kind}");
            if kind == "folder" {
                fs::remove_dir(&place).unwrap();
            } else {
                fs::remove_file(&place).unwrap();
            }
            assert!(!world.path("elsewhere").exists());
        }
    }
    world.ok(&["check"]);
    world.ok(&["once"]);
}

/// A ledger of another user, which only that user's process may write: `check` says so where
/// it does not work as that user itself.
#[test]
fn ledger_of_another_user_is_refused_by_check_as_by_once() {
    if !has_root() {
        return;
    }
    for has_ledger in [false, true] {
        let world = TestEnv::start(&[]);
        world.configure(KEY);
        let config = fs::read_to_string(world.config_path()).unwrap();
        let ledger = world.path("ledger.db").display().to_string();
        let moved = world.path("folder/ledger.db").display().to_string();
        assert!(config.contains(&ledger), "{config}");
        write(&world.config_path(), &config.replace(&ledger, &moved));
        fs::create_dir(world.path("folder")).unwrap();
        if has_ledger {
            world.ok(&["once"]);
            std::os::unix::fs::chown(&moved, Some(4_711), Some(4_711)).unwrap();
        }
        std::os::unix::fs::chown(world.path("folder"), Some(4_711), Some(4_711)).unwrap();
        let reasons = [&["check", "--as-invoker"][..], &["once"]].map(|command| {
            let output = world.run(command);
            assert_eq!(output.status.code(), Some(1), "{has_ledger} {command:?}");
            let message = text(&output.stderr);
            let at = message
                .find("the ledger ")
                .unwrap_or_else(|| panic!("{message}"));
            let reason = message[at..].lines().next().unwrap();
            reason.split("; hint: ").next().unwrap().to_owned()
        });
        assert_eq!(reasons[0], reasons[1], "{has_ledger}");
        assert!(reasons[0].contains("belongs to user 4711"), "{reasons:?}");
    }
}

#[test]
fn unreachable_provider_is_a_host_problem() {
    let mut world = TestEnv::start(&[]);
    world.configure(KEY);
    world.ok(&["check", "--online"]);
    world.stop_sandbox();
    world.ok(&["check"]);
    let output = world.run(&["check", "--online"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("config.toml: provider: "), "{stderr}");
}

/// A user who checks leaves no file beside the ledger, neither in an ordered state nor after
/// a kill: the service could not use it.
#[test]
fn check_creates_no_file_beside_the_ledger() {
    let mut world = TestEnv::start(&[]);
    world.configure(KEY);
    world.keep_configuration_apart();
    let bound = UnprivilegedEnv::new(world, &[]);
    let ran = bound.run(&["once"]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let world = &bound.env;
    let log = world.path("ledger.db-wal");
    for state in ["as it was left", "without a log", "with an empty log"] {
        match state {
            "without a log" => drop(fs::remove_file(&log)),
            "with an empty log" => {
                fs::write(&log, "").unwrap();
                let owner = world.path("ledger.db").metadata().unwrap();
                std::os::unix::fs::chown(&log, Some(owner.uid()), Some(owner.gid())).unwrap();
            }
            _ => {}
        }
        let before = files(world);
        for check in [
            &["check"][..],
            &["check", "--online"],
            &["check", "--online", "--as-invoker"],
        ] {
            // The user of the tests, who may be root, and the owner.
            world.run(check);
            assert_eq!(files(world), before, "{check:?} {state}");
            bound.run(check);
            assert_eq!(files(world), before, "{check:?} {state}, the owner");
        }
    }
    assert!(bound.run(&["once"]).status.success());
}

/// An admin key that the provider accepts may be another organization's, and one that it
/// refuses is named with its file.
#[test]
fn admin_key_that_serves_no_rotation_is_a_host_problem() {
    let mut world = TestEnv::start(&[]);
    world.configure(KEY);
    world.ok(&["once"]);
    world.ok(&["check", "--online"]);
    let check = |world: &TestEnv| {
        let output = world.run(&["check", "--online"]);
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    // The same admin key in a sandbox that has other credentials.
    world.stop_sandbox();
    fs::remove_file(world.path("sandbox.json")).unwrap();
    world.restart_sandbox(&[]);
    let foreign = check(&world);
    assert!(
        foreign.contains("belongs to another organization"),
        "{foreign}"
    );
    write(&world.path("admin-key"), "sk-admin-of-nobody-at-all-4711\n");
    let refused = check(&world);
    assert!(
        refused.contains(&format!(
            "; hint: store a valid admin key in {}",
            world.path("admin-key").display()
        )),
        "{refused}"
    );
}

/// systemd protects its credentials, and so do other service managers.
#[test]
fn credentials_directory_is_exempt_from_permission_checks() {
    let mut world = TestEnv::start(&[]);
    world.configure(
        "[key.billing]\nschedule = \"@monthly\"\n[[key.billing.sink]]\ntype = \"webhook\"\n\
         url = \"http://127.0.0.1:9/\"\nowner = \"OWN-USER\"\n\
         signing-secret-file = \"DIR/given/hook\"\n",
    );
    let given = world.path("given");
    fs::create_dir(&given).unwrap();
    let secret = given.join("hook");
    write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    fs::set_permissions(&secret, Permissions::from_mode(0o444)).unwrap();
    // With another name it is not narrowed.
    fs::hard_link(&secret, given.join("too")).unwrap();
    assert!(check(&world, 1).contains("other users can read"));
    world.set_env("CREDENTIALS_DIRECTORY", given.to_str().unwrap());
    check(&world, 0);
}

/// Returns what `check` prints without a problem, in one line.
fn checked(world: &TestEnv) -> String {
    let printed = world.ok(&["check"]);
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn readers_by_the_default_list_of_a_folder_are_named() {
    let world = TestEnv::start(&[]);
    let folder = world.path("shared");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let keys = KEY.replace("DIR/billing.key", "DIR/shared/billing.key");
    world.configure(&format!("{keys}mode = \"0640\"\n"));
    assert!(!checked(&world).contains("access control list"));
    // The owner, user 4712, the owning group, the mask and others.
    let entries = [(1_u16, 6_u16, u32::MAX), (2, 4, 4_712), (4, 4, u32::MAX)];
    let entries = entries
        .into_iter()
        .chain([(0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]);
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_default";
    let set = rustix::fs::setxattr(&folder, name, &list, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        report_unsupported("this file system has no access control lists");
        return;
    }
    let printed = checked(&world);
    let folder = folder.display();
    let expected = format!(
        "note: user 4712 can read {folder}/billing.key by the default access control list of \
         {folder}; hint: `getfacl {folder}` shows it"
    );
    assert!(printed.contains(&expected), "{printed}");
}

#[test]
fn program_that_cannot_read_its_file_is_named() {
    let world = TestEnv::start(&[]);
    let file = world.path("billing.key");
    let keys = format!("{KEY}on-change = [\"/bin/true\"]\n");
    world.configure(&keys);
    let expected = format!(
        "key.billing.sink.file: /bin/true runs after the change of {}, which is in",
        file.display()
    );
    let printed = checked(&world);
    assert!(printed.contains(&expected), "{printed}");
    // What others can enter is not hidden as a whole.
    fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
    let printed = checked(&world);
    assert!(!printed.contains("runs after the change"), "{printed}");
}
