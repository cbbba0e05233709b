//! A user who only checks another user's rekeyd, and root, get advice that does the service
//! no harm, and leave no files that do.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::host::has_root;
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, copy_binary, file_key_text, scratch_dir, text};

/// A user who is neither root nor the owner of the ledger.
const STRANGER: u32 = 4_711;

/// Done as told, everybody who looks could read the admin key, and the service could not.
#[test]
fn group_of_an_onlooker_is_never_let_in() {
    if !has_root() {
        return;
    }
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let set_mode = |name: &str, mode: u32| {
        fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    };
    let program = world.path("rekeyd");
    copy_binary(&program);
    set_mode("", 0o755);
    set_mode("config.toml", 0o644);
    set_mode("rekeyd", 0o755);
    for mode in [0o600, 0o640, 0o604] {
        set_mode("admin-key", mode);
        for command in ["check", "audit"] {
            let output = Command::new(&program)
                .arg("--config")
                .arg(world.path("config.toml"))
                .arg(command)
                .env_clear()
                .uid(STRANGER)
                .gid(STRANGER)
                .output();
            let output = output.unwrap();
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(!output.status.success(), "{command} {mode:o}: {printed}");
            for advice in ["chgrp", "chown", "chmod 0640"] {
                assert!(!printed.contains(advice), "{command} {mode:o}: {printed}");
            }
            if command == "check" {
                assert!(
                    printed.contains("run this command as root or as rekeyd's user"),
                    "{printed}"
                );
            }
        }
    }
}

#[test]
fn copy_that_root_made_is_restored_by_the_user_of_the_ledger() {
    if !has_root() {
        return;
    }
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.keep_configuration_apart();
    let bound = UnprivilegedEnv::new(world, &[]);
    assert!(bound.run(&["once"]).status.success());
    let copy = bound.env.path("copy.db");
    let copy_text = copy.to_str().unwrap();
    let made = bound.run_as_invoker(&["backup", copy_text]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let owner = bound.env.path("ledger.db").metadata().unwrap().uid();
    let found = copy.metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (owner, 0o600));
    let restored = bound.run(&["restore", copy_text]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    // One that it cannot read is named as that.
    chown(&copy, Some(0), Some(0)).unwrap();
    let refused = text(&bound.run(&["restore", copy_text]).stderr);
    assert!(
        refused.contains("let the user who restores it read it"),
        "{refused}"
    );
}

#[test]
fn root_keeps_and_restores_copies_where_only_root_may_enter() {
    if !has_root() {
        return;
    }
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.keep_configuration_apart();
    let bound = UnprivilegedEnv::new(world, &[]);
    assert!(bound.run(&["once"]).status.success());
    let owner = bound.env.path("ledger.db").metadata().unwrap().uid();
    assert_ne!(owner, 0);
    let own = scratch_dir();
    let copy = own.path().join("copy.db");
    let copy_text = copy.to_str().unwrap();
    let made = bound.run_as_invoker(&["backup", copy_text]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let found = copy.metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
    assert_eq!(fs::read_dir(own.path()).unwrap().count(), 1);
    let refused = bound.run_as_invoker(&["backup", copy_text]);
    assert!(text(&refused.stderr).contains("already exists"));
    let restored = bound.run_as_invoker(&["restore", copy_text]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let restored = text(&restored.stdout);
    assert!(
        restored.contains(&format!("from {copy_text}")),
        "{restored}"
    );
    for entry in fs::read_dir(bound.env.path("")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("ledger.db") {
            assert_eq!(entry.metadata().unwrap().uid(), owner, "{name}");
            assert!(!name.ends_with(".received"), "{name}");
        }
    }
    fs::write(&copy, "no ledger").unwrap();
    let refused = text(&bound.run_as_invoker(&["restore", copy_text]).stderr);
    assert!(refused.contains(copy_text), "{refused}");
}

/// Members of the socket's group see everything, and can lock nothing.
#[test]
fn group_of_the_socket_looks_through_the_daemon() {
    if !has_root() {
        return;
    }
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h").replace("schedule = \"@monthly\"", "every = \"30d\""));
    let set_mode = |name: &str, mode: u32| {
        fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    };
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let config = config.replace("/ledger.db", "/state/ledger.db");
    fs::write(world.path("config.toml"), config).unwrap();
    fs::create_dir(world.path("state")).unwrap();
    let program = world.path("rekeyd");
    copy_binary(&program);
    set_mode("", 0o755);
    set_mode("state", 0o700);
    set_mode("config.toml", 0o644);
    set_mode("rekeyd", 0o755);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    chown(world.path("control.sock"), None, Some(STRANGER)).unwrap();
    let look = |arguments: &[&str]| {
        let output = Command::new(&program)
            .arg("--config")
            .arg(world.path("config.toml"))
            .args(arguments)
            .env_clear()
            .uid(STRANGER)
            .gid(STRANGER)
            .output();
        output.unwrap()
    };
    let id = world.history()[0]["credential_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (arguments, expected) in [
        (&["status"][..], "healthy"),
        (&["history"], id.as_str()),
        (&["show", "billing"], "latest rotations"),
        (&["schedule", "-n", "1"], "billing"),
    ] {
        let output = look(arguments);
        let printed = text(&output.stdout);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(printed.contains(expected), "{arguments:?}: {printed}");
    }
    // It has no admin key of its own for the provider.
    let audit = text(&look(&["audit"]).stderr);
    assert!(!audit.contains("ledger"), "{audit}");
    let file = world.path("state/ledger.db");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    daemon.stop();
    let output = look(&["history"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("run this as root"), "{message}");
}
