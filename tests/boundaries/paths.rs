//! Paths of sinks, programs and certificates that another user could lead elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::support::{TestEnv, file_key_text, read_ledger, text, write, write_ledger};
use crate::users::{LOOKER, OTHER, SharedHost};

const KEY: &str = "[key.billing]\nevery = \"30d\"\nverify-interval = \"0s\"\n";

fn make_folder(path: &Path, mode: u32, owner: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    chown(path, Some(owner), None).unwrap();
}

fn make_program(path: &Path, owner: u32) {
    fs::write(path, "#!/bin/sh\ncat >/dev/null\n").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    chown(path, Some(owner), None).unwrap();
}

/// `check` and a rotation name `part`, and the provider gets no create.
fn assert_refused(env: &TestEnv, part: &str) {
    for arguments in [&["check"][..], &["once"]] {
        let output = env.run(arguments);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {printed}");
        assert!(printed.contains(part), "{arguments:?}: {printed}");
    }
    assert_eq!(env.live_ids(), [""; 0]);
}

/// A folder on the way to a sink's file, and a list that gives each new file away.
pub fn owner_of_a_folder_gets_no_secret() {
    let env = TestEnv::start(&[]);
    env.configure(&file_key_text("24h").replace("DIR/billing.key", "DIR/theirs/ours/billing.key"));
    make_folder(&env.path("theirs"), 0o755, OTHER);
    make_folder(&env.path("theirs/ours"), 0o700, 0);
    assert_refused(&env, &format!("theirs belongs to uid {OTHER}"));
    // It is the sink's own folder, and everybody can write to it.
    let env = TestEnv::start(&[]);
    env.configure(&file_key_text("24h").replace("DIR/billing.key", "DIR/open/billing.key"));
    make_folder(&env.path("open"), 0o1777, 0);
    assert_refused(&env, "open is world-writable");
}

pub fn program_of_another_user_is_not_run() {
    let env = TestEnv::start(&[]);
    make_program(&env.path("deliver"), OTHER);
    let sink = "[[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/deliver\"]\n";
    env.configure(&format!("{KEY}{sink}"));
    assert_refused(&env, &format!("deliver belongs to uid {OTHER}"));
    let on_change = "on-change = [\"DIR/deliver\"]\n";
    env.configure(&format!("{}{on_change}", file_key_text("24h")));
    assert_refused(&env, &format!("deliver belongs to uid {OTHER}"));
    // An interpreter of somebody else's.
    make_program(&env.path("script"), 0);
    let script = format!("#!{}\n", env.path("deliver").display());
    fs::write(env.path("script"), script).unwrap();
    env.configure(&format!("{KEY}{}", sink.replace("deliver", "script")));
    assert_refused(&env, &format!("deliver belongs to uid {OTHER}"));
}

/// Makes an environment whose sink is a script with this first line, in which `DIR` is the
/// folder with the program `deliver` and the program `theirs/env` of another user.
fn configure_script(line: &str) -> TestEnv {
    let env = TestEnv::start(&[]);
    make_program(&env.path("deliver"), OTHER);
    make_folder(&env.path("theirs"), 0o755, OTHER);
    fs::copy("/usr/bin/env", env.path("theirs/env")).unwrap();
    chown(env.path("theirs/env"), Some(OTHER), None).unwrap();
    make_program(&env.path("script"), 0);
    let line = line.replace("DIR", &env.dir.path().display().to_string());
    fs::write(env.path("script"), format!("#!{line}\n")).unwrap();
    let sink = "[[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/script\"]\n";
    env.configure(&format!("{KEY}{sink}"));
    env
}

