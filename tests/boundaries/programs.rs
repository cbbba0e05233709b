//! What a program that rekeyd runs can reach.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::host::report_missing;
use crate::support::{TestEnv, file_key_text, text, write};
use crate::users::{LOOKER, OTHER, SharedHost, run_as};

/// Tries to read the ledger, its snapshot, the cookie and the admin key, to put the control
/// socket elsewhere, and to command the daemon.
const PROGRAM: &str = "cat >/dev/null; folder=$1; \
    for file in ledger.db ledger.db.cookie admin-key shown/ledger.db; do \
    cat \"$folder/$file\" >/dev/null 2>&1 && echo \"read $file\" >>\"$folder/out/done\"; done; \
    mv \"$folder/run/control.sock\" \"$folder/out/moved\" 2>/dev/null && \
    echo moved >>\"$folder/out/done\"; \
    rm -f \"$folder/run/control.sock\" 2>/dev/null && echo removed >>\"$folder/out/done\"; \
    \"$folder/rekeyd\" --config \"$folder/config.toml\" pause billing >\"$folder/out/said\" 2>&1 && \
    echo paused >>\"$folder/out/done\"; echo tried >>\"$folder/out/done\"";

/// Opens what Landlock hides to everybody, which it does not prevent, and signals the daemon.
const OPENER: &str = "cat >/dev/null; folder=$1; \
    for file in ledger.db ledger.db.cookie ledger.db.lock admin-key; do \
    chmod 0666 \"$folder/$file\" && echo \"opened $file\" >>\"$folder/out/done\"; done; \
    kill -0 $PPID 2>/dev/null && echo signaled >>\"$folder/out/done\"; \
    echo tried >>\"$folder/out/done\"";

fn configure(env: &TestEnv, program: &str) {
    let folder = env.dir.path().display();
    let program = program
        .replace('"', "\\\"")
        .replace("DIR", &folder.to_string());
    env.configure(&format!(
        "[key.billing]\nevery = \"30d\"\nverify-interval = \"0s\"\n[[key.billing.sink]]\n\
         type = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"{program}\", \"sh\", \"{folder}\"]\n"
    ));
}

/// Starts a daemon that confines its programs.
fn start(env: &TestEnv) -> Daemon {
    fs::create_dir(env.path("out")).unwrap();
    let plain = env.command(&["run"]);
    let mut command = Command::new("setpriv");
    command
        .arg("--no-new-privs")
        .arg(plain.get_program())
        .args(plain.get_args());
    Daemon::from_command(command)
}

pub fn program_reads_no_state_and_commands_nothing() {
    let obstacle = rekeyd::platform::process::find_kernel_obstacle();
    assert!(
        obstacle.is_none(),
        "this kernel cannot confine: {obstacle:?}"
    );
    let host = SharedHost::new();
    configure(&host.env, PROGRAM);
    // Nothing else is hidden in this folder.
    fs::create_dir(host.env.path("run")).unwrap();
    fs::set_permissions(host.env.path("run"), Permissions::from_mode(0o755)).unwrap();
    // The last snapshot of an earlier daemon.
    fs::create_dir(host.env.path("shown")).unwrap();
    fs::set_permissions(host.env.path("shown"), Permissions::from_mode(0o750)).unwrap();
    fs::write(host.env.path("shown/ledger.db"), "x").unwrap();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let named = |file| format!("{:?}", host.env.path(file));
    let snapshot = host.env.path("shown/ledger.db");
    let ledger = format!("[ledger]\nsnapshot = {snapshot:?}\n");
    let config = config
        .replace("[ledger]\n", &ledger)
        .replace(&named("control.sock"), &named("run/control.sock"));
    fs::write(host.env.config_path(), config).unwrap();
    let mut daemon = start(&host.env);
    daemon.wait_for("is the current credential key=billing");
    let done = fs::read_to_string(host.env.path("out/done")).unwrap();
    let said = fs::read_to_string(host.env.path("out/said")).unwrap();
    assert_eq!(done, "tried\n", "{said}");
    assert!(
        said.contains("may do nothing here without a proof"),
        "{said}"
    );
    // Root itself finds the cookie.
    assert!(host.env.ok(&["pause", "billing"]).contains("paused"));
    let log = daemon.stop();
    assert!(!log.contains("not confined"), "{}", text(log.as_bytes()));
}