/// What runs in the end is not always what the first line of a script begins with.
pub fn program_behind_env_and_loader_of_another_user_are_not_run() {
    let deliver = format!("deliver belongs to uid {OTHER}");
    let theirs = format!("theirs belongs to uid {OTHER}");
    for (line, expected) in [
        ("/usr/bin/env DIR/deliver", deliver.as_str()),
        ("/usr/bin/env -S A=1 DIR/deliver", &deliver),
        ("/usr/bin/env -S -i -u B DIR/deliver", &deliver),
        (
            "/usr/bin/env -vS DIR/deliver",
            "rekeyd cannot say which program env runs after `-vS",
        ),
        (
            "/usr/bin/env -S PATH=DIR deliver",
            "rekeyd cannot say where env finds deliver",
        ),
        ("DIR/theirs/env cat", &theirs),
        ("DIR/deliver\0", &deliver),
    ] {
        assert_refused(&configure_script(line), expected);
    }
    // The loader, whose name is in the program.
    let env = configure_script("");
    let mut program = fs::read("/bin/cat").unwrap();
    let loader = b"/lib64/ld-linux-x86-64.so.2";
    let loader_name = env.path("theirs/ld");
    let name = loader_name.to_str().unwrap().as_bytes();
    let Some(at) = program
        .windows(loader.len())
        .position(|part| part == loader)
    else {
        return;
    };
    assert!(name.len() <= loader.len(), "{}", loader_name.display());
    program[at..at + loader.len()].fill(0);
    program[at..at + name.len()].copy_from_slice(name);
    fs::copy("/lib64/ld-linux-x86-64.so.2", &loader_name).unwrap();
    fs::write(env.path("script"), &program).unwrap();
    assert_refused(&env, &theirs);
}

pub fn certificates_of_another_user_prove_nothing() {
    let env = TestEnv::start(&[]);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(env.path("ca.pem"), certificate.cert.pem()).unwrap();
    write(
        &env.path("secret"),
        "whsec_cmVrZXlkIHNpZ25zIHdpdGggdGhpcyBzZWNyZXQ=",
    );
    chown(env.path("ca.pem"), Some(OTHER), None).unwrap();
    let sink = "[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"https://localhost:1/\"\n\
                ca-file = \"DIR/ca.pem\"\nsigning-secret-file = \"DIR/secret\"\n";
    env.configure(&format!("{KEY}{sink}"));
    assert_refused(&env, &format!("ca.pem belongs to uid {OTHER}"));
}

/// What the hints name works for the user of the ledger: the secret's file belongs to it, and
/// the sink's folder is not below one that it may not enter.
pub fn hints_fit_the_user_of_the_ledger() {
    let host = SharedHost::new();
    let env = &host.env;
    env.configure(&file_key_text("24h").replace("DIR/billing.key", "DIR/theirs/billing.key"));
    fs::set_permissions(env.config_path(), Permissions::from_mode(0o644)).unwrap();
    chown(env.path(""), Some(LOOKER), None).unwrap();
    make_folder(&env.path("theirs"), 0o700, OTHER);
    fs::remove_file(env.path("admin-key")).unwrap();
    let output = host.run_as(LOOKER, LOOKER, &["check", "--as-invoker"]);
    let printed = text(&output.stderr);
    for expected in [
        format!(
            "install -m 0600 -o {LOOKER} /dev/stdin {}",
            env.path("admin-key").display()
        ),
        format!(
            "install -d -o {LOOKER} -m 2750 {}",
            env.path("theirs-keys").display()
        ),
    ] {
        assert!(printed.contains(&expected), "{expected}: {printed}");
    }
}

/// The owner of a sink's folder occupies names that rekeyd could use beside the file.
pub fn occupied_temporary_name_stops_no_delivery() {
    let env = TestEnv::start(&[]);
    let owner = format!("owner = \"{OTHER}\"\n");
    let keys = file_key_text("24h").replace("DIR/billing.key", "DIR/theirs/billing.key");
    make_folder(&env.path("theirs"), 0o755, OTHER);
    env.configure(&format!("{keys}{owner}"));
    for name in [
        ".billing.key.rekeyd",
        ".billing.key.0123456789abcdef.rekeyd",
    ] {
        make_folder(&env.path("theirs").join(name), 0o700, OTHER);
    }
    env.ok(&["once"]);
    let file = env.path("theirs/billing.key");
    let id = &env.live_ids()[0];
    assert_eq!(fs::read_to_string(file).unwrap().trim(), env.secret_of(id));
}

fn plant(path: &Path, owner: u32) {
    fs::write(path, "planted\n").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    chown(path, Some(owner), None).unwrap();
}

/// The owner of a folder on the way puts a file of his own where the sink's file will be, so
/// that rekeyd would give him each new one.
pub fn planted_file_gets_no_secret() {
    let env = TestEnv::start(&[]);
    let keys = file_key_text("24h").replace("DIR/billing.key", "DIR/theirs/ours/billing.key");
    env.configure(&keys);
    make_folder(&env.path("theirs"), 0o755, OTHER);
    make_folder(&env.path("theirs/ours"), 0o755, OTHER);
    let file = env.path("theirs/ours/billing.key");
    plant(&file, OTHER);
    assert_refused(&env, &format!("theirs belongs to uid {OTHER}"));
    assert_refused(&env, &format!("set owner = \"{OTHER}\" in this sink"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "planted\n");
    // Who is configured gets it, and what was his once stays his.
    env.configure(&format!("{keys}owner = \"{OTHER}\"\n"));
    env.ok(&["rotate", "billing", "--replace"]);
    env.configure(&keys);
    env.ok(&["check"]);
    env.ok(&["rotate", "billing"]);
    assert_eq!(file.metadata().unwrap().uid(), OTHER);
    assert!(!fs::read_to_string(&file).unwrap().contains("planted"));
}

/// In folders of root's, a file may belong to somebody because root gave it to him. What the
/// last delivery left is recorded, and another owner is none whom root named.
pub fn owner_of_a_recorded_file_alone_gets_the_next_secret() {
    let env = TestEnv::start(&[]);
    env.configure(&file_key_text("24h").replace("DIR/billing.key", "DIR/ours/billing.key"));
    make_folder(&env.path("ours"), 0o755, 0);
    let file = env.path("ours/billing.key");
    plant(&file, OTHER);
    env.ok(&["rotate", "billing", "--replace"]);
    assert_eq!(file.metadata().unwrap().uid(), OTHER);
    let recorded = || {
        let ledger = read_ledger(&env.path("ledger.db"));
        let sql = "SELECT file_owner || ' ' || printf('%o', file_mode) FROM delivery
                   WHERE file_owner IS NOT NULL ORDER BY rotation_row DESC LIMIT 1";
        ledger.query_row(sql, [], |row| row.get::<_, String>(0))
    };
    assert_eq!(recorded().unwrap(), format!("{OTHER} 600"));
    // As a ledger of a version that recorded none.
    let forget = "UPDATE delivery SET file_owner = NULL, file_group = NULL, file_mode = NULL";
    write_ledger(&env.path("ledger.db"))
        .execute(forget, [])
        .unwrap();
    let looked = env.run(&["once"]);
    let log = text(&looked.stderr);
    assert!(log.contains("recorded owner, group and mode"), "{log}");
    assert_eq!(recorded().unwrap(), format!("{OTHER} 600"));
    chown(&file, Some(LOOKER), None).unwrap();
    let lives = env.live_ids();
    for arguments in [&["check"][..], &["rotate", "billing"]] {
        let output = env.run(arguments);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {printed}");
        let expected =
            format!("but the last delivery left it to uid {OTHER}; hint: if {LOOKER} is");
        assert!(printed.contains(&expected), "{arguments:?}: {printed}");
    }
    assert_eq!(env.live_ids(), lives);
    chown(&file, Some(OTHER), None).unwrap();
    env.ok(&["rotate", "billing"]);
}

/// A configuration in a folder that others can write was accepted once; `check` says what to
/// run.
pub fn command_of_check_ends_the_refusal_of_a_configuration() {
    for (owner, mode) in [(OTHER, 0o755), (0, 0o777), (OTHER, 0o777)] {
        let mut env = TestEnv::start(&[]);
        env.configure(&file_key_text("24h"));
        env.keep_configuration_apart();
        let file = env.config_path();
        let folder = file.parent().unwrap();
        fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        chown(folder, Some(owner), None).unwrap();
        let refused = text(&env.run(&["check"]).stderr);
        let (_, command) = refused.split_once("; run `").expect(&refused);
        let (command, _) = command.split_once('`').unwrap();
        let status = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
        env.ok(&["check"]);
    }
}