/// A program may change the modes of what belongs to its user: they do not stay so.
pub fn program_opens_no_own_file_and_signals_nobody() {
    let host = SharedHost::new();
    configure(&host.env, OPENER);
    let mut daemon = start(&host.env);
    daemon.wait_for("is the current credential key=billing");
    let done = fs::read_to_string(host.env.path("out/done")).unwrap();
    let log = daemon.stop();
    let files = [
        "ledger.db",
        "ledger.db.cookie",
        "ledger.db.lock",
        "admin-key",
    ];
    for file in files {
        assert!(done.contains(&format!("opened {file}\n")), "{done}");
        let narrowed = format!(
            "{file} was open to other users (mode 0666), and is narrowed to 0600; the program \
             /bin/sh ran just before"
        );
        assert!(log.contains(&narrowed), "{log}");
    }
    for file in ["ledger.db", "admin-key"] {
        let mode = host.env.path(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    // Older kernels do not keep a program from that.
    assert!(
        is_before(6, 12) || done.ends_with("admin-key\ntried\n"),
        "{done}"
    );
}

/// Whether the kernel is older than this version.
fn is_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

pub fn notification_program_of_another_user_is_not_run() {
    let env = TestEnv::start(&[]);
    let program = env.path("page");
    let script = format!("#!/bin/sh\ncat >{}\n", env.path("ran").display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    chown(&program, Some(OTHER), None).unwrap();
    let notify = "[[notify]]\ntype = \"command\"\non = [\"rotated\"]\nargv = [\"DIR/page\"]\n";
    env.configure(&format!("{}{notify}", file_key_text("24h")));
    let check = env.run(&["check"]);
    let expected = format!("page belongs to uid {OTHER}");
    assert!(
        text(&check.stderr).contains(&expected),
        "{}",
        text(&check.stderr)
    );
    let mut daemon = Daemon::start(&env);
    // No rotation waits for it.
    daemon.wait_for("is the current credential key=billing");
    daemon.wait_for(&expected);
    daemon.stop();
    assert!(!env.path("ran").exists());
    // The same one of root's is run.
    chown(&program, Some(0), None).unwrap();
    env.ok(&["check"]);
    env.ok(&["rotate", "billing"]);
    env.ok(&["once", "--for", "60s"]);
    assert!(env.path("ran").exists());
}

/// What the program does to files of its own user, whose modes do not show it, and to a folder
/// of the ledger that is no default one.
const SHARER: &str = "cat >/dev/null; folder=$1; \
    setfacl -m u:OTHER:r \"$folder/admin-key\" && echo shared >>\"$folder/out/done\"; \
    chgrp OTHER \"$folder/hook-key\" && echo given >>\"$folder/out/done\"; \
    chmod 0777 \"$folder/state\" && echo opened >>\"$folder/out/done\"; \
    for file in ledger.db.before-restore ledger.db.before-restore-7-wal ledger.db.0.1.0; do \
    cat \"$folder/state/$file\" >/dev/null 2>&1 && echo \"read $file\" >>\"$folder/out/done\"; \
    done; echo tried >>\"$folder/out/done\"";

/// An access control list, another group and the folder of the ledger give nobody what the
/// modes of rekeyd's files do not.
pub fn program_shares_no_own_file() {
    let has_lists = Command::new("setfacl").arg("--version").output();
    if !has_lists.is_ok_and(|output| output.status.success()) {
        report_missing("setfacl(1) of the package acl");
        return;
    }
    let host = SharedHost::new();
    let env = &host.env;
    configure(env, &SHARER.replace("OTHER", &OTHER.to_string()));
    let config = fs::read_to_string(env.config_path()).unwrap();
    let hook = "\n[[notify]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n\
                signing-secret-file = \"DIR/hook-key\"\n";
    let hook = hook.replace("DIR", &env.dir.path().display().to_string());
    let config = config.replace("/ledger.db\"", "/state/ledger.db\"");
    fs::write(env.config_path(), config + &hook).unwrap();
    write(
        &env.path("hook-key"),
        "whsec_cmVrZXlkIHNpZ25zIHdpdGggdGhpcyBzZWNyZXQ=",
    );
    for file in ["admin-key", "hook-key"] {
        fs::set_permissions(env.path(file), Permissions::from_mode(0o640)).unwrap();
    }
    // Consumers may pass through it, so that its files are hidden one by one.
    let state = env.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o711)).unwrap();
    for file in [
        "ledger.db.before-restore",
        "ledger.db.before-restore-7-wal",
        "ledger.db.0.1.0",
    ] {
        fs::write(state.join(file), "x").unwrap();
    }
    let mut daemon = start(env);
    daemon.wait_for("is the current credential key=billing");
    let done = fs::read_to_string(env.path("out/done")).unwrap();
    let log = daemon.stop();
    assert_eq!(done, "shared\ngiven\nopened\ntried\n", "{log}");
    for expected in [
        format!("admin-key was open to other users (uid {OTHER}, in its access control list)"),
        "hook-key was open to other users (mode 0640), and is narrowed to 0600".to_owned(),
        "state was open to other users (mode 0777), and is narrowed to 0711".to_owned(),
    ] {
        assert!(log.contains(&expected), "{expected}: {log}");
    }
    for file in ["admin-key", "hook-key"] {
        let path = env.path(file);
        let read = run_as(OTHER, OTHER, move || fs::read(path));
        assert!(read.is_err(), "{file}");
    }
    let mode = |name: &str| env.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("admin-key"), mode("state")), (0o640, 0o711));
}

/// A list of a file that is not rekeyd's to change is named by `check`.
pub fn check_names_who_reads_a_secret_by_its_access_control_list() {
    let host = SharedHost::new();
    let env = &host.env;
    env.configure(&file_key_text("24h"));
    fs::set_permissions(env.config_path(), Permissions::from_mode(0o644)).unwrap();
    let key = env.path("admin-key");
    let (own, other) = (format!("u:{LOOKER}:r"), format!("u:{OTHER}:r"));
    let share = |entry: &str| {
        let shared = Command::new("setfacl")
            .args(["-m", entry])
            .arg(&key)
            .status();
        shared.is_ok_and(|status| status.success())
    };
    // rekeyd's user reads root's file by its list.
    if !share(&own) {
        report_missing("setfacl(1) of the package acl");
        return;
    }
    chown(env.path(""), Some(LOOKER), None).unwrap();
    let check = || {
        let output = host.run_as(LOOKER, LOOKER, &["check", "--as-invoker"]);
        text(&output.stdout) + &text(&output.stderr)
    };
    let expected = format!("gives its secret to uid {OTHER}; hint: run `setfacl -x u:{OTHER} ");
    assert!(!check().contains("gives its secret"), "{}", check());
    assert!(share(&other));
    let printed = check().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(printed.contains(&expected), "{printed}");
}
